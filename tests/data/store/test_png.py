"""PNGs keep their pixels, and nothing that a decoder has to say reaches the screen."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from yolojax.data.formats import listing
from yolojax.data.store import images, png

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
PLAIN = cv2.imencode(".png", PIXELS)[1].tobytes()


def chunk(kind, payload, checksum=None):
    right = zlib.crc32(kind + payload)
    checksum = right if checksum is None else checksum
    return (
        struct.pack(">I4s", len(payload), kind) + payload + struct.pack(">I", checksum)
    )


ODD = {  # chunks that libpng complains about
    "profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(b"abc" * 50)),
    "time": chunk(b"tIME", b"x"),
    "text": chunk(b"zTXt", b"a\0\0zzzz"),
    "transparency": chunk(b"tRNS", b"\0" * 9),
    "checksum of a text": chunk(b"tEXt", b"a\0b", checksum=5),
    "exif": chunk(b"eXIf", b"zz"),
    "checksum of exif": chunk(b"eXIf", b"MM\0*", checksum=5),
}


def as_array(content):
    return np.frombuffer(content, np.uint8)


@pytest.mark.parametrize("kind", ODD)
def test_odd_chunks_leave_pixels_and_screen_alone(kind, capfd):
    data = as_array(PLAIN[:33] + ODD[kind] + PLAIN[33:])
    np.testing.assert_array_equal(images.decode(data), PIXELS)
    assert listing.verify_encoded(data).code == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("after", [b"", b"\0" * 40, PLAIN])
def test_what_follows_the_end_is_harmless(after, capfd):
    wrong = PLAIN[:-4] + b"abcd"  # the end's own checksum
    for content in (PLAIN, wrong):
        np.testing.assert_array_equal(images.decode(as_array(content + after)), PIXELS)
    assert capfd.readouterr() == ("", "")


def flipped(at):
    content = bytearray(PLAIN)
    content[at] ^= 0xFF
    return bytes(content)


DAMAGED = {
    "header": flipped(20),
    "first pixels": flipped(60),
    "later pixels": flipped(len(PLAIN) // 2),
    "length of a chunk": flipped(33),
    "signature only": PLAIN[:8],
    "cut in the header": PLAIN[:20],
    "cut in the pixels": PLAIN[: len(PLAIN) // 2],
    "without an end": PLAIN[:-12],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_no_pictures_and_say_nothing(kind, capfd):
    data = as_array(DAMAGED[kind])
    assert png.is_png(data) and images.decode(data) is None
    assert listing.verify_encoded(data).code == "unreadable_image"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_are_those_of_opencv(channels, dtype):
    top = np.iinfo(dtype).max
    values = np.random.default_rng(1).integers(0, top, (50, 30, channels), dtype)
    data = cv2.imencode(".png", values)[1]
    np.testing.assert_array_equal(
        images.decode(data), cv2.imdecode(data, cv2.IMREAD_COLOR)
    )
