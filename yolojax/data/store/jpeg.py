"""JPEG files, decoded without a word to the screen.

The libjpeg inside OpenCV writes what is damaged to the terminal, past every log and
without the file's name. TurboJPEG makes the same pixels and hands the words over.
"""

import io
import struct
from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg
from PIL import Image

SOI, EOI = b"\xff\xd8", b"\xff\xd9"  # a file's first and last bytes
SOS, APP1 = 0xDA, 0xE1  # markers: the pixels follow; a segment for EXIF and others
EXIF = b"Exif\0\0"
ORIENTATION = 274  # tag of EXIF
LARGEST = 1 << 30  # pixels, as for other formats: a header may claim any size

# EXIF orientation -> whether rows become columns, and what is mirrored then (0: up and
# down, 1: left and right, -1: both).
TURNS: dict[int, tuple[bool, int | None]] = {
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}


def is_jpeg(data: np.ndarray) -> bool:
    """Returns whether the bytes [n] uint8 of a file begin as a JPEG's do."""
    return data[:2].tobytes() == SOI


def decode(data: np.ndarray) -> np.ndarray | None:
    """Returns [h, w, 3] uint8 BGR, upright, of a JPEG.

    Holes are painted over. None if it cannot be read or ends early.
    """
    image = None if truncated(data) else _as_stored(data)
    if image is None:
        return None
    transposed, mirrored = TURNS.get(orientation(data), (False, None))
    if transposed:
        image = cv2.transpose(image)
    return image if mirrored is None else cv2.flip(image, mirrored)


def _as_stored(data: np.ndarray) -> np.ndarray | None:
    """Returns [h, w, 3] uint8 BGR of a JPEG, not turned; None if it cannot be read."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return _decode_rare(data.tobytes())
    if height * width > LARGEST:
        return None
    try:
        return simplejpeg.decode_jpeg(data, "BGR")
    except ValueError:
        return _decode_damaged(data, height * width * 3)


def _decode_damaged(data: np.ndarray, size: int) -> np.ndarray | None:
    """Returns [h, w, 3] uint8 BGR of a JPEG with damage.

    TurboJPEG does not say whether it had to give up before its end. Two grounds show
    it: where they are seen nothing was painted, and the memory would be the picture.

    Args:
        data: [n] uint8, content of the file.
        size: bytes of the picture.
    """
    try:
        on_black, on_white = (
            simplejpeg.decode_jpeg(
                data, "BGR", buffer=np.full(size, level, np.uint8), strict=False
            )
            for level in (0, 255)
        )
    except ValueError:
        return None
    return on_black if np.array_equal(on_black, on_white) else None


def _decode_rare(content: bytes) -> np.ndarray | None:
    """Returns [h, w, 3] uint8 BGR of a JPEG whose head TurboJPEG does not take."""
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
            rgb = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def complaint(data: np.ndarray) -> str:
    """Returns what a strict decoder says of a JPEG [n] uint8, "" if nothing.

    Other decoders paint something into the holes of a file and go on.
    """
    try:
        *_, colours, _ = simplejpeg.decode_jpeg_header(data)
        simplejpeg.decode_jpeg(
            data,
            colorspace="CMYK" if colours in ("CMYK", "YCCK") else "GRAY",
            fastdct=True,
            fastupsample=True,
            min_height=1,  # the smallest that it can make: the entropy code is read
            min_width=1,
            min_factor=1,
        )
    except ValueError as error:
        return str(error)
    return ""


def truncated(data: np.ndarray) -> bool:
    """Returns whether a JPEG file [n] uint8 lacks its end marker.

    Decoders fill the missing part with grey instead of failing. Bytes after the end
    marker are harmless and common.
    """
    if not is_jpeg(data) or data[-2:].tobytes() == EOI:
        return False
    # A thumbnail inside a segment has an end marker of its own, the scan data has not.
    pixels = max((stop for _, _, stop in _segments(data)), default=2)
    return data.tobytes().find(EOI, pixels) < 0


def orientation(data: np.ndarray) -> int:
    """Returns the EXIF orientation of a JPEG [n] uint8, 1 (upright) without one."""
    for marker, start, stop in _segments(data):
        if marker == APP1 and data[start : start + len(EXIF)].tobytes() == EXIF:
            return _orientation(data[start + len(EXIF) : stop].tobytes())
    return 1


def _segments(data: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yields marker, start and end of the segments up to that before the pixels."""
    view, position = data.data, 2
    while position + 4 <= len(view) and view[position] == 0xFF:
        marker = view[position + 1]
        (length,) = struct.unpack_from(">H", view, position + 2)
        start, position = position + 4, position + 2 + max(length, 2)
        yield marker, start, position
        if marker == SOS:
            return


def _orientation(tiff: bytes) -> int:
    """Returns the orientation that the first directory of EXIF data holds, else 1."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, value = struct.unpack_from(f"{order}H6xH", tiff, entry)
            if tag == ORIENTATION:
                return value
    except struct.error:  # the directory goes on behind the end of the segment
        return 1
    return 1
