"""PNG files, checked before a decoder that would write to the screen sees them.

The libpng inside OpenCV writes what it dislikes to the terminal, past every log and
without the file's name: damage, and any oddity of chunks that say nothing of pixels.
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = frozenset((b"IHDR", b"PLTE", b"IDAT"))
END = b"\0\0\0\0IEND\xaeB`\x82"


def is_png(data: np.ndarray) -> bool:
    """Returns whether the bytes [n] uint8 of a file begin as a PNG's do."""
    return data[:8].tobytes() == SIGNATURE


def essence(data: np.ndarray) -> np.ndarray | None:
    """Returns a PNG [m] uint8 of the same pixels and orientation, and nothing else.

    Colour profiles, times and texts are left out: no colours are converted by them.
    None if the file ends early or a checksum shows that it is damaged.

    Args:
        data: [n] uint8, content of the file.
    """
    view, position, kept = data.data, len(SIGNATURE), [memoryview(SIGNATURE)]
    while position + 12 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, position)
        stop = position + 12 + length
        if kind == b"IEND":
            return np.frombuffer(b"".join((*kept, END)), np.uint8)
        chunk, position = view[position:stop], stop
        if kind not in PIXELS and not _turns(chunk):
            continue
        if _whole(chunk, length):
            kept.append(chunk)
        elif kind in PIXELS:
            return None
    return None


def _whole(chunk: memoryview, length: int) -> bool:
    """Returns whether a chunk of `length` bytes of content is there and undamaged."""
    if len(chunk) < 12 + length:
        return False
    (checksum,) = struct.unpack_from(">I", chunk, 8 + length)
    return zlib.crc32(chunk[4:-4]) == checksum


def _turns(chunk: memoryview) -> bool:
    """Returns whether a chunk is EXIF data, which may say how to turn the picture."""
    return chunk[4:8] == b"eXIf" and bytes(chunk[8:10]) in (b"II", b"MM")
