"""Masks of prototypes: sizes, packing, mapping back to the original."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolojax.ops import boxes as box_ops
from yolojax.ops import masks as mask_ops


def test_prototypes_are_resized_like_their_masks():
    # Pixel centres of a half-size grid lie between two of the full one: at 1/4 and 3/4.
    row = jnp.array([0.0, 4.0, 8.0])
    maps = jnp.broadcast_to(row[None, None, :, None], (1, 2, 3, 1))
    got = mask_ops.resize(maps, 4, 6)[0, :, :, 0]
    np.testing.assert_allclose(got, np.tile([0.0, 1, 3, 5, 7, 8], (4, 1)), atol=1e-6)
    fine = jnp.arange(8.0).reshape(1, 1, 8, 1) ** 2  # no average over four: no blur
    got = mask_ops.resize(fine, 1, 2)[0, 0, :, 0]
    np.testing.assert_allclose(got, [(1 + 4) / 2, (25 + 36) / 2])


@pytest.mark.parametrize("slots", [0, 5, 16, 17])
def test_packed_masks_of_any_number_and_width(slots):
    rng = np.random.default_rng(0)
    coefficients = jnp.array(rng.standard_normal((2, slots, 4)), "float32")
    protos = jnp.array(rng.standard_normal((2, 6, 13, 4)), "float32")
    boxes = jnp.broadcast_to(jnp.array([0.0, 0, 13, 6])[None, None], (2, slots, 4))
    count = jnp.array([slots, slots // 2])
    got = jax.jit(mask_ops.packed_masks)(coefficients, protos, boxes, count)
    assert got.shape == (2, slots, 6, 2)
    want = np.asarray(mask_ops.mix(coefficients, protos)) > 0
    want[1, slots // 2 :] = False
    np.testing.assert_array_equal(got, np.packbits(want, axis=-1))


@pytest.mark.parametrize("group", range(8))
def test_masks_of_all_sizes_match_reference(group, assets):
    values = np.load(assets / "golden" / "decode_masks.npz")
    pick = lambda name: values[f"g{group}_{name}"]
    protos, coefficients = pick("proto").transpose(1, 2, 0), pick("coef")
    height, width, *size = map(int, pick("geom"))
    boxes, original = pick("boxes"), (height, width)
    np.testing.assert_allclose(
        box_ops.scale_boxes(boxes, tuple(size), original), pick("boxes_orig"), atol=1e-3
    )
    h, w = protos.shape[:2]
    scale = np.array([w / size[1], h / size[0]] * 2, np.float32)
    packed = mask_ops.packed_masks(
        jnp.array(coefficients)[None],
        jnp.array(protos)[None],
        jnp.array(boxes * scale)[None],
        jnp.array([len(boxes)]),
    )
    got = {
        "masks_proto_size": np.unpackbits(np.asarray(packed[0]), axis=-1)[..., :w] > 0,
        "masks_input_size": mask_ops.masks_at_input(
            coefficients, protos, boxes, tuple(size)
        ),
        "masks_orig_size": mask_ops.masks_at_original(
            coefficients, protos, pick("boxes_orig"), original
        ),
    }
    for name, masks in got.items():
        want = pick(name)
        assert masks.shape == want.shape
        assert masks.any()
        assert (masks != (want > 0)).mean() <= 1e-4


def packed(masks):
    """Returns masks [n, h, w] as the network's step packs them."""
    return np.packbits(masks, axis=-1)


@pytest.mark.parametrize(
    ("original", "gain", "pad", "small"),
    [
        ((64, 96), 1.0, (0, 0), (16, 24)),
        ((64, 96), 1.0, (0, 16), (24, 24)),  # padding above and below
        ((96, 64), 1.0, (16, 0), (24, 24)),  # and on both sides
        ((192, 128), 0.5, (8, 4), (26, 19)),  # 19 cells are no whole bytes
        ((16, 24), 4.0, (0, 0), (16, 24)),
    ],
)
def test_packed_masks_return_to_the_pixels_of_the_original(original, gain, pad, small):
    (height, width), (left, top) = original, pad
    cell = round(4 / gain) or 1  # pixels of the original per cell of a mask
    y, x, h, w = 3 * cell, 2 * cell, 5 * cell, 4 * cell
    masks = np.zeros((2, *small), bool)
    rows, columns = round(gain / 4 * height), round(gain / 4 * width)
    content = masks[:, top // 4 :, left // 4 :][:, :rows, :columns]
    content[0, 3:8, 2:6] = True
    content[1] = True  # all of the picture, and nothing of its padding
    boxes = np.array([[x, y, x + w, y + h], [0, 0, width, height]], np.float32)
    letterbox = (gain, gain, float(left), float(top))
    first, second = mask_ops.packed_at_original(
        packed(masks), boxes, letterbox, original
    )
    want = np.zeros(original, np.uint8)
    want[y : y + h, x : x + w] = 1
    # Interpolation rounds corners off, by less than half a cell.
    round_off = np.arange(cell // 2)
    for row in (y + round_off, y + h - 1 - round_off):
        for column in (x + round_off, x + w - 1 - round_off):
            want[np.ix_(row, column)] = first[np.ix_(row, column)]
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, want)
    assert second.shape == original and second.all()


def test_packed_masks_are_interpolated_as_pictures_are():
    rng = np.random.default_rng(3)
    coarse = rng.random((3, 7, 9)).astype(np.float32)
    masks = np.stack([cv2.resize(m, (36, 28)) for m in coarse]) > 0.5  # blobs
    original = (93, 131)
    # A box that leaves out some of the picture, with sides between pixels.
    boxes = np.array([[0, 0, 131, 93], [10.2, 20, 77.9, 60.5], [3, 3, 3, 3]])
    padded = np.pad(masks, ((0, 0), (2, 1), (0, 0)), constant_values=True)
    got = mask_ops.packed_at_original(
        packed(padded), boxes, (4 * 28 / 93, 4 * 36 / 131, 0.0, 8.0), original
    )
    for mask, found, (x1, y1, x2, y2) in zip(masks, got, boxes, strict=True):
        large = cv2.resize(mask.astype(np.float32), original[::-1])
        rows, columns = np.arange(93)[:, None], np.arange(131)
        inside = (rows >= y1) & (rows < y2) & (columns >= x1) & (columns < x2)
        sure = np.abs(large - 0.5) > 1e-3  # OpenCV rounds shares
        assert ((large > 0.5) & inside == found)[sure].all() and sure.mean() > 0.9
    assert not found.any()  # the empty box
