"""Sources become pictures, one after the other; what cannot be read stops nothing."""

import os
import tracemalloc

import cv2
import numpy as np
import pytest
from films import Capture, grey_of, number_of, write_film
from loopback import Answer, encoded
from PIL import Image

from yolojax.inference.sources import (
    Item,
    Reading,
    Skipped,
    UnreadableError,
    jobs,
    listed,
    video,
)

PICTURE = np.full((4, 6, 3), (10, 90, 200), np.uint8)


def read(source, **options):
    """Returns the frames of a source, and what was skipped as (path, why)."""
    frames, skipped = [], []
    for job in jobs(listed(source), Reading(**options), skipped.append):
        try:
            frames.append(job())
        except UnreadableError as error:
            skipped.append(error.skipped)
    assert all(isinstance(one, Skipped) for one in skipped)
    return frames, [(one.path, one.why) for one in skipped]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(PICTURE, ".png"))
    return path


def test_a_picture_is_the_same_from_everywhere(photo, serve):
    url = serve(Answer(photo.read_bytes(), "image/png")) + "photo.png"
    sources = [photo, PICTURE, Image.open(photo), url]
    frames, skipped = read(sources)
    assert skipped == []
    assert [frame.item for frame in frames] == [0, 1, 2, 3]
    assert [frame.below for frame in frames] == ["photo", "image1", "image2", "photo"]
    assert [frame.rgb for frame in frames] == [False, False, True, False]
    assert [frame.lossless for frame in frames] == [True, False, False, True]
    for frame in frames:
        np.testing.assert_array_equal(frame.picture, PICTURE)
        assert frame.picture.dtype == np.uint8 and frame.read_seconds > 0
        assert frame.number is frame.seconds is frame.fps is None
    frames, _ = read(PICTURE[..., ::-1], order="rgb")
    np.testing.assert_array_equal(frames[0].picture, PICTURE)
    assert frames[0].rgb


def test_files_are_upright_as_pil_pictures_are(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    path = tmp_path / "turned.jpg"
    ramp = np.linspace(0, 255, 16 * 24).reshape(16, 24).astype(np.uint8)
    Image.fromarray(ramp).convert("RGB").save(path, exif=exif, quality=100)
    frames, _ = read([path, Image.open(path)])
    assert [frame.picture.shape for frame in frames] == [(24, 16, 3)] * 2
    np.testing.assert_array_equal(frames[0].picture, frames[1].picture)


@pytest.mark.parametrize("size", [(1, 1), (2, 20_000), (20_000, 1)])
def test_odd_sizes_are_read(tmp_path, size):
    path = tmp_path / "odd.png"
    cv2.imwrite(str(path), np.full((*size, 3), 7, np.uint8))
    (frame,), skipped = read(path)
    assert frame.picture.shape == (*size, 3) and skipped == []


def test_what_cannot_be_read_is_listed_and_stops_nothing(tmp_path, photo, serve):
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(300))
    missing = serve(Answer(b"", status=404))
    sources = [
        *(tmp_path, tmp_path / "no.jpg", np.zeros((1, 2, 2, 3), np.uint8)),
        *(f"{missing}a.png", f"{missing}a", 99, PICTURE),
    ]
    frames, skipped = read(sources)
    assert [frame.path for frame in frames] == [str(photo), "image6"]
    assert [
        (os.path.basename(path), why.partition(".")[0]) for path, why in skipped
    ] == [
        ("cut.mp4", "cannot be opened as a video: it is damaged, or no video"),
        ("text.png", "not a readable picture (5 bytes)"),
        ("zero.jpg", "not a readable picture (0 bytes)"),
        ("zero.mp4", "the file is empty"),
        ("no.jpg", f"there is no such file or folder (looked for {tmp_path}/no"),
        ("image2", "an array of shape (1, 2, 2, 3) is no picture"),
        ("a.png", "the server answers 404 Not Found"),
        ("a", "the server answers 404 Not Found"),
        ("99", "cannot be opened as a stream or a camera"),
    ]


def test_a_picture_that_vanished_is_told(photo):
    (job,) = jobs(listed(photo), Reading(), pytest.fail)
    photo.unlink()
    with pytest.raises(UnreadableError, match=f"{photo}: is gone, or must not be read"):
        job()


def test_videos_keep_their_frames_in_order(tmp_path, photo):
    films = [
        write_film(tmp_path / f"{name}.mp4", n) for name, n in (("a", 7), ("b", 2))
    ]
    frames, skipped = read([films[0], photo, films[1]], vid_stride=2)
    assert skipped == []
    first, last = frames[:3], frames[-1]
    assert [number_of(frame.picture) for frame in first] == [1, 3, 5]
    assert [frame.number for frame in first] == [1, 2, 3]
    assert [frame.seconds for frame in first] == pytest.approx([0.08, 0.24, 0.40])
    assert {frame.fps for frame in first} == {6.25}
    assert {frame.announced for frame in first} == {3}
    assert [frame.item for frame in frames] == [0, 0, 0, 1, 2]
    assert (last.number, last.announced, last.below) == (1, 1, "b")


def test_a_video_that_is_cut_off_gives_what_it_has_and_is_told(tmp_path):
    path = write_film(tmp_path / "film.avi", 12, hw=(240, 320))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames, skipped = read(path)
    assert 0 < len(frames) < 12
    assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))
    ((name, why),) = skipped
    assert name == str(path)
    assert f"ended after {len(frames)} of the 12 frames that it announces" in why


@pytest.mark.parametrize(
    ("frames", "announced", "told"),
    [
        (20, 10, None),  # more than it says
        (19, 20, None),
        (10, 20, "ended after 10 of the 20 frames"),
        (10, 0, None),
        (0, 20, "not a single frame"),
    ],
)
def test_what_a_container_says_of_its_length_is_not_believed(
    tmp_path, monkeypatch, frames, announced, told
):
    (tmp_path / "film.mp4").write_bytes(b"1")
    capture = Capture(frames, announced=announced)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda *options: capture)
    found, skipped = read(tmp_path / "film.mp4")
    assert len(found) == frames and capture.released
    assert len(skipped) == (told is not None)
    assert told is None or told in skipped[0][1]


def test_memory_does_not_grow_with_the_frames(tmp_path, monkeypatch):
    (tmp_path / "film.mp4").write_bytes(b"1")
    shown = np.zeros((200, 200, 3), np.uint8)
    capture = Capture(2000)
    capture.retrieve = lambda: (True, shown + 1)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda *options: capture)
    tracemalloc.start()
    count = sum(
        job().number > 0
        for job in jobs(listed(tmp_path / "film.mp4"), Reading(), pytest.fail)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 10 * shown.nbytes


def test_nothing_is_read_before_it_is_asked_for():
    def items():
        yield Item("array", "image0", "image0", PICTURE)
        raise AssertionError("read ahead")

    assert next(jobs(items(), Reading(), pytest.fail))().item == 0


def test_leaving_early_closes_the_video(tmp_path, monkeypatch):
    (tmp_path / "film.mp4").write_bytes(b"1")
    capture = Capture(9, announced=9)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda *options: capture)
    found = jobs(listed(tmp_path / "film.mp4"), Reading(), pytest.fail)
    next(found)
    found.close()
    assert capture.released


def test_a_video_at_an_address_is_read_from_there(tmp_path, serve):
    film = write_film(tmp_path / "film.avi", 5)
    url = serve(Answer(film.read_bytes(), "video/x-msvideo")) + "get?id=3"
    frames, skipped = read(url)
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[0].path == url and frames[0].below == "get"
    assert skipped == []


def test_a_stream_at_an_address_is_read_by_the_way(serve, photo, monkeypatch):
    monkeypatch.setattr(video, "_LOST", 0)
    parts = tuple(encoded(grey_of(i), ".jpg") for i in range(6))
    kind = "multipart/x-mixed-replace; boundary=part"
    url = serve(Answer(b"", kind, parts=parts)) + "camera"
    frames, skipped = read([url, photo], stream_buffer=True)
    assert [frame.item for frame in frames] == [1, *[0] * 6]  # live ones come last
    assert [number_of(frame.picture) for frame in frames[1:]] == [0, 1, 2, 3, 4, 5]
    assert [frame.number for frame in frames[1:]] == [1, 2, 3, 4, 5, 6]
    assert [frame.live for frame in frames] == [False, *[True] * 6]
    times = [frame.seconds for frame in frames[1:]]
    assert times == sorted(times) and times[0] >= 0
    assert [path for path, _ in skipped] == [url]
    assert "ended after 6 frames" in skipped[0][1]


def test_live_sources_are_read_in_turn_and_what_is_dropped_is_told(monkeypatch):
    captures = {0: Capture(40), 1: Capture(40), 2: Capture(None)}
    monkeypatch.setattr(video, "_LOST", 0)
    monkeypatch.setattr(video, "_opened", lambda a: captures[int(a)])
    frames, skipped = read([0, 1, 2])
    assert {frame.item for frame in frames[:2]} == {0, 1}
    dropped = [int(why.split()[0]) for _, why in skipped if "were dropped" in why]
    assert len(frames) + sum(dropped) == 80
    assert skipped[0] == ("2", "cannot be opened as a stream or a camera")
