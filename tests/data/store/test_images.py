"""Pictures are upright and whole, whatever container they come in."""

import io
import multiprocessing

import cv2
import numpy as np
import pytest
from PIL import Image

from yolojax.data.formats import listing
from yolojax.data.store import image_checks, images

TURNS = {  # EXIF orientation -> what brings an upright picture into it
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def upright():
    """A picture [96, 64, 3] with a red part that shows how it is turned."""
    pixels = np.full((96, 64, 3), 40, np.uint8)
    pixels[60:90, 8:24] = 220, 20, 20
    return Image.fromarray(pixels)


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_pictures_are_read_upright(kind, orientation):
    turn, exif = TURNS[orientation], Image.Exif()
    exif[274] = orientation
    stored = upright() if turn is None else upright().transpose(turn)
    same_as_upright(encoded(stored, kind, exif=exif))


def same_as_upright(data):
    want = np.asarray(upright())[..., ::-1]
    got = images.decode(data)
    assert got.shape == want.shape and got.flags.c_contiguous
    assert np.abs(got.astype(int) - want).mean() < 4
    assert listing.verify_encoded(data).hw == want.shape[:2]


def decodes_floats(directory):
    """Has a picture decoded that OpenCV complains about; fit for another process."""
    pixels = np.random.default_rng(0).random((20, 20), np.float32)
    path = f"{directory}/float.tiff"
    assert cv2.imwrite(path, pixels)
    assert listing.verify_image(path).code == "unreadable_image"


@pytest.mark.parametrize(
    "method", ["here", pytest.param("spawn", marks=pytest.mark.process)]
)
def test_what_opencv_logs_stays_out_of_the_output(tmp_path, capfd, method):
    if method == "here":
        decodes_floats(tmp_path)
    else:
        process = multiprocessing.get_context(method).Process(
            target=decodes_floats, args=(tmp_path,)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [b"heic", b"avif", b"mif1"])
def test_a_damaged_container_is_no_picture(kind):
    data = np.frombuffer(b"\0\0\0\x18ftyp" + kind + b"\0\0\0\0mif1miaf" * 9, np.uint8)
    assert images.decode(data) is None


def noise(mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    return Image.fromarray(cv2.blur(pixels, (5, 5))).convert(mode)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 5}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_jpegs_are_not_complained_about(mode, options):
    data = encoded(noise(mode), "JPEG", **options)
    assert image_checks.oddity(data, images.decode(data)) == ("", "")
    after = np.append(data, np.zeros(100, np.uint8))  # cameras append data
    assert image_checks.oddity(after, images.decode(after)) == ("", "")


@pytest.mark.parametrize("hole", [slice(2000, 2400), slice(3000, None)])
def test_a_jpeg_with_a_hole_is_used_and_named(hole, capfd):
    data = encoded(noise(), "JPEG", quality=95).copy()
    data[hole] = 0
    data[-2:] = 0xFF, 0xD9  # its end is there
    seen = listing.verify_encoded(data)
    assert seen.hw == (120, 160) and seen.code == "damaged_jpeg"
    assert "damaged: Corrupt JPEG data" in seen.reason
    (problem,) = seen.problems("a.jpg")
    assert (
        str(problem).startswith("a.jpg: parts of the picture") and not problem.dropped
    )


@pytest.mark.parametrize("kind", [".png", ".tif", ".jp2"])
def test_values_of_12_bits_in_16_are_told(kind):
    grey = np.asarray(noise("L")).astype(np.uint16)
    for factor, code in ((16, "dark_16_bit"), (64, "dark_16_bit"), (257, "")):
        data = cv2.imencode(kind, grey * factor)[1]
        seen = listing.verify_encoded(data)
        assert seen.hw == (120, 160) and seen.code == code
        if code:
            top = cv2.imdecode(data, cv2.IMREAD_UNCHANGED).max()
            assert f"16-bit values end at {top} of 65535" in seen.reason


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_pictures_are_not_taken_for_12_bits(dtype):
    for level in (0, 30) if dtype == np.uint8 else (0,):
        data = cv2.imencode(".png", np.full((20, 20), level, dtype))[1]
        assert listing.verify_encoded(data).code == ""
