"""Processes that are asked to stop after the same step."""

import contextlib
import socket
import threading
import time

import pytest

from yolojax.devices import meeting
from yolojax.devices.stopping import AHEAD, Stopping


@pytest.fixture
def pair():
    """Two processes, as threads of this one."""
    sockets = socket.socketpair()
    peers = [meeting.Peer(i, 2, "host", i, {}) for i in range(2)]
    watches = [
        meeting.Watch(
            meeting.Seat("127.0.0.1", 1, 2, index),
            peers,
            {1 - index: meeting.Line(sockets[index])},
            lambda *words: None,
        )
        for index in range(2)
    ]
    yield [Stopping(watch, index, 2) for index, watch in enumerate(watches)]
    for watch in watches:
        watch.part()
    with contextlib.ExitStack() as stack:
        for one in sockets:
            stack.enter_context(one)


def steps_of(pair, wants, at):
    """Returns after which step each stops, as they go on in step with each other."""
    barrier, stops = threading.Barrier(2), [0, 0]

    def go(index):
        for step in range(1, 100):
            barrier.wait(10)  # as the sums of a step make them wait
            if pair[index].at(step, wants == index and step >= at):
                stops[index] = step
                return
            time.sleep(0.002)

    threads = [threading.Thread(target=go, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return stops


@pytest.mark.parametrize("wants", [0, 1])
def test_both_stop_after_the_same_step(pair, wants):
    one, other = steps_of(pair, wants, at=5)
    assert one == other
    assert 5 + AHEAD <= one < 99
    assert pair[0].agreed
    assert pair[1].agreed


def test_nobody_stops_unasked(pair):
    assert not any(stopping.at(step, False) for step in range(9) for stopping in pair)
    assert not pair[0].agreed
