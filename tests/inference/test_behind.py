"""Figures that are computed in a thread behind what finds."""

import threading

import numpy as np
import pytest

from yolojax.inference.behind import computed_behind

HOST = {"image": np.ones((2, 8, 8, 3), np.uint8), "valid": np.ones((2, 3), bool)}


def stream(count, then=None):
    for number in range(count):
        yield HOST, np.full(1000, number, np.uint8)
    if then is not None:
        raise then


def test_everything_is_computed_in_its_order_elsewhere():
    def compute(found):
        numbers = [int(values[0]) for _, values in found]
        return numbers, threading.current_thread()

    numbers, thread = computed_behind(stream(20), compute).result()
    assert numbers == list(range(20))
    assert thread is not threading.current_thread()


def test_the_stream_is_done_before_the_figures():
    asked = threading.Event()
    future = computed_behind(stream(3), lambda found: asked.wait() and len(list(found)))
    assert not future.done()
    asked.set()
    assert future.result() == 3


@pytest.mark.parametrize("keep", [0, 2])
def test_pictures_that_nobody_keeps_take_no_memory(keep):
    hosts = computed_behind(stream(4), list, keep=keep).result()
    images = [host["image"] for host, _ in hosts]
    assert [image.shape for image in images] == [HOST["image"].shape] * 4
    assert [image is HOST["image"] for image in images] == [
        number < keep for number in range(4)
    ]
    assert all(image.strides == (0, 0, 0, 0) for image in images[keep:])


def test_no_more_waits_than_there_is_room_for():
    waiting, most = [0], []

    def watched():
        for found in stream(30):
            waiting[0] += 1
            most.append(waiting[0])
            yield found

    def compute(found):
        for _ in found:
            waiting[0] -= 1

    computed_behind(watched(), compute, most=3 * 1006).result()
    assert len(most) == 30
    # Those that wait, one in the hand of each side, one just counted.
    assert max(most) <= 6
    # One that is larger than the room passes, too.
    assert len(computed_behind(stream(5), list, most=1).result()) == 5


def test_an_error_of_the_computation_comes_with_its_result():
    def compute(found):
        next(iter(found))
        raise ValueError("odd labels")

    # Nor does the stream wait for room that nobody makes.
    future = computed_behind(stream(50), compute, most=2000)
    with pytest.raises(ValueError, match="odd labels"):
        future.result()


def test_an_error_of_the_stream_is_raised_and_ends_the_thread():
    before, seen = threading.active_count(), []

    def compute(found):
        seen.append(threading.current_thread())
        return len(list(found))

    with pytest.raises(KeyError, match="device"):
        computed_behind(stream(2, KeyError("device")), compute)
    seen[0].join(timeout=5)
    assert threading.active_count() == before
