"""What tests ask of pictures."""

from pathlib import Path

import cv2
import numpy as np


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None, path
    return image[..., ::-1]


def where(image: np.ndarray, rgb: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Bounding box x1, y1, x2, y2 of all pixels of exactly that colour."""
    ys, xs = np.nonzero((image == np.array(rgb)).all(-1))
    assert len(xs), f"no pixel of colour {rgb}"
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def colors_in(image: np.ndarray) -> int:
    packed = image.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return len(np.unique(packed))


def ink(image: np.ndarray) -> float:
    """Share of pixels that are not white."""
    return float((image.min(-1) < 250).mean())


def is_colour(image, rgb):
    return (image == np.array(rgb)).all(-1)
