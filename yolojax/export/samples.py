"""Pictures that an exported file and its network are both shown."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from yolojax.assembly import data as loading
from yolojax.assembly.export import Export
from yolojax.config import changed
from yolojax.data.batches.whole import centre_crop
from yolojax.data.geometry import Hw, letterbox
from yolojax.data.shapes.scene import draw_scene
from yolojax.data.store.images import letterbox_into
from yolojax.streams import stream

CALIBRATION = 256  # pictures that int8 is fitted to
MOST = 16  # pictures on which file and network are compared
DRAWN = 4  # scenes among the usual pictures; one of noise is added


def usual() -> list[np.ndarray]:
    """Returns drawn scenes and noise, [H, W, 3] uint8 BGR, the same every time."""
    scenes = [draw_scene(0, "test", i, 480).image for i in range(DRAWN)]
    noise = stream("parity_noise").integers(0, 256, (480, 640, 3), np.uint8)
    return [*scenes, noise]


def validated(config: Any, export: Export) -> list[np.ndarray]:
    """Returns the first validation pictures as squares, [H, W, 3] uint8 BGR.

    Raises:
        ValueError: the data cannot be read.
    """
    source = loading.open_split(config, "val", known=export.trained.names)
    return [image[..., ::-1] for image in _squares(config, source, MOST)]


def calibration(config: Any, export: Export) -> tuple[np.ndarray, ...]:
    """Returns the training pictures that int8 is fitted to, as inputs [1, 3, H, W].

    Raises:
        ValueError: the data are not those of the network.
    """
    names = export.trained.names
    source = loading.open_split(config, "train", known=names)
    if source.names != names:
        raise ValueError(
            f"config.int8 = True fits the file to training pictures, but config.data ="
            f" {config.data!r} has other classes than the network. Give the data it was"
            " trained on, with data=DATA."
        )
    found = _squares(config, source, CALIBRATION)
    return tuple(floats(image[None]) for image in found)


def _squares(config: Any, source: loading.Source, most: int) -> list[np.ndarray]:
    """Returns the first pictures of a split as inputs [H, W, 3] uint8 RGB."""
    config = changed(config, rect=False, batch=1)
    batches = loading.eval_batches(config, source)
    count = min(most, len(batches))
    return [batches[step]["image"][0] for step in range(count)]


def fitted(pictures: Iterable[np.ndarray], hw: Hw, *, whole: bool) -> list[np.ndarray]:
    """Returns pictures as inputs, [3, H, W] float32 RGB in 0..1.

    Args:
        pictures: [h, w, 3] uint8 BGR.
        hw: sides of the input.
        whole: the middle of each without padding, as classification sees it.
    """
    found = []
    for picture in pictures:
        if whole:
            rgb = centre_crop(np.ascontiguousarray(picture[..., ::-1]), hw[0])
        else:
            canvas = np.empty((*hw, 3), np.uint8)
            letterbox_into(picture, letterbox(picture.shape[:2], hw), canvas)
            rgb = canvas[..., ::-1]
        found.append(floats(rgb[None])[0])
    return found


def floats(images: np.ndarray) -> np.ndarray:
    """Returns images [B, H, W, 3] uint8 as [B, 3, H, W] float32 in 0..1."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 255


def batches(inputs: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yields inputs by so many, the last ones filled up with the first."""
    for start in range(0, len(inputs), size):
        some = [*inputs[start : start + size]]
        yield np.stack(some + [inputs[0]] * (size - len(some)))
