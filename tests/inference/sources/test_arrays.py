"""Arrays and PIL pictures become what files give: [h, w, 3] uint8 BGR."""

import io

import numpy as np
import pytest
from PIL import Image

from yolojax.inference.sources.arrays import as_bgr

RED = np.zeros((2, 3, 3), np.uint8)
RED[..., 2] = 200  # in BGR


def bgr(given, order="bgr"):
    return as_bgr(given, "image0", order)[0]


def test_bgr_is_what_arrays_are_unless_said():
    picture, rgb = as_bgr(RED, "image0", "bgr")
    np.testing.assert_array_equal(picture, RED)
    assert not rgb
    picture, rgb = as_bgr(RED[..., ::-1], "image0", "rgb")
    np.testing.assert_array_equal(picture, RED)
    assert rgb


def test_later_changes_of_the_array_are_not_seen():
    given = RED.copy()
    picture = bgr(given)
    given[:] = 7
    np.testing.assert_array_equal(picture, RED)
    assert picture.flags.c_contiguous and picture.flags.writeable


@pytest.mark.parametrize(
    "given",
    [
        np.dstack([RED, np.full((2, 3), 9, np.uint8)]),  # with alpha
        RED.astype(np.uint16) * 256 + 255,
        (RED / np.float32(255)).astype(np.float32),
        RED / 255,
        np.asfortranarray(RED),
    ],
)
def test_kinds_of_arrays(given):
    picture = bgr(given)
    assert picture.dtype == np.uint8 and picture.flags.c_contiguous
    np.testing.assert_array_equal(picture, RED)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 2)])
def test_grey(shape):
    given = np.full(shape, 50, np.uint8)
    if shape[-1] == 2 and len(shape) == 3:
        given[..., 1] = 255
    np.testing.assert_array_equal(bgr(given), np.full((2, 3, 3), 50))


def test_masks_and_other_libraries():
    import jax.numpy as jnp

    np.testing.assert_array_equal(bgr(np.array([[True, False]]))[0, :, 0], [255, 0])
    np.testing.assert_array_equal(bgr(jnp.asarray(RED)), RED)


@pytest.mark.parametrize("size", [(1, 1), (5, 20_000)])
def test_odd_sizes(size):
    assert bgr(np.zeros((*size, 3), np.uint8)).shape == (*size, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((0, 3, 3), np.uint8), r"shape \(0, 3, 3\) is no picture"),
        (np.zeros((1, 2, 2, 3), np.uint8), "several pictures as a list"),
        (np.zeros((3, 20, 20), np.uint8), r"shape \(3, 20, 20\) is no picture"),
        (np.zeros(3, np.uint8), "is no picture"),
        (RED.astype(np.float32), "must hold 0..1, but it holds 0 to 200. Divide by"),
        (np.full((2, 2, 3), np.nan), "must hold 0..1"),
        (RED.astype(np.int64), "an array of int64 is no picture. Give uint8"),
        (np.full((2, 2), "a"), "is no picture"),
        (Image.new("RGB", (0, 4)), "holds nothing"),
        (Image.new("F", (2, 2), 7.0), "must hold 0..1"),
    ],
)
def test_what_is_no_picture_is_told(given, message):
    with pytest.raises(ValueError, match=f"image0: .*{message}"):
        bgr(given)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_pil(mode):
    given = Image.fromarray(RED[..., ::-1]).convert(
        mode, palette=Image.Palette.ADAPTIVE
    )
    picture, rgb = as_bgr(given, "x", "bgr")
    np.testing.assert_array_equal(picture, RED)
    assert rgb


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_pil_of_16_bits_keeps_the_high_byte(mode):
    picture = Image.new(mode, (3, 2), 0x3212)
    np.testing.assert_array_equal(bgr(picture), np.full((2, 3, 3), 0x32))


def test_pil_is_turned_upright():
    picture = Image.fromarray(RED[..., ::-1])
    picture.putpixel((0, 0), (1, 2, 3))
    picture.getexif()[0x0112] = 6  # turned by a quarter
    turned = bgr(picture)
    assert turned.shape == (3, 2, 3)
    np.testing.assert_array_equal(turned[0, 1], [3, 2, 1])


def test_pil_of_a_file_that_is_cut_off_is_told():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "jpeg")
    picture = Image.open(io.BytesIO(file.getvalue()[:2000]))
    with pytest.raises(ValueError, match="image0: this picture cannot be read"):
        bgr(picture)
