"""Pictures of telephones: HEIC, which takes a decoder of its own."""

import io
from typing import Any

import cv2
import numpy as np

from yolojax.errors import install_hint

# What follows "ftyp" in files of HEVC pictures; AV1 has "avif" and "avis".
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_heic(data: np.ndarray) -> bool:
    """Returns whether the bytes [n] uint8 of a file are a HEIC picture."""
    head = data[:12].tobytes()
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def decode(data: np.ndarray) -> np.ndarray | None:
    """Returns [h, w, 3] uint8 BGR, upright, of a HEIC picture.

    None if it is none, if it is damaged, or if no decoder is installed: see `reason`.
    """
    decoder = _decoder() if is_heic(data) else None
    if decoder is None:
        return None
    try:  # it turns the picture as the file says
        picture = decoder.open_heif(io.BytesIO(data.tobytes())).to_pillow()
    except (ValueError, EOFError, OSError, SyntaxError, RuntimeError):
        return None
    rgb = np.asarray(picture.convert("RGB"))
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def reason(data: np.ndarray) -> str | None:
    """Returns why a HEIC picture cannot be read, None for other files."""
    if not is_heic(data):
        return None
    if _decoder() is not None:
        return "a damaged HEIC picture"
    return (
        "a HEIC picture, and no decoder for these is installed. Convert it to JPEG, or"
        f" run: {install_hint('heic')}"
    )


def version() -> tuple[str, ...]:
    """Returns the version of the decoder, nothing without one: scans depend on it."""
    decoder = _decoder()
    return () if decoder is None else (str(getattr(decoder, "__version__", "")),)


def _decoder() -> Any:
    """Returns the module that decodes HEIC, None if it is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return None
    return pillow_heif
