"""Reading pictures and bringing them to the size the network sees."""

import hashlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from yolojax.data.geometry import Hw, Letterbox, resized_hw
from yolojax.data.store import heic, jpeg, png

GREY = 114  # padding level
AVIF = (b"ftypavif", b"ftypavis")  # bytes 4 to 12 of such files
EXTENSIONS = frozenset(
    "avif bmp dng heic heif jp2 jpeg jpg mpo png tif tiff webp".split()
)

# What OpenCV has to say of a picture it writes to the screen, without the picture's
# name and between our lines; the scan names what it cannot read. Every process that
# decodes imports this file.
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def is_image(name: str) -> bool:
    """Returns whether the ending of a file's name is that of an image."""
    return os.path.splitext(name)[1][1:].lower() in EXTENSIONS


def read_image(path: str | Path) -> np.ndarray:
    """Returns [h, w, 3] uint8 BGR, upright (EXIF); 16 bits keep the high byte.

    Raises:
        ValueError: the file is missing, empty or not a picture.
    """
    data = read_bytes(path)
    image = decode(data)
    if image is None:
        why = heic.reason(data) or f"not a readable picture ({len(data)} bytes)"
        raise ValueError(f"{path}: {why}. Replace or remove it.")
    return image


def read_bytes(path: str | Path) -> np.ndarray:
    """Returns the content of a file, [n] uint8.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}). Restore the file, or start the"
            " run again so that the data set is scanned anew."
        ) from error


def read_scanned(path: str, hw: np.ndarray) -> np.ndarray:
    """Returns an image, as `read_image` does, that a scan has seen before.

    Args:
        path: the file.
        hw: [2] height and width that the scan found.

    Raises:
        ValueError: the file vanished or changed since the scan.
    """
    image = read_image(path)
    if image.shape[:2] != tuple(hw):
        raise ValueError(
            f"{path}: is {image.shape[:2]} pixels (height, width) now, but was"
            f" {tuple(hw.tolist())} when the data set was scanned. Start the run again."
        )
    return image


def verify_content(path: str, data: np.ndarray, digest: str) -> None:
    """Raises ValueError if a file's bytes are not those that a scan has seen."""
    if content_digest(data) != digest:
        raise ValueError(
            f"{path}: changed since the data set was scanned. Start the run again."
        )


def content_digest(data: np.ndarray) -> str:
    """Returns the hash of a file's bytes [n] uint8, in hexadecimal digits."""
    return hashlib.blake2b(data.tobytes(), digest_size=16).hexdigest()


def decode(data: np.ndarray) -> np.ndarray | None:
    """Returns [h, w, 3] uint8 BGR of an encoded picture, None if it is not one."""
    if not len(data):
        return None
    if data[4:12].tobytes() in AVIF:
        return _decode_avif(data.tobytes())
    try:
        if jpeg.is_jpeg(data):
            return jpeg.decode(data)
        if png.is_png(data):
            essence = png.essence(data)
            return None if essence is None else cv2.imdecode(essence, cv2.IMREAD_COLOR)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return heic.decode(data) if image is None else image
    except cv2.error:  # a header that claims an absurd size, for example
        return None


def _decode_avif(content: bytes) -> np.ndarray | None:
    """Returns [h, w, 3] uint8 BGR of an AVIF picture, None if it is not one.

    OpenCV leaves it as it is stored, turned or mirrored.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return np.ascontiguousarray(np.asarray(upright)[..., ::-1])


def resize_long_side(image: np.ndarray, imgsz: int) -> np.ndarray:
    """Returns the image with its long side at imgsz, bilinear."""
    return resize(image, resized_hw(image.shape[:2], imgsz))


def resize(image: np.ndarray, hw: Hw) -> np.ndarray:
    """Returns the image at size hw, bilinear without antialiasing."""
    if image.shape[:2] == hw:
        return image
    return cv2.resize(image, (hw[1], hw[0]), interpolation=cv2.INTER_LINEAR)


def letterbox_into(image: np.ndarray, box: Letterbox, out: np.ndarray) -> None:
    """Paints a resized image and its grey padding into `out` [H, W, 3] uint8.

    The channels keep their order.
    """
    height, width = box.new_hw
    out[:] = GREY
    out[box.top : box.top + height, box.left : box.left + width] = resize(
        image, box.new_hw
    )
