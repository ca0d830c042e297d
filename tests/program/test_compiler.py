"""Compiler are compiled once each, in the background or when they are needed."""

import signal
import threading
import time

import pytest

from yolojax.program.compiler import Compiler, compiling


class Maker:
    """Counts what it makes, and waits until it may."""

    def __init__(self):
        self.made, self.threads = [], set()
        self.go = threading.Event()

    def __call__(self, key):
        def make():
            self.threads.add(threading.current_thread().name)
            assert self.go.wait(10)
            self.made.append(key)
            return key

        return make


def test_each_program_is_made_once_in_the_order_given():
    maker = Maker()
    maker.go.set()
    with Compiler() as compiler:
        for key in (3, 1, 3, 2):
            compiler.prepare(key, maker(key), "a program")
        compiler.wait()
        assert maker.made == [3, 1, 2] and len(compiler) == 3
        assert [compiler.get(key, maker(key)) for key in (1, 2, 3)] == [1, 2, 3]
    told = compiler.news()
    assert told == ["compiled a program beside the run, in 0 s"] * 3
    assert not compiler.news()
    assert maker.made == [3, 1, 2]
    assert threading.current_thread().name not in maker.threads


def test_what_is_needed_first_does_not_wait_in_the_queue():
    slow, quick = Maker(), Maker()
    quick.go.set()
    with Compiler() as compiler:
        compiler.prepare("slow", slow("slow"), "a program")
        compiler.prepare("next", quick("next"), "a program")
        assert compiler.get("next", quick("next")) == "next"  # while "slow" is made
        assert not slow.made and quick.made == ["next"]
        slow.go.set()
        assert compiler.get("slow", slow("slow")) == "slow"
        compiler.wait()
    assert slow.made == ["slow"] and quick.made == ["next"]


def test_what_is_needed_first_is_traced_before_what_is_queued():
    first, queued = Maker(), Maker()
    queued.go.set()
    traced, compiled = threading.Event(), threading.Event()

    def make():
        assert traced.wait(10)
        compiler.traced()
        assert compiled.wait(10)
        return first.made.append("first")

    with Compiler() as compiler:
        compiler.begin("first", make)
        compiler.prepare("queued", queued("queued"), "a program")
        time.sleep(0.02)
        assert not queued.made  # Python traces the first one
        traced.set()
        compiler.wait()
        assert queued.made == ["queued"] and not first.made  # which is compiled still
        compiled.set()
        compiler.get("first", None)  # begun already
        assert first.made == ["first"]


def test_what_could_not_be_traced_keeps_nothing_waiting():
    queued = Maker()
    queued.go.set()
    with Compiler() as compiler:
        compiler.begin("first", lambda: 1 / 0)
        compiler.prepare("queued", queued("queued"), "a program")
        compiler.wait()
        assert queued.made == ["queued"]
        with pytest.raises(ZeroDivisionError):
            compiler.get("first", None)


def test_what_was_never_queued_is_made_at_once():
    maker = Maker()
    maker.go.set()
    with Compiler() as compiler:
        assert compiler.get("a", maker("a")) == compiler.get("a", maker("a")) == "a"
    assert maker.made == ["a"]


def test_ctrl_c_waits_for_no_compiler_and_an_error_does():
    slow = Maker()
    with pytest.raises(KeyboardInterrupt), Compiler() as compiler:
        compiler.prepare("slow", slow("slow"), "a program")
        compiler.prepare("next", slow("next"), "a program")
        while not slow.threads:  # it is begun
            time.sleep(0.001)
        raise KeyboardInterrupt
    assert not slow.made and compiling()
    slow.go.set()
    until = time.monotonic() + 10
    while compiling() and time.monotonic() < until:
        time.sleep(0.01)
    assert slow.made == ["slow"]  # what was queued behind it is forgotten
    quick = Maker()
    quick.go.set()
    with pytest.raises(ValueError), Compiler() as compiler:
        compiler.prepare("a", quick("a"), "a program")
        compiler.wait()
        raise ValueError
    assert not compiling()


def test_who_waits_for_a_compiler_can_be_interrupted():
    slow = Maker()

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), Compiler() as compiler:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            compiler.get("slow", slow("slow"))
        assert not slow.made
    finally:
        signal.signal(signal.SIGALRM, before)
        slow.go.set()


def test_a_failure_reaches_the_caller():
    def fails():
        raise ValueError("no such program")

    with Compiler() as compiler:
        compiler.prepare("a", fails, "a program")
        with pytest.raises(ValueError, match="no such program"):
            compiler.get("a", fails)


def test_nothing_waits_for_what_may_never_be_needed():
    slow, quick = Maker(), Maker()
    quick.go.set()
    with Compiler() as compiler:
        compiler.prepare("a", quick("a"), "a program")
        compiler.prepare("b", slow("b"), "a program", needed=False)
        compiler.wait()
        assert quick.made == ["a"] and not slow.made
        slow.go.set()
        assert compiler.get("b", slow("b")) == "b"
