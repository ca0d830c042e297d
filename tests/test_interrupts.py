"""Ctrl-C in the first seconds, and in code that does not ask for it."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time

import pytest
from places import ROOT

from yolojax.interrupts import CtrlC

DEAF = """
import ctypes, sys
from yolojax import main
def deaf(*_):  # a C function that holds the main thread, as a compiler does
    print("deaf", flush=True)
    ctypes.CDLL(None).usleep(20_000_000)
def swallows(*_):
    print("deaf", flush=True)
    try:
        ctypes.CDLL(None).usleep(100_000)
        import time; time.sleep(20)
    except BaseException as error:
        raise ImportError("cannot be imported") from error
main.main = {}
main.command()
"""


def test_code_that_does_not_answer_is_ended(capfd):
    ended = queue.SimpleQueue()
    with CtrlC(lambda number: 0.05, ended.put) as ctrl_c:
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            signal.raise_signal(signal.SIGINT)
            assert ended.get(timeout=5) == 130
        finally:
            signal.signal(signal.SIGINT, before)
    assert ctrl_c.pressed == 1 and capfd.readouterr().err == "\ninterrupted\n"


def test_code_that_answers_in_time_is_not(capfd):
    ended = queue.SimpleQueue()
    # Of what a shell starts in the background the signal is ignored from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), CtrlC(lambda number: 5.0, ended.put):
            signal.raise_signal(signal.SIGINT)
            time.sleep(10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.set_wakeup_fd(-1) == -1
    assert ended.empty() and capfd.readouterr().err == ""


def test_other_threads_and_other_signals_are_left_alone():
    seen = []

    def work():
        with CtrlC(end=seen.append):
            seen.append(signal.set_wakeup_fd)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(seen) == 1
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    with CtrlC(lambda number: 0.0, seen.append) as ctrl_c:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(0.05)
    signal.signal(signal.SIGUSR1, before)
    assert ctrl_c.pressed == 0 and len(seen) == 1


@pytest.mark.process
@pytest.mark.parametrize("name", ["deaf", "swallows"])
def test_the_command_ends_at_once_with_one_line(name):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLIBC_TUNABLES": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF.format(name), "--config", "yolo11n"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "deaf\n"
        time.sleep(0.05)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert time.monotonic() - started < 10 and process.returncode == 130
    assert told == "\ninterrupted\n"
