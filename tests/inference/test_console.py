"""What the console says: a line per picture, and what came of all of them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from results import result_of

from yolojax.inference.backends.types import Times
from yolojax.inference.console import Console
from yolojax.inference.predictor import Seen
from yolojax.inference.results import gathered
from yolojax.inference.sources.frames import Frame, Skipped
from yolojax.inference.sources.listing import Item

SPEED = {"read": 1.0, "preprocess": 1.0, "inference": 31.23, "postprocess": 0.5}
PICTURE = np.zeros((120, 160, 3), np.uint8)


class Clock:
    """Goes on when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def items(*kinds):
    return [Item(kind, f"{i}", f"{i}") for i, kind in enumerate(kinds)]


def seen_of(path="a.jpg", item=0, number=None, **values):
    frame = Frame(PICTURE, item, path, "a", number, **values)
    return Seen(frame, None, None, (480, 640), SPEED)


@pytest.fixture
def clock():
    return Clock()


def console_of(clock, *kinds, known=True):
    return Console(io.StringIO(), items(*kinds) if known else None, clock)


def said(console):
    return console.stream.getvalue().splitlines()


def test_a_picture_is_a_line(clock):
    console = console_of(clock, "image", "image")
    console.show(seen_of("photos/a b.jpg"), result_of("detect"))
    console.show(seen_of("ü.jpg", 1), result_of("detect", 0))
    assert said(console) == [
        "image 1/2 photos/a b.jpg: 480x640 2 persons, 1 dog, 31.2ms",
        "image 2/2 ü.jpg: 480x640 (no detections), 31.2ms",
    ]
    assert (console.pictures, console.objects) == (2, 3)


def test_where_nobody_knows_how_many_there_are_no_total_is_told(clock):
    console = console_of(clock, known=False)
    console.show(seen_of(), result_of("classify"))
    assert said(console)[0].startswith("image 1 a.jpg: 480x640 dog 0.70, person 0.20")
    assert console.objects == 0
    console.show(seen_of(item=1), None)
    assert said(console)[1] == "image 2 a.jpg: 480x640 features, 31.2ms"


def test_a_video_is_one_line_at_its_end(clock):
    console = console_of(clock, "video", "image")
    for number in range(1, 31):
        clock.now += 0.1
        console.show(seen_of("v.mp4", 0, number), result_of("detect"))
    assert said(console) == []
    console.show(seen_of("a.jpg", 1), result_of("detect", 1))
    first, second = said(console)
    assert first == "video 1/2 v.mp4: 30 frames, 480x640, 90 objects, 10.0 frames/s"
    assert second.startswith("image 2/2 a.jpg")


def test_a_file_gets_a_line_every_half_minute_at_most(clock, monkeypatch):
    console = console_of(clock, "video")
    monkeypatch.setattr(console._progress, "_clock", clock)
    for number in range(1, 3001):
        clock.now += 0.1
        console.show(seen_of("v.mp4", 0, number), result_of("detect"))
    assert 8 <= len(said(console)) <= 10  # 300 s
    assert said(console)[0].startswith("video 1/1 frame 30")


def test_the_end_tells_times_files_and_what_was_not_read(clock):
    console = console_of(clock, "image", "image", "missing")
    console.show(seen_of("a.jpg"), result_of("detect"))
    console.show(seen_of("b.jpg", 1), result_of("detect"))
    console.told(Skipped("c.jpg", "there is no such file."))
    clock.now += 3
    times = Times(0.02, 0.004, 0.1, 0.002, compile=1.0, pictures=2)
    times.shapes[(480, 640)] = 2
    console.end(times, Path("runs/predict"), 0.05, 2)
    assert said(console)[2:] == [
        "ms per picture: 10.0 read, 2.0 preprocess, 50.0 network, 1.0 postprocess,"
        " 25.0 draw+write (they overlap)",
        "wall time: 1000.0 ms per picture (1.0 per second), at 480x640",
        "compiling or loading 1 program: 1.0 s, not counted above",
        "warning: 1 source could not be read, or not as a whole:",
        "  c.jpg: there is no such file.",
        "2 pictures, 6 objects: results saved to runs/predict",
        "2 label files in runs/predict/labels",
    ]


def test_many_problems_are_cut_short(clock):
    console = console_of(clock)
    for number in range(50):
        console.told(Skipped(f"{number}.jpg", "it is empty"))
    console.end(Times(), Path("out"), 0.0, 0)
    assert len(said(console)) == 1 + 20 + 1 + 1
    assert "  and 30 more" in said(console)
    assert said(console)[-1] == "no pictures, 0 objects: results saved to out"


def test_streams_in_turn_are_told_when_they_end(clock):
    console = console_of(clock, "stream", "stream")
    for number in (1, 2, 3):
        for item in (0, 1):
            clock.now += 0.5
            seen = seen_of(f"rtsp://{item}", item, number, live=True)
            console.show(seen, result_of("detect", 1))
    assert said(console) == []
    console.end(Times(), Path("out"), 0.0, 0)
    assert said(console)[:2] == [
        "video 1/2 rtsp://0: 3 frames, 480x640, 3 objects, 1.0 frames/s",
        "video 2/2 rtsp://1: 3 frames, 480x640, 3 objects, 1.0 frames/s",
    ]


def test_several_processes_tell_as_one():
    listed = items("image", "missing", "image", "missing")
    parts = []
    for numbers in ((0, 3), (1, 2), ()):
        console = Console(io.StringIO(), listed, here=len(numbers))
        for number in numbers:
            if number % 2:
                console.told(Skipped(f"{number}", "why"))
            else:
                seen = seen_of(item=number)
                console.show(seen, result_of("detect", count=number + 1))
        parts.append(json.loads(json.dumps(console.told_so_far())))
    times = [Times(pictures=1, read=0.5, shapes={(480, 640): 1}) for _ in range(2)]
    told = [json.loads(json.dumps(gathered.told(one))) for one in times]
    console.join(parts)
    console.end(gathered.sum_of(told), Path("there"), 0.0, 2)
    text = console.stream.getvalue()
    assert "2 pictures, 4 objects: results saved to there" in text
    assert "warning: 2 sources could not be read, or not as a whole:" in text
    assert text.index("  1: why") < text.index("  3: why")
    assert "ms per picture: 500.0 read" in text
    assert "at 480x640" in text
