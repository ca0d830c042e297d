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


# Steps, with a validation of three batches after every second one.
MOMENTS = [
    (step, batch)
    for step in range(1, 60)
    for batch in ((0, 1, 2, 3, 0) if step % 2 == 0 else (0,))
]


def moments_of(pair, wants, at):
    """Returns where each stops, as they go on in step with each other."""
    barrier, stops = threading.Barrier(2), [0, 0]

    def go(index):
        for number, moment in enumerate(MOMENTS):
            barrier.wait(10)  # as the sums of a step make them wait
            if pair[index].at(moment, wants == index and number >= at):
                stops[index] = number
                return
            time.sleep(0.002)

    threads = [threading.Thread(target=go, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return stops


@pytest.mark.parametrize("wants", [0, 1])
@pytest.mark.parametrize("at", [4, 7])  # in a validation, before one
def test_both_stop_at_the_same_moment(pair, wants, at):
    one, other = moments_of(pair, wants, at)
    assert one == other
    assert at + AHEAD <= one < 60
    assert pair[0].agreed
    assert pair[1].agreed


def test_nobody_stops_unasked(pair):
    assert not any(stopping.at((k, 0), False) for k in range(9) for stopping in pair)
    assert not pair[0].agreed


def test_each_reason_is_agreed_upon_by_itself(pair):
    late = [
        Stopping(stopping._watch, index, 2, "time")
        for index, stopping in enumerate(pair)
    ]
    one, other = moments_of(late, 0, 4)
    assert one == other > 4
    assert late[1].agreed
    assert not any(stopping.agreed for stopping in pair)
