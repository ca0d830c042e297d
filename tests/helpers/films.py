"""Small videos, whose frames say which they are, and captures that do as told."""

import cv2
import numpy as np

STEP = 20  # levels of grey between two frames


def grey_of(number, hw=(32, 48)):
    """Returns frame `number`, from 0: [h, w, 3] uint8 of one grey."""
    return np.full((*hw, 3), number * STEP % 256, np.uint8)


def number_of(picture):
    """Returns which frame a decoded picture is, from 0."""
    return round(float(picture.mean()) / STEP)


def write_film(path, frames, fps=12.5, hw=(32, 48)):
    """Writes a video with OpenCV itself."""
    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, fps, hw[::-1])
    assert writer.isOpened()
    for i in range(frames):
        writer.write(grey_of(i, hw))
    writer.release()
    return path


def frames_of(path):
    """Returns the pictures of a video, as OpenCV itself reads them."""
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while (read := capture.read())[0]:
        pictures.append(read[1])
    return pictures


class Capture:
    """Stands for a capture of OpenCV with frames of its own."""

    def __init__(self, frames, fps=25.0, announced=0, before=lambda i: None):
        """Gives `frames` frames; `before(i)` is called before frame i is there."""
        self.frames, self.before, self.at, self.released = frames, before, 0, False
        self.values = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_COUNT: announced}

    def isOpened(self):  # noqa: N802
        return self.frames is not None

    def get(self, key):
        return self.values.get(key, 0.0)

    def grab(self):
        if self.frames is None or self.at >= self.frames:
            return False
        self.before(self.at)
        self.at += 1
        return True

    def retrieve(self):
        return True, grey_of(self.at - 1)

    def release(self):
        self.released = True
