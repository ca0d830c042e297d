"""Arrays and PIL pictures that a program hands over -> pictures as files give them."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

ORDERS = ("bgr", "rgb")


def as_bgr(given: Any, name: str, order: str) -> tuple[np.ndarray, bool]:
    """Returns [h, w, 3] uint8 BGR, and whether it was given as RGB.

    Args:
        given: [h, w], [h, w, 1], [h, w, 2] (grey, alpha), [h, w, 3] or [h, w, 4]
            (alpha last) of uint8, uint16 (the high byte counts) or floats in 0..1; or a
            PIL picture, whose orientation (EXIF) is applied.
        name: for messages.
        order: "bgr" or "rgb", of an array's channels.

    Raises:
        ValueError: it is no picture.
    """
    if isinstance(given, Image.Image):
        return _of_pil(given, name), True
    picture = np.asarray(given)
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 2, 3, 4) or not picture.size:
        raise ValueError(
            f"{name}: an array of shape {np.shape(given)} is no picture. Give [H, W, 3]"
            " (or [H, W], [H, W, 4]), and several pictures as a list."
        )
    picture = _bytes(picture, name)
    if picture.shape[2] in (1, 2):
        return np.repeat(picture[..., :1], 3, axis=2), order == "rgb"
    channels = slice(2, None, -1) if order == "rgb" else slice(3)
    # A copy: what the program does to its array later is not seen by the results.
    return np.array(picture[..., channels], order="C"), order == "rgb"


def _bytes(picture: np.ndarray, name: str) -> np.ndarray:
    """Returns the picture as uint8."""
    kind = picture.dtype
    if kind == np.uint8:
        return picture
    if kind == np.uint16:
        return (picture >> 8).astype(np.uint8)
    if kind == np.bool_:
        return picture.astype(np.uint8) * 255
    if np.issubdtype(kind, np.floating):
        low, high = float(picture.min()), float(picture.max())
        if 0 <= low and high <= 1:  # False for NaN, too
            return np.rint(picture * 255).astype(np.uint8)
        raise ValueError(
            f"{name}: an array of {kind} must hold 0..1, but it holds {low:g} to"
            f" {high:g}. Divide by 255, or convert to uint8."
        )
    raise ValueError(
        f"{name}: an array of {kind} is no picture. Give uint8, uint16, or floats in"
        " 0..1."
    )


def _of_pil(picture: Image.Image, name: str) -> np.ndarray:
    """Returns [h, w, 3] uint8 BGR of a PIL picture, upright."""
    if 0 in picture.size:
        raise ValueError(f"{name}: a picture of {picture.size} pixels holds nothing.")
    try:  # which reads its file, if it was only opened so far
        upright = ImageOps.exif_transpose(picture)
        if upright.mode[0] not in "IF":
            return np.array(np.asarray(upright.convert("RGB"))[..., ::-1], order="C")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: this picture cannot be read: {error}.") from error
    values = np.asarray(upright)
    if upright.mode[0] == "I":  # 16 bits, often kept in 32
        values = np.clip(values, 0, 65535).astype(np.uint16)
    return as_bgr(values, name, "rgb")[0]
