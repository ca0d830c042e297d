"""Videos and streams, frame by frame, and videos that are written."""

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import cv2
import numpy as np

# FFmpeg writes to the screen what is wrong with a file, without its name; we name it.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_FPS = 30.0  # where a container says none, or nonsense
_KEPT = 30  # frames of a stream that wait at most
_LOST = 5  # times that a stream is opened again before it is over
_PAUSE = 0.2  # seconds before a stream is opened again, at first
_WAIT = 10.0  # seconds without a word from the other end until it is given up


class Film:
    """A video, read from its start to its end; use it in `with`."""

    def __init__(self, capture: Any) -> None:
        """Starts before the first frame of an opened capture."""
        self._capture = capture
        self.read = 0  # frames so far
        self.seconds = 0.0  # from the start to the last one that was read
        self.fps = _sensible(capture.get(cv2.CAP_PROP_FPS))
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Containers lie: nothing but what is told depends on this number.
        self.announced = int(count) if 0 < count < 2**31 else 0

    def next(self, stride: int = 1) -> np.ndarray | None:
        """Returns the last one [h, w, 3] uint8 BGR of the next frames; None: no more.

        Args:
            stride: frames to go on by.
        """
        for _ in range(stride):
            if not self._capture.grab():
                return None
            self.read += 1
        moment = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self.seconds = moment if moment > 0 else (self.read - 1) / self.fps
        done, picture = self._capture.retrieve()
        return picture if done else None

    def __enter__(self) -> "Film":
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the file."""
        self._capture.release()


def open_film(path: str) -> Film:
    """Returns a video at its start; use it in `with`.

    Args:
        path: of a file, or an address.

    Raises:
        ValueError: it is missing, empty or no video.
    """
    if "://" not in path:
        if not os.path.isfile(path):
            raise ValueError("there is no such file")
        if not os.path.getsize(path):
            raise ValueError("the file is empty")
        path = os.path.abspath(path)  # what stands before a colon were a protocol
    capture = _opened(path)
    if not capture.isOpened():
        raise ValueError("cannot be opened as a video: it is damaged, or no video")
    return Film(capture)


class Live:
    """A stream or a camera, read by a thread of its own so that it never lags."""

    def __init__(self, address: str, buffer: bool, stride: int = 1) -> None:
        """Opens it and starts to read.

        Args:
            address: of the stream, or the number of a camera.
            buffer: keep all frames in order; otherwise only the newest one.
            stride: of so many frames one is kept.

        Raises:
            ValueError: it cannot be opened.
        """
        self._address = address
        self._capture = _opened(address)
        if not self._capture.isOpened():
            raise ValueError("cannot be opened as a stream or a camera")
        self.fps = _sensible(self._capture.get(cv2.CAP_PROP_FPS))
        self.given = 0  # frames handed out
        self.seconds = 0.0  # from the start to the last one that was handed out
        self.dropped = 0  # frames that newer ones took the place of
        self.problem = ""  # why it ended, if it did not end by being closed
        self._buffer = buffer
        self._stride = stride
        self._start = time.monotonic()
        self._frames: deque[tuple[float, np.ndarray]] = deque()
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def next(self) -> np.ndarray | None:
        """Returns a frame [h, w, 3] uint8 BGR, waiting for one; None: it is over.

        It is the newest one, or of buffered ones the oldest that was not given yet.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._over)
            if not self._frames:
                return None
            self.seconds, picture = self._frames.popleft()
            self._changed.notify_all()
        self.given += 1
        return picture

    def close(self) -> None:
        """Stops to read."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(_WAIT)

    def _work(self) -> None:
        """Reads until it is closed, or opening it again does not help."""
        read = failed = 0
        try:
            while not self._over:
                if self._capture.grab():
                    failed = 0
                    read += 1
                    if read % self._stride == 0:
                        self._take(*self._capture.retrieve())
                    continue
                if failed == _LOST:
                    self.problem = (
                        f"ended after {read} frames, and opening it again {_LOST} times"
                        " did not help"
                    )
                    break
                self._capture.release()
                with self._changed:
                    self._changed.wait_for(lambda: self._over, _PAUSE * 2**failed)
                failed += 1
                self._capture = _opened(self._address)
        finally:
            self._capture.release()
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _take(self, done: bool, picture: np.ndarray) -> None:
        """Keeps a frame; of buffered ones no more than there is room for."""
        if not done:
            return
        moment = time.monotonic() - self._start
        with self._changed:
            if self._buffer:
                self._changed.wait_for(lambda: len(self._frames) < _KEPT or self._over)
            else:
                self.dropped += len(self._frames)
                self._frames.clear()
            self._frames.append((moment, picture))
            self._changed.notify_all()


def _opened(address: str) -> Any:
    """Returns the capture of a file, a stream or the number of a camera."""
    if address.isdigit():
        return cv2.VideoCapture(int(address))
    wait = int(_WAIT * 1000)
    limits = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        wait,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        wait,
    ]
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)


class FilmWriter:
    """A video that grows frame by frame; it plays once it is closed."""

    def __init__(self, path: Path, hw: tuple[int, int], fps: float) -> None:
        """Starts a video.

        Args:
            path: the new file; .mp4 (mp4v) or .avi (MJPG).
            hw: height and width of its frames, pixels; the file has even ones, so that
                the last line of an odd number is left out.
            fps: frames per second.

        Raises:
            ValueError: no video of this kind can be written there.
        """
        code = {".mp4": "mp4v", ".avi": "MJPG"}.get(path.suffix.lower())
        if not code:
            raise ValueError(f"{path}: videos that are written end in .mp4 or .avi.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{path}: cannot be written: {error.strerror}.") from error
        self.path, self.hw, self.frames = path, hw, 0
        size = hw[1], hw[0]
        fourcc = cv2.VideoWriter.fourcc(*code)
        self._writer = cv2.VideoWriter(str(path), fourcc, max(1.0, fps), size)
        if not self._writer.isOpened():
            raise ValueError(
                f"{path}: a video of {size[0]} x {size[1]} pixels cannot be written:"
                f" OpenCV finds no way to write {code} there."
            )

    def write(self, picture: np.ndarray) -> None:
        """Adds a frame [h, w, 3] uint8 BGR; another size is brought to the first's."""
        if picture.shape[:2] != self.hw:
            picture = cv2.resize(picture, (self.hw[1], self.hw[0]))
        self._writer.write(np.ascontiguousarray(picture))
        self.frames += 1

    def close(self) -> None:
        """Completes the file."""
        self._writer.release()


def _sensible(fps: float) -> float:
    return fps if 0 < fps < 1000 else _FPS
