"""From pictures to inputs, and from what is found in these back to pictures."""

import numpy as np
import pytest

from yolojax.inference import fitting as fit
from yolojax.inference.fitting import Fitting
from yolojax.ops.boxes import letterbox_geometry

USUAL = Fitting(imgsz=64, rect=True, whole=False, tiles=0, retina_masks=False)
SQUARE = Fitting(imgsz=64, rect=False, whole=False, tiles=0, retina_masks=False)
HWS = [(48, 80), (100, 37), (64, 64), (1, 1), (20_000, 3), (7, 900)]


def forward(points, view):
    """Returns points [N, 2] of a picture where they lie in its input."""
    gain_h, gain_w, left, top = letterbox_geometry(view.input_hw, view.hw)
    return points * [gain_w, gain_h] + [left, top]


def row_of(boxes, classes=None, valid=None, **fields):
    count = len(boxes)
    return {
        "boxes": np.asarray(boxes, np.float32),
        "scores": np.linspace(0.9, 0.5, count, dtype=np.float32),
        "classes": np.arange(count) if classes is None else np.asarray(classes),
        "valid": np.ones(count, bool) if valid is None else np.asarray(valid),
        "angles": None,
        "keypoints": None,
        "coefficients": None,
    } | fields


@pytest.mark.parametrize("hw", HWS)
def test_inputs_have_sides_that_the_network_takes(hw):
    (view,) = fit.views(hw, USUAL)
    assert max(view.input_hw) == 64 and min(view.input_hw) in (32, 64)
    (view,) = fit.views(hw, SQUARE)
    assert view.input_hw == (64, 64)


@pytest.mark.parametrize("hw", HWS)
def test_an_input_is_the_picture_between_grey(hw):
    """White pictures: what is not grey has the shape of the picture; RGB is turned."""
    (view,) = fit.views(hw, USUAL)
    picture = np.full((*hw, 3), (10, 20, 250), np.uint8)
    pixels = fit.pixels(picture, view)
    assert pixels.shape == (*view.input_hw, 3) and pixels.dtype == np.uint8
    inside = (pixels != 114).any(-1)
    assert (pixels[inside] == (250, 20, 10)).all()
    height, width = (np.ptp(np.nonzero(inside)[axis]) + 1 for axis in (0, 1))
    gain = 64 / max(hw)
    assert abs(height - max(1, hw[0] * gain)) <= 1
    assert abs(width - max(1, hw[1] * gain)) <= 1


@pytest.mark.parametrize("fitting", [USUAL, SQUARE])
@pytest.mark.parametrize("hw", [(48, 80), (100, 37), (64, 64), (640, 480)])
def test_boxes_and_keypoints_go_back_to_where_they_are(hw, fitting):
    rng = np.random.default_rng(0)
    (view,) = fit.views(hw, fitting)
    corners = np.sort(rng.uniform(0, 1, (5, 2, 2)), axis=1) * hw[::-1]
    boxes = forward(corners.reshape(-1, 2), view).reshape(5, 4)
    points = rng.uniform(0, 1, (5, 3, 2)) * hw[::-1]
    keypoints = np.concatenate([forward(points, view), np.ones((5, 3, 1))], -1)
    row = row_of(boxes, keypoints=keypoints.astype(np.float32))
    found = fit.found_in(row, view, fitting)
    np.testing.assert_allclose(found.boxes, corners.reshape(5, 4), atol=1e-3)
    np.testing.assert_allclose(found.keypoints[..., :2], points, atol=1e-3)
    assert found.classes.dtype == np.int32 and found.boxes.dtype == np.float32


def test_boxes_are_cut_at_the_border_but_rotated_ones_are_not():
    (view,) = fit.views((48, 80), USUAL)
    outside = forward(np.array([[-10.0, -5.0], [100.0, 60.0]]), view).reshape(1, 4)
    found = fit.found_in(row_of(outside), view, USUAL)
    np.testing.assert_allclose(found.boxes, [[0, 0, 80, 48]], atol=1e-4)
    angles = np.array([0.3], np.float32)
    found = fit.found_in(row_of(outside, angles=angles), view, USUAL)
    np.testing.assert_allclose(found.boxes, [[-10, -5, 100, 60]], atol=1e-3)
    np.testing.assert_array_equal(found.angles, angles)


def test_rows_that_are_not_valid_are_left_out():
    (view,) = fit.views((64, 64), USUAL)
    boxes = [[0, 0, 9, 9], [1, 1, 5, 5], [2, 2, 8, 8]]
    found = fit.found_in(row_of(boxes, valid=[1, 0, 1]), view, USUAL)
    np.testing.assert_array_equal(found.boxes, np.array(boxes, np.float32)[[0, 2]])
    np.testing.assert_array_equal(found.classes, [0, 2])
    nothing = fit.found_in(row_of(boxes, valid=[0, 0, 0]), view, USUAL)
    assert nothing.boxes.shape == (0, 4)


@pytest.mark.parametrize("retina", [False, True])
def test_masks_cover_the_object_and_no_more(retina):
    """A prototype that is positive in a rectangle of the picture, cut by its box."""
    hw = (96, 128)
    fitting = Fitting(64, True, False, 0, retina)
    (view,) = fit.views(hw, fitting)
    truth = np.array([[32.0, 16.0], [96.0, 80.0]])
    box = forward(truth, view).reshape(1, 4)
    height, width = (side // 4 for side in view.input_hw)
    y, x = np.mgrid[:height, :width] * 4 + 2
    inside = (x > box[0, 0]) & (x < box[0, 2]) & (y > box[0, 1]) & (y < box[0, 3])
    protos = np.where(inside, 5.0, -5.0).astype(np.float32)[..., None]
    row = row_of(box, coefficients=np.ones((1, 1), np.float32), protos=protos)
    found = fit.found_in(row, view, fitting)
    shape = hw if retina else view.input_hw
    assert found.masks.shape == (1, *shape) and found.masks.dtype == bool
    rows, columns = np.nonzero(found.masks[0])
    corners = truth if retina else forward(truth, view)
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    np.testing.assert_allclose([low, high], corners, atol=3 if retina else 2)
    assert (found.letterbox is None) == retina


def test_whole_pictures_are_a_crop_and_probabilities():
    fitting = Fitting(64, False, True, 0, False)
    (view,) = fit.views((100, 200), fitting)
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, :45] = picture[:, 155:] = 255  # what the middle does not show
    picture[..., 0] = 7
    pixels = fit.pixels(picture, view)
    assert pixels.shape == (64, 64, 3)
    assert (pixels[..., 2] == 7).all() and (pixels[..., :2] == 0).all()
    shares = np.array([0.25, 0.75], np.float32)
    found = fit.found_in({"probabilities": shares}, view, fitting)
    np.testing.assert_array_equal(found.probabilities, shares)
    assert found.boxes.shape == (0, 4)


def test_tiles_come_after_the_whole_picture_and_cover_it():
    fitting = Fitting(64, True, False, 64, False)
    whole, *tiles = fit.views((100, 150), fitting)
    assert (whole.top, whole.left, whole.hw) == (0, 0, (100, 150))
    covered = np.zeros((100, 150), bool)
    for view in tiles:
        part = np.s_[view.top : view.top + 64, view.left : view.left + 64]
        covered[part] = True
        assert view.hw == view.input_hw == (64, 64)
    assert covered.all()
    assert len(fit.views((60, 64), fitting)) == 1  # one tile were the picture itself
    picture = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    last = tiles[-1]
    part = picture[last.top : last.top + 64, last.left : last.left + 64]
    np.testing.assert_array_equal(fit.pixels(picture, last), part[..., ::-1])
