"""JPEGs have the pixels that OpenCV makes of them, and nothing reaches the screen."""

import io
import struct

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from yolojax.data.formats import listing
from yolojax.data.store import images, jpeg


def noise(mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (97, 131, 3), np.uint8)
    return Image.fromarray(cv2.blur(pixels, (5, 5))).convert(mode)


def encoded(mode="RGB", **options):
    file = io.BytesIO()
    noise(mode).save(file, "JPEG", **options)
    return np.frombuffer(file.getvalue(), np.uint8)


KINDS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "without YCbCr": {"keep_rgb": True},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "restarts": {"restart_marker_blocks": 3},
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_opencv(kind):
    data = encoded(**KINDS[kind])
    image = images.decode(data)
    np.testing.assert_array_equal(image, cv2.imdecode(data, cv2.IMREAD_COLOR))
    assert image.flags.c_contiguous and image.flags.writeable


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", ["<", ">"])
def test_pictures_are_turned_as_opencv_turns_them(orientation, order):
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    tiff += struct.pack(f"{order}H", 2)
    tiff += struct.pack(f"{order}HHIHxx", 256, 3, 1, 7)  # a tag before it
    tiff += struct.pack(f"{order}HHIHxx", 274, 3, 1, orientation) + bytes(4)
    data = encoded(exif=b"Exif\0\0" + tiff)
    want = cv2.imdecode(data, cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(images.decode(data), want)
    assert want.shape[:2] == ((131, 97) if orientation in (5, 6, 7, 8) else (97, 131))


@pytest.mark.parametrize(
    "tiff",
    [
        b"",
        b"II",
        b"XX*\0\x08\0\0\0",
        b"II*\0\xff\xff\0\0",
        b"MM\0*\0\0\0\x08\0\x09\x01",
    ],
)
def test_damaged_exif_leaves_a_picture_as_it_is(tiff):
    data = encoded(exif=b"Exif\0\0" + tiff)
    assert jpeg.orientation(data) == 1
    assert images.decode(data).shape == (97, 131, 3)


@pytest.mark.parametrize("kind", ["4:2:0", "grey", "CMYK", "restarts"])
def test_damage_is_not_written_to_the_screen(kind, tmp_path, capfd):
    data = encoded(**KINDS[kind], quality=95).copy()
    data[len(data) // 2 : len(data) // 2 + 300] = np.arange(300) * 7 % 256
    (tmp_path / "a.jpg").write_bytes(data.tobytes())
    image = images.read_image(tmp_path / "a.jpg")
    assert listing.verify_image(str(tmp_path / "a.jpg")).code == "damaged_jpeg"
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(image, cv2.imdecode(data, cv2.IMREAD_COLOR))


@pytest.mark.parametrize("rest", [b"", b"\xff\xd9"])
def test_what_only_begins_as_a_jpeg_is_no_picture(rest, capfd):
    for size in (3, 100, 300):
        data = np.frombuffer(encoded()[:size].tobytes() + rest, np.uint8)
        assert images.decode(data) is None
    assert capfd.readouterr() == ("", "")


def test_a_header_of_an_absurd_size_takes_no_memory():
    data = encoded().copy()
    at = data.tobytes().index(b"\xff\xc0") + 5
    data[at : at + 4] = 0xFE
    assert images.decode(data) is None


def test_pixels_that_were_never_decoded_are_no_picture(capfd):
    data = encoded(progressive=True, quality=95).copy()
    data[len(data) // 2 : len(data) // 2 + 2] = 0xFF, 0xC4  # no table follows
    assert "Bogus Huffman table" in jpeg.complaint(data)
    unpainted = simplejpeg.decode_jpeg(data, "BGR", strict=False)
    assert unpainted.shape == (97, 131, 3) and images.decode(data) is None
    assert capfd.readouterr() == ("", "")
