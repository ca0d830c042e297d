"""Masks of prototypes: sizes, packing, mapping back to the original."""

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
