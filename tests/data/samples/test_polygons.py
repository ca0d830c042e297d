"""Polygons: reference arithmetic where there is one, properties everywhere else."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outlines import corners, star

from yolojax.data.samples import polygons

SQUARE = np.array([[0, 0], [8, 0], [8, 4], [0, 4]], np.float32)


@pytest.fixture
def shapes(assets):
    """Returns reference arrays of polygon arithmetic, too large for this folder."""
    return dict(np.load(assets / "golden" / "augment_shapes.npz", allow_pickle=False))


# Resampling


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("count", [100, 151, 1000])
def test_resampling_matches_reference(shapes, number, count):
    got = polygons.resample(shapes[f"resample/in{number}"], count)
    np.testing.assert_array_equal(got, shapes[f"resample/out{number}_n{count}"])


def test_resampling_by_hand():
    got = polygons.resample(SQUARE, 8)
    # Corners at 0 .. 4 of the closed outline, and 0, 2, 4 more.
    want = [[0, 0], [0, 0], [8, 0], [8, 4], [8, 4], [0, 4], [0, 0], [0, 0]]
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(polygons.resample(SQUARE, 4), SQUARE)
    np.testing.assert_allclose(
        polygons.resample(SQUARE, 3), [[0, 0], [8, 4], [0, 0]], atol=1e-6
    )


def test_polygons_of_one_sample_get_one_length():
    rng = np.random.default_rng(0)
    mixed = [star(rng, 5), star(rng, 40), star(rng, 99)]
    got = polygons.resampled(mixed, 100)
    assert got.shape == (3, 100, 2) and got.dtype == np.float32
    for row, polygon in zip(got, mixed, strict=True):
        np.testing.assert_array_equal(row, polygons.resample(polygon, 100))
    assert polygons.resampled([*mixed, star(rng, 120)], 100).shape == (4, 121, 2)
    assert polygons.resampled([star(rng, 100)] * 2, 100).shape == (2, 100, 2)
    assert polygons.resampled([], 100).shape == (0, 100, 2)
    same = [star(rng, 4) for _ in range(3)]  # all at once inside
    for row, polygon in zip(polygons.resampled(same, 100), same, strict=True):
        np.testing.assert_array_equal(row, polygons.resample(polygon, 100))


# Bounds


def test_bounds_inside_match_reference(shapes):
    got = polygons.bounds_inside(shapes["segment_to_box/in"], (48, 64))
    np.testing.assert_allclose(got, shapes["segment_to_box/out_w64_h48"], atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_bounds_inside_are_those_of_dense_points(seed):
    """Bounds agree with many points of the outline, and the image corners inside."""
    rng = np.random.default_rng(seed)
    shape = star(rng, center=rng.uniform(-10, 50, 2), radius=rng.uniform(5, 40))
    dense = polygons.resample(shape, 50_000)
    inside = ((dense >= 0) & (dense <= (40, 30))).all(axis=1)
    parts = [dense[inside]]
    for x, y in ((0, 0), (40, 0), (0, 30), (40, 30)):
        if cv2.pointPolygonTest(shape, (x, y), False) >= 0:
            parts.append(np.array([[x, y]], np.float32))
    want = np.concatenate(parts)
    (got,) = polygons.bounds_inside(shape[None], (30, 40))
    if len(want):
        want = np.concatenate([want.min(axis=0), want.max(axis=0)])
        np.testing.assert_allclose(got, want, atol=0.01)
    else:
        assert (got[2:] - got[:2]).prod() < 0.01


def test_bounds_of_the_corner_of_an_image_inside_a_polygon():
    around = np.array([[-5, -5], [60, -5], [60, 60], [-5, 60]], np.float32)
    away = around + 200
    got = polygons.bounds_inside(np.stack([around, away]), (30, 40))
    np.testing.assert_array_equal(got, [[0, 0, 40, 30], [0, 0, 0, 0]])
    none = polygons.bounds_inside(np.zeros((0, 9, 2), np.float32), (3, 4))
    assert none.shape == (0, 4)


# Rotated rectangles


def test_rotated_boxes_match_reference(shapes):
    got = polygons.rotated_boxes(shapes["obb/corners"])
    np.testing.assert_allclose(got, shapes["obb/back_xywhr"], atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    angle=st.floats(-np.pi / 4 + 0.01, 3 * np.pi / 4 - 0.01),
    width=st.floats(12, 40),
    height=st.floats(2, 10),
)
def test_rotated_boxes_of_rectangles_return(angle, width, height):
    want = np.array([30.0, 20.0, width, height, angle])
    points = polygons.resample(corners(want), 100)
    np.testing.assert_allclose(polygons.rotated_boxes(points[None])[0], want, atol=0.01)


def test_clipped_rotated_boxes_match_reference(shapes):
    given_ = shapes["obb_clip/in_segments"]
    got, cut, boxes = polygons.clip_rotated(given_, (36, 40))
    want = shapes["obb_clip/out_segments_w40_h36"]
    np.testing.assert_allclose(got, want, atol=1e-3)
    assert 30 < len(cut) < len(given_)
    want = shapes["obb_clip/out_boxes_w40_h36"][cut]
    np.testing.assert_allclose(boxes, want, atol=1e-3)
    xywhr = shapes["obb_clip/out_xywhr_w40_h36"]
    seen = xywhr[:, 2] > 0
    delta = polygons.rotated_boxes(got[seen]) - xywhr[seen]
    square = np.abs(xywhr[seen, 2] - xywhr[seen, 3]) < 1e-3  # either side is longer
    period = np.where(square, np.pi / 2, np.pi)
    delta[:, 4] = np.mod(delta[:, 4] + period / 2, period) - period / 2
    np.testing.assert_allclose(delta, 0, atol=1e-3)


def test_what_is_outside_becomes_nothing():
    outside = polygons.resample(SQUARE, 10)[None] - 20
    got, cut, boxes = polygons.clip_rotated(outside, (30, 40))
    assert cut.tolist() == [0]
    assert not got.any() and not boxes.any()


# Masks


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_masks_match_reference(shapes, ratio):
    masks = polygons.object_masks(shapes["polygons_px"], (48, 64), ratio)
    np.testing.assert_array_equal(masks, shapes[f"separate_ds{ratio}"])
    whole, order = polygons.overlap_map(masks)
    np.testing.assert_array_equal(whole, shapes[f"overlap_ds{ratio}"])
    np.testing.assert_array_equal(order, shapes[f"overlap_order_ds{ratio}"])


@pytest.mark.parametrize(("hw", "ratio"), [((48, 40), 4), ((48, 40), 3), ((50, 41), 4)])
def test_masks_equal_those_of_a_whole_canvas(hw, ratio):
    """Drawing only what a polygon covers changes nothing, also outside the image."""
    rng = np.random.default_rng(ratio)
    found = np.stack(
        [
            polygons.resample(star(rng, center=rng.uniform(-15, 60, 2)), 200)
            for _ in range(30)
        ]
    )
    got = polygons.object_masks(found, hw, ratio)
    size = (hw[1] // ratio, hw[0] // ratio)
    for mask, points in zip(got, found, strict=True):
        canvas = np.zeros(hw, np.uint8)
        cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
        np.testing.assert_array_equal(mask, cv2.resize(canvas, size))
    assert got.any(axis=(1, 2)).sum() > 10 and not got.any(axis=(1, 2)).all()


def test_map_of_more_objects_than_a_byte_counts():
    masks = np.zeros((300, 20, 20), np.uint8)
    masks.reshape(300, 400)[np.arange(300), np.arange(300)] = 1
    whole, order = polygons.overlap_map(masks)
    assert whole.dtype == np.int32 and whole.max() == 300
    np.testing.assert_array_equal(order, np.arange(300))  # equal areas keep their order
    empty, order = polygons.overlap_map(np.zeros((0, 5, 6), np.uint8))
    assert empty.shape == (5, 6) and not empty.any() and order.shape == (0,)
