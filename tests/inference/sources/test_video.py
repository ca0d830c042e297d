"""Videos frame by frame, live sources that never lag, and videos that are written."""

import struct
import threading

import cv2
import numpy as np
import pytest
from films import Capture, frames_of, grey_of, number_of, write_film

from yolojax.inference.sources import video
from yolojax.inference.sources.video import Film, FilmWriter, Live, open_film


def all_of(source, *arguments):
    """Returns the numbers of the frames that a film or a live source still gives."""
    numbers = []
    while (picture := source.next(*arguments)) is not None:
        numbers.append(number_of(picture))
    return numbers


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_a_film_gives_every_frame(tmp_path, ending):
    with open_film(str(write_film(tmp_path / f"film{ending}", 7))) as film:
        assert (film.announced, film.fps) == (7, 12.5)
        picture = film.next()
        assert picture.shape == (32, 48, 3) and picture.dtype == np.uint8
        assert film.seconds == 0
        assert all_of(film) == [1, 2, 3, 4, 5, 6]
        assert film.read == 7
        assert film.seconds == pytest.approx(6 / 12.5)
        assert film.next() is None


def test_of_a_film_every_third_frame_is_kept(tmp_path):
    with open_film(str(write_film(tmp_path / "film.avi", 8))) as film:
        assert number_of(film.next(3)) == 2
        assert film.seconds == pytest.approx(2 / 12.5)
        assert all_of(film, 3) == [5]


def test_a_film_of_gif(tmp_path):
    from PIL import Image

    frames = [Image.fromarray(grey_of(i)) for i in range(4)]
    path = tmp_path / "film.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    with open_film(str(path)) as film:
        assert all_of(film) == [0, 1, 2, 3]
        assert film.fps == 10


def test_a_film_that_was_taken_with_a_turned_camera_is_upright(tmp_path):
    path = write_film(tmp_path / "film.mp4", 2)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(
        ">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30
    )
    path.write_bytes(data)
    with open_film(str(path)) as film:
        assert film.next().shape == (48, 32, 3)


@pytest.mark.parametrize("fps", [0, -1, 1000, 90_000, float("nan")])
def test_nonsense_in_a_header_is_not_believed(fps):
    film = Film(Capture(3, fps=fps, announced=-(2**63)))
    assert (film.fps, film.announced) == (30, 0)
    assert all_of(film) == [0, 1, 2]
    assert film.seconds == pytest.approx(2 / 30)  # no word of it from the container


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.mp4", None, "no such file"),
        ("empty.mp4", b"", "is empty"),
        ("bad.mp4", b"\0\0\0\x20ftypisom" + bytes(3000), "cannot be opened as a video"),
        ("bad.avi", b"RIFF\xff\xff\xff\xffAVI LIST" + b"x" * 900, "cannot be opened"),
        ("text.mkv", b"hello" * 100, "cannot be opened as a video"),
    ],
)
def test_a_film_that_is_none_is_told_and_nothing_else_is(
    tmp_path, capfd, name, content, message
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_film(str(tmp_path / name))
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def cameras(monkeypatch):
    """The captures that are opened, one after the other; then none opens."""
    captures = []

    def opened(address, *options):
        return captures.pop(0) if captures else Capture(None)

    monkeypatch.setattr(video.cv2, "VideoCapture", opened)
    monkeypatch.setattr(video, "_PAUSE", 1e-4)
    return captures


def test_a_buffered_stream_gives_every_frame(cameras):
    cameras.append(Capture(9))
    live = Live("rtsp://host/a", buffer=True)
    assert all_of(live) == list(range(9))
    assert (live.given, live.dropped) == (9, 0)
    assert "ended after 9 frames" in live.problem
    live.close()


def test_a_buffer_holds_no_more_than_it_may(cameras, monkeypatch):
    monkeypatch.setattr(video, "_KEPT", 3)
    capture = Capture(9)
    cameras.append(capture)
    live = Live("rtsp://host/a", buffer=True)
    assert number_of(live.next()) == 0
    assert capture.at <= 5  # one given, three kept, one in hand
    assert all_of(live) == list(range(1, 9))
    live.close()


def test_the_newest_frame_is_given_and_the_others_are_counted(cameras):
    taken, asked = threading.Event(), threading.Event()

    def before(i):
        if i == 6:  # six frames have come
            taken.set()
            asked.wait(10)

    cameras.append(Capture(7, before=before))
    live = Live("0", buffer=False)
    taken.wait(10)
    assert number_of(live.next()) == 5
    assert (live.given, live.dropped) == (1, 5)
    assert live.seconds >= 0
    asked.set()
    assert all_of(live) == [6]
    live.close()


@pytest.mark.parametrize("buffer", [True, False])
def test_of_a_stream_every_third_frame_is_kept(cameras, buffer):
    cameras.append(Capture(7))
    live = Live("0", buffer, 3)
    numbers = all_of(live)
    assert numbers == [2, 5] if buffer else numbers[-1:] == [5]
    assert len(numbers) + live.dropped == 2
    live.close()


def test_a_lost_stream_is_opened_again(cameras):
    captures = [Capture(2), Capture(None), Capture(3)]
    cameras.extend(captures)
    live = Live("rtsp://host/a", buffer=True)
    assert all_of(live) == [0, 1, 0, 1, 2]
    assert "ended after 5 frames" in live.problem
    assert all(capture.released for capture in captures)
    live.close()


def test_a_stream_that_is_closed_stops_and_has_no_problem(cameras):
    capture = Capture(10**9)
    cameras.append(capture)
    live = Live("0", buffer=True)
    live.next()
    live.close()
    assert capture.released and not live._thread.is_alive()
    assert live.problem == ""


def test_a_stream_that_gives_nothing_ends(cameras):
    cameras.append(Capture(0))
    live = Live("0", buffer=False)
    assert live.next() is None
    assert "ended after 0 frames" in live.problem
    live.close()


def test_a_camera_that_is_not_there_is_told(capfd):
    with pytest.raises(ValueError, match="cannot be opened as a stream or a camera"):
        Live("99", buffer=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "code"), [("a.mp4", "FMP4"), ("in/a.AVI", "MJPG")])
@pytest.mark.parametrize("hw", [(32, 48), (33, 47)])
def test_a_written_film_has_as_many_frames_as_were_written(tmp_path, name, code, hw):
    path = tmp_path / name
    writer = FilmWriter(path, hw, 12.5)
    for i in range(6):
        writer.write(grey_of(i, hw))
    writer.write(grey_of(6, (64, 96)))  # another size
    writer.close()
    assert writer.frames == 7
    pictures = frames_of(path)
    assert [number_of(picture) for picture in pictures] == list(range(7))
    even = hw[0] // 2 * 2, hw[1] // 2 * 2
    assert {picture.shape for picture in pictures} == {(*even, 3)}
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == 12.5
    assert int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode() == code


@pytest.mark.parametrize(
    ("name", "hw", "message"),
    [
        ("a.mkv", (32, 48), "end in .mp4 or .avi"),
        ("a.mp4", (16, 20_000), "20000 x 16 pixels cannot be written"),
        ("a.mp4", (1, 1), "1 x 1 pixels cannot be written"),
        ("file/a.mp4", (32, 48), "file/a.mp4: cannot be written"),
    ],
)
def test_a_film_that_cannot_be_written_fails_before_the_first_frame(
    tmp_path, capfd, name, hw, message
):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=message):
        FilmWriter(tmp_path / name, hw, 25.0)
    assert not (tmp_path / name).exists()
    assert capfd.readouterr() == ("", "")
