"""Requests to stop, in the main thread and in others."""

import os
import signal
import threading

import pytest

from yolojax.errors import Interrupted
from yolojax.training.stop import StopRequest


def test_a_signal_becomes_a_request_and_the_handler_comes_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(Interrupted, match=str(tmp_path)) as error:
            stop.leave(tmp_path)
        assert error.value.status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_than_the_main_one_does_without_signals():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with StopRequest() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
