"""Requests to stop, in the main thread and in others."""

import os
import queue
import signal
import threading
import time

import pytest

from yolojax.errors import Interrupted
from yolojax.training.stop import StopRequest


def test_a_signal_becomes_a_request_and_the_handler_comes_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        stop.begun = True
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(Interrupted, match=str(tmp_path)) as error:
            stop.leave(tmp_path)
        assert error.value.status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_of_several_processes_ends_as_the_others_do(tmp_path):
    with StopRequest(alone=False) as stop:
        stop.begun = True
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="everything is saved") as error:
            stop.leave(tmp_path)
    assert error.value.status == 0


def test_another_thread_than_the_main_one_does_without_signals():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with StopRequest() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_a_request_ends_the_run_at_once(number):
    with pytest.raises(Interrupted, match="nothing is lost") as error:  # noqa: SIM117
        with StopRequest():
            signal.raise_signal(number)
            time.sleep(10)
    assert error.value.status == 128 + number


def test_a_second_ctrl_c_ends_the_program_at_once_with_one_line(capfd):
    ended = queue.SimpleQueue()
    with StopRequest(ended.put) as stop:
        stop.begun = True
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        time.sleep(0.1)
        assert ended.empty() and "Ctrl-C again does not" in capfd.readouterr().err
        signal.raise_signal(signal.SIGINT)  # raises nothing in the code that saves
        assert ended.get(timeout=5) == 130
    assert (
        capfd.readouterr().err == "\nstopped at once; what was saved before is whole\n"
    )
