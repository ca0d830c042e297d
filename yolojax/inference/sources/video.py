"""Videos and streams, frame by frame, and videos that are written."""

import contextlib
import os
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

_FPS = 30.0  # where a container says none, or nonsense
_KEPT = 30  # frames of a stream that wait at most
_LOST = 5  # times that a stream is opened again before it is over
_WAIT = 10.0  # seconds without a frame until a stream is opened again


class Film:
    """A video, read from its start to its end; use it in `with`."""

    def __init__(self, capture: Any) -> None:
        """Starts before the first frame of an opened capture."""
        self._capture = capture
        self.read = 0  # frames so far
        self.fps = _sensible(capture.get(cv2.CAP_PROP_FPS))
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Containers lie: the number is for display only.
        self.announced = int(count) if 0 < count < 2**31 else 0

    def next(self, stride: int = 1) -> np.ndarray | None:
        """Returns the next frame [h, w, 3] uint8 BGR of every `stride`; None: none."""
        for _ in range(stride):
            if not self._capture.grab():
                return None
            self.read += 1
        done, picture = self._capture.retrieve()
        return picture if done else None

    def __enter__(self) -> "Film":
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self._capture.release()


def open_film(path: str) -> Film:
    """Returns a video at its start.

    Raises:
        ValueError: it is missing, empty or no video.
    """
    if "://" not in path:
        if not os.path.isfile(path):
            raise ValueError("there is no such file")
        if not os.path.getsize(path):
            raise ValueError("the file is empty")
    capture = cv2.VideoCapture(path)
    if not capture.isOpened():
        raise ValueError("cannot be opened as a video")
    return Film(capture)


class Live:
    """A stream or a camera, read by a thread of its own so that it never lags."""

    def __init__(self, address: str, buffer: bool) -> None:
        """Opens it and starts to read.

        Args:
            address: of the stream, or the number of a camera.
            buffer: keep all frames in order; otherwise only the newest one.

        Raises:
            ValueError: it cannot be opened.
        """
        self._address: str | int = int(address) if address.isdigit() else address
        self._capture = self._opened()
        if self._capture is None:
            raise ValueError("cannot be opened as a stream or a camera")
        self.fps = _sensible(self._capture.get(cv2.CAP_PROP_FPS))
        self.given = 0  # frames handed out
        self.dropped = 0  # frames that newer ones took the place of
        self.problem = ""  # why it ended, if it did not end by itself
        self._buffer = buffer
        self._frames: deque[np.ndarray] = deque()
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def next(self, stride: int = 1) -> np.ndarray | None:
        """Returns the newest frame [h, w, 3] uint8 BGR, waiting for one; None: none.

        Of buffered ones the oldest that was not given yet; of every `stride` one.
        """
        picture = None
        for _ in range(stride if self._buffer else 1):
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._over)
                if not self._frames:
                    return None
                picture = self._frames.popleft()
                self._changed.notify_all()
        self.given += 1
        return picture

    def close(self) -> None:
        """Stops to read."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(_WAIT)

    def _opened(self) -> Any:
        capture = cv2.VideoCapture(self._address)
        return capture if capture.isOpened() else None

    def _work(self) -> None:
        lost = 0
        while not self._over:
            done, picture = self._capture.read()
            if done:
                lost = 0
                self._take(picture)
                continue
            lost += 1
            self._capture.release()
            if lost > _LOST:
                break
            time.sleep(min(0.1 * 2**lost, 1.0))
            capture = self._opened()
            if capture is None:
                if lost == _LOST:
                    self.problem = "" if self.given else "gave no frame"
                    break
                continue
            self._capture = capture
        with contextlib.suppress(cv2.error):
            self._capture.release()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _take(self, picture: np.ndarray) -> None:
        """Keeps a frame; of buffered ones no more than there is room for."""
        with self._changed:
            if self._buffer:
                self._changed.wait_for(lambda: len(self._frames) < _KEPT or self._over)
            elif self._frames:
                self.dropped += len(self._frames)
                self._frames.clear()
            self._frames.append(picture)
            self._changed.notify_all()


class FilmWriter:
    """A video that grows frame by frame; it exists once it is closed."""

    def __init__(self, path: Path, hw: tuple[int, int], fps: float) -> None:
        """Starts a video.

        Args:
            path: the new file; .mp4 (mp4v), .avi (MJPG) or .webm (VP8).
            hw: height and width of its frames, pixels.
            fps: frames per second.

        Raises:
            ValueError: no video of this kind can be written there.
        """
        code = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}.get(path.suffix, "")
        if not code:
            raise ValueError(f"{path}: videos end in .mp4, .avi or .webm.")
        path.parent.mkdir(parents=True, exist_ok=True)
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
