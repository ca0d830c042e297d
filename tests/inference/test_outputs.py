"""Files of a prediction: all of them, in order, none over another."""

import dataclasses
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import frames_of
from results import HW, result_of

from yolojax.inference.outputs import OutputOptions, Outputs
from yolojax.inference.sources.frames import Frame

EVERYTHING = OutputOptions(txt=True, conf=True, crop=True, frames=True, trail=5)
PICTURE = np.full((*HW, 3), 90, np.uint8)


def frame_of(below="a", item=0, number=None, **values):
    """Returns a picture, or a frame of a video."""
    ending = ".jpg" if number is None else ".mp4"
    return Frame(PICTURE, item, f"{below}{ending}", below, number, **values)


def written(folder):
    """Returns the files of a folder, sorted."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )


def rows(path):
    return path.read_text().splitlines()


def lines(folder):
    return [json.loads(line) for line in rows(folder / "predictions.jsonl")]


def put(outputs, frames, task="detect", **changed):
    for frame in frames:
        outputs.add(frame, result_of(task, path=frame.path, img=PICTURE, **changed))


def test_a_picture_leaves_what_is_asked_for(tmp_path):
    with Outputs(tmp_path, OutputOptions()) as outputs:
        put(outputs, [frame_of("a"), frame_of("sub/b", lossless=True)])
    assert written(tmp_path) == ["a.jpg", "predictions.jsonl", "sub/b.png"]
    with Outputs(tmp_path, OutputOptions(save=False)) as outputs:
        put(outputs, [frame_of("c")])
    assert "c.jpg" not in written(tmp_path)
    assert outputs.labels == 0
    folder = tmp_path / "all"
    folder.mkdir()
    with Outputs(folder, EVERYTHING) as outputs:
        put(outputs, [frame_of("a")])
    assert written(folder) == [
        "a.jpg",
        "crops/dog/a.jpg",
        "crops/person/a-2.jpg",
        "crops/person/a.jpg",
        "labels/a.txt",
        "predictions.jsonl",
    ]
    assert outputs.labels == 1
    assert [len(row.split()) for row in rows(folder / "labels/a.txt")] == [6] * 3
    assert outputs.seconds > 0


def test_what_is_drawn_is_in_the_picture(tmp_path):
    with Outputs(tmp_path, OutputOptions()) as outputs:
        put(outputs, [frame_of("a", lossless=True)])
        outputs.add(frame_of("b", lossless=True), result_of("detect", 0, img=PICTURE))
    drawn, plain = (cv2.imread(str(tmp_path / f"{name}.png")) for name in "ab")
    assert drawn.shape == plain.shape == PICTURE.shape
    assert (drawn != PICTURE).any()
    np.testing.assert_array_equal(plain, PICTURE)


def test_results_without_objects_have_a_line_but_no_label_file(tmp_path):
    with Outputs(tmp_path, EVERYTHING) as outputs:
        outputs.add(frame_of("a"), result_of("detect", 0, img=PICTURE))
    assert written(tmp_path) == ["a.jpg", "predictions.jsonl"]
    assert len(lines(tmp_path)) == 1


def test_the_manifest_keeps_the_order_of_the_results(tmp_path):
    frames = [frame_of(f"{number:03}", item=number) for number in range(60)]
    with Outputs(tmp_path, OutputOptions()) as outputs:
        put(outputs, frames)
    assert [line["path"] for line in lines(tmp_path)] == [f.path for f in frames]
    assert len(written(tmp_path)) == 61


def test_equal_names_get_numbers(tmp_path):
    names = ["a", "a", "A", "a-2", "sub/a"]
    with Outputs(tmp_path, OutputOptions(txt=True)) as outputs:
        put(outputs, [frame_of(name, item=i) for i, name in enumerate(names)])
    # "A" and "a" are one file where letters are not told apart.
    assert written(tmp_path) == sorted(
        [f"{name}.jpg" for name in ("a", "a-2", "A-3", "a-2-2", "sub/a")]
        + [f"labels/{name}.txt" for name in ("a", "a-2", "A-3", "a-2-2", "sub/a")]
        + ["predictions.jsonl"]
    )


@pytest.mark.parametrize("film_first", [True, False])
def test_frames_and_a_picture_called_like_one_keep_apart(tmp_path, film_first):
    frames = [frame_of("film", 0, number, fps=5.0) for number in (1, 2)]
    frames.insert(len(frames) if film_first else 0, frame_of("film_1", 1))
    with Outputs(tmp_path, OutputOptions(txt=True, save=False)) as outputs:
        put(outputs, frames)
    assert len(written(tmp_path)) == 4
    assert outputs.labels == 3


def test_a_video_has_its_frames_in_order(tmp_path):
    with Outputs(tmp_path, OutputOptions(frames=True)) as outputs:
        for number in range(1, 13):
            picture = np.full((*HW, 3), 20 * number, np.uint8)
            frame = Frame(picture, 0, "f.mp4", "f", number, fps=10.0)
            result = result_of("detect", 0, img=picture)
            outputs.add(frame, dataclasses.replace(result, frame=number))
        put(outputs, [frame_of("g", 1, number, fps=10.0) for number in (1, 2, 3)])
    greys = [
        round(float(picture.mean()) / 20) for picture in frames_of(tmp_path / "f.mp4")
    ]
    assert greys == list(range(1, 13))
    assert len(frames_of(tmp_path / "g.mp4")) == 3
    names = [path.name for path in (tmp_path / "f_frames").iterdir()]
    assert sorted(names) == sorted(f"f_{number}.jpg" for number in range(1, 13))
    assert len(lines(tmp_path)) == 15
    assert [line["frame"] for line in lines(tmp_path)[:12]] == list(range(1, 13))


def test_tracks_leave_a_file_of_the_usual_form(tmp_path):
    ids = np.array([4, 7, 9])
    frames = [frame_of("f", 0, number, fps=10.0) for number in (1, 2)]
    with Outputs(tmp_path, OutputOptions(trail=3, txt=True)) as outputs:
        put(outputs, frames, ids=ids)
    tracks = [row.split(",") for row in rows(tmp_path / "tracks/f.txt")]
    assert [(int(row[0]), int(row[1])) for row in tracks] == [
        (frame, identity) for frame in (1, 2) for identity in (4, 7, 9)
    ]
    assert [int(row.split()[-1]) for row in rows(tmp_path / "labels/f_2.txt")] == [
        4,
        7,
        9,
    ]


def test_an_error_completes_the_video_and_loses_no_thread(tmp_path):
    with pytest.raises(KeyboardInterrupt), Outputs(tmp_path, EVERYTHING) as outputs:
        for number in range(1, 60):
            put(outputs, [frame_of("f", 0, number, fps=5.0)])
            if number == 50:
                started = time.monotonic()
                raise KeyboardInterrupt
    assert time.monotonic() - started < 1
    count = len(frames_of(tmp_path / "f.mp4"))
    # What was waiting is not drawn any more: at most the things that may wait.
    assert 30 < count <= 50
    assert abs(len(lines(tmp_path)) - count) <= 1


def test_an_error_while_an_earlier_video_ends_completes_both(tmp_path):
    with pytest.raises(RuntimeError), Outputs(tmp_path, OutputOptions()) as outputs:
        put(outputs, [frame_of("f", 0, number, fps=5.0) for number in range(1, 30)])
        put(outputs, [frame_of("g", 1, number, fps=5.0) for number in range(1, 4)])
        raise RuntimeError
    assert len(frames_of(tmp_path / "f.mp4")) > 10


def test_what_cannot_be_written_is_raised(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(OSError, match="a.jpg"):
        with Outputs(tmp_path, OutputOptions()) as outputs:
            put(outputs, [frame_of("a")] * 30)
    (tmp_path / "sub").write_text("a file")
    with pytest.raises(OSError, match="sub"):
        with Outputs(tmp_path, OutputOptions()) as outputs:
            put(outputs, [frame_of("sub/a")])


def test_features_are_lines_of_numbers(tmp_path):
    with Outputs(tmp_path, OutputOptions()) as outputs:
        outputs.add_features(frame_of("a"), np.array([0.5, 0.25], np.float32))
        outputs.add_features(frame_of("f", 1, 7), np.array([1.5], np.float32))
    assert written(tmp_path) == ["predictions.jsonl"]
    assert lines(tmp_path) == [
        {"path": "a.jpg", "frame": None, "embedding": [0.5, 0.25]},
        {"path": "f.mp4", "frame": 7, "embedding": [1.5]},
    ]


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_other_tasks_leave_their_files(tmp_path, task):
    with Outputs(tmp_path, EVERYTHING) as outputs:
        put(outputs, [frame_of("a")], task)
    crops = Path(tmp_path, "crops")
    assert crops.exists() == (task != "classify")
    assert {"a.jpg", "labels/a.txt", "predictions.jsonl"} <= {*written(tmp_path)}


def test_streams_in_turn_have_a_video_each(tmp_path):
    frames = [
        frame_of(f"camera{item}", item, number, fps=5.0, live=True)
        for number in range(1, 6)
        for item in (0, 1)
    ]
    with Outputs(tmp_path, OutputOptions()) as outputs:
        put(outputs, frames)
    for item in (0, 1):
        assert len(frames_of(tmp_path / f"camera{item}.mp4")) == 5
