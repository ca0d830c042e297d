"""Images: what is drawn lies where it should, and odd input still gives a picture."""

import numpy as np
import pytest
from pictures import colors_in, is_colour, read, where

from yolojax.data.shapes.folder import draw_scene
from yolojax.visualize import (
    PALETTE,
    batch_grid,
    color,
    draw_objects,
    save_image,
    val_grid,
)
from yolojax.visualize.marks import box_corners, distinct_shades

NAMES = ["RBC", "WBC", "Platelets"]
GREY = np.full((400, 600, 3), 128, np.uint8)


def test_box_is_drawn_where_it_is_in_the_colour_of_its_class():
    before = GREY.copy()
    image = draw_objects(GREY, np.array([[100.4, 150, 300, 249.6]]), [1], NAMES)
    np.testing.assert_array_equal(GREY, before)  # the input is left alone
    for y, x in ((200, 100), (200, 300), (250, 200), (150, 250)):
        assert tuple(image[y, x]) == color(1)
    np.testing.assert_array_equal(image[160:240, 110:290], 128)  # nothing inside
    x1, y1, x2, y2 = where(image, color(1))
    assert abs(x1 - 100) <= 1 and abs(x2 - 300) <= 1 and abs(y2 - 250) <= 1
    assert 125 <= y1 < 149  # the label stands above the box
    label = image[y1:148, 100:140]
    assert (label.max(-1) < 60).any() or (label.min(-1) > 200).any()  # with letters


def test_labels_do_not_hide_each_other():
    boxes = np.array([[100, 100, 200, 200]] * 3)
    image = draw_objects(GREY, boxes, [0, 1, 2], NAMES, np.array([0.9, 0.8, 0.7]))
    areas = [(image == np.array(color(i))).all(-1).sum() for i in range(3)]
    assert min(areas) > 400  # every label shows most of its background


def test_label_stays_inside_the_image():
    for box in ([0, 0, 600, 400], [-50, -50, 20, 20], [590, 390, 700, 500]):
        image = draw_objects(GREY, np.array([box]), [0], NAMES, np.array([0.5]))
        assert (image == np.array(color(0))).all(-1).sum() > 300, box


def test_no_boxes_changes_nothing():
    image = draw_objects(GREY, np.zeros((0, 4)), np.zeros(0), NAMES, np.zeros(0))
    np.testing.assert_array_equal(image, GREY)


def test_odd_boxes_and_names():
    boxes = np.array(
        [[np.nan] * 4, [10, 10, 10, 10], [50, 50, 1e9, 90], [9, 90, 80, 60]]
    )
    names = ["Größe µm", "白血球", "$5_{x}", "x" * 200]
    image = draw_objects(GREY, boxes, [0, 1, 2, 7], names, np.ones(4))
    assert image.shape == GREY.shape
    assert not (image == np.array(color(0))).all(-1).any()  # the NaN box
    for class_id in (1, 2, 7):
        where(image, color(class_id))
    tiny = draw_objects(np.zeros((8, 8, 3), np.uint8), boxes[1:2], [0], names)
    assert tiny.shape == (8, 8, 3)


def test_names_outside_ascii_are_drawn():
    latin, cyrillic = (
        draw_objects(GREY, np.array([[100, 100, 200, 200]]), [0], [name])
        for name in ("aaa", "Ждж")
    )
    assert (latin != cyrillic).any()


def test_mask_is_filled_and_outlined_where_it_is():
    mask = np.zeros((1, 100, 150), bool)  # a quarter of the picture's size
    mask[0, 25:75, 25:100] = True
    image = draw_objects(GREY, np.array([[100, 100, 400, 300]]), [1], NAMES, masks=mask)
    inside = 0.6 * 128 + 0.4 * np.array(color(1))
    assert np.abs(image[120:280, 120:380] - inside).max() < 0.51
    np.testing.assert_array_equal(image[320:], 128)
    np.testing.assert_array_equal(image[:, 420:], 128)
    for y, x in ((200, 100), (200, 399), (299, 250)):
        assert is_colour(image[y, x], color(1)), (y, x)


def test_masks_of_neighbours_differ_in_colour():
    boxes = np.array([[10, 10, 60, 60], [50, 10, 90, 60], [200, 200, 230, 230]])
    shades = distinct_shades(boxes, np.array([1, 1, 1]))
    assert shades[0] == shades[2] == color(1) != shades[1]
    # Another class of the picture keeps its colour for itself.
    shades = distinct_shades(boxes, np.array([1, 1, 0]))
    assert shades[1] not in (color(0), color(1)) and shades[2] == color(0)
    crowd = distinct_shades(np.tile(boxes[:1], (30, 1)), np.zeros(30, int))
    assert len(set(crowd)) == 20
    assert distinct_shades(boxes[:0], np.zeros(0, int)) == []


def test_rotated_box_is_drawn_on_its_corners():
    box, angle = np.array([[200, 150, 400, 250]]), np.array([np.pi / 6])
    corners = box_corners(box, angle)[0]
    cos, sin = np.cos(angle[0]), np.sin(angle[0])
    # The x axis turns towards the y axis: the right end goes down.
    right = np.array([300, 200]) + 100 * np.array([cos, sin])
    np.testing.assert_allclose((corners[1] + corners[2]) / 2, right)
    np.testing.assert_allclose(
        np.ptp(box_corners(box, np.zeros(1))[0], axis=0), [200, 100]
    )
    image = draw_objects(GREY, box, [0], NAMES, angles=angle)
    for a, b in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        x, y = ((a + b) / 2).round().astype(int)
        assert is_colour(image[y - 1 : y + 2, x - 1 : x + 2], color(0)).any()
    assert is_colour(image[200, 300], (128, 128, 128))
    broken = draw_objects(GREY, box, [0], NAMES, angles=np.array([np.nan]))
    np.testing.assert_array_equal(broken, GREY)


def joints(points, visibility):
    return np.concatenate([points, np.reshape(visibility, (-1, 1))], 1)[None]


def test_joints_show_whether_they_are_visible():
    points = np.array([[100, 100], [200, 100], [300, 100]])
    box = np.array([[50, 50, 350, 350]])

    def drawn(visibility, scores=None):
        keypoints = joints(points, visibility)
        image = draw_objects(GREY, box, [0], NAMES, scores, keypoints=keypoints)
        return [
            is_colour(image[100, x], color(k)) for k, x in enumerate((100, 200, 300))
        ]

    # A ring has no colour of the joint in its middle, nor has a joint left out.
    assert drawn([2, 1, 0]) == [True, False, False]
    assert drawn([1, 1, 0]) == [True, True, False]  # labels without visibility
    assert drawn([0.9, 0.3, 0.1], np.ones(1)) == [True, False, False]
    np.testing.assert_array_equal(
        draw_objects(GREY, box, [0], NAMES, keypoints=joints(points, [0, 0, 0])),
        draw_objects(GREY, box, [0], NAMES, keypoints=joints(points, [0, 0, np.nan])),
    )


def test_skeleton_of_a_person_has_coloured_sides():
    points = np.zeros((17, 2))
    points[5], points[7] = (300, 100), (400, 100)  # left shoulder and elbow
    points[6], points[8] = (200, 200), (100, 200)  # right ones
    visible = np.isin(np.arange(17), (5, 6, 7, 8)) * 2
    image = draw_objects(
        GREY,
        np.array([[5, 5, 590, 390]]),
        [7],
        NAMES,
        keypoints=joints(points, visible),
    )
    assert is_colour(image[100, 350], color(1)) and is_colour(image[200, 150], color(0))
    assert is_colour(image[148:153, 248:253], color(2)).any()  # between the shoulders
    visible[7] = 0
    image = draw_objects(
        GREY,
        np.array([[5, 5, 590, 390]]),
        [7],
        NAMES,
        keypoints=joints(points, visible),
    )
    assert not is_colour(image[100, 350], color(1))


def test_palette_is_distinct():
    assert len(np.unique(PALETTE, axis=0)) == len(PALETTE) == 20
    pairs = PALETTE[:, None].astype(int) - PALETTE[None]
    distance = np.abs(pairs).sum(-1) + 999 * np.eye(len(PALETTE), dtype=int)
    assert distance.min() > 60
    assert color(len(PALETTE)) == color(0)


def batch(count: int, size: int = 128) -> dict[str, np.ndarray]:
    image = np.full((count, size, size, 3), 90, np.uint8)
    boxes = np.zeros((count, 5, 4), np.float32)
    boxes[:, 0] = np.array([0.25, 0.25, 0.75, 0.5]) * size
    boxes[:, 1] = np.array([0.1, 0.6, 0.9, 0.9]) * size
    valid = np.zeros((count, 5), bool)
    valid[:, 0] = True
    return {
        "image": image,
        "boxes": boxes,
        "classes": np.tile([0, 1, 2, 2, 2], (count, 1)),
        "valid": valid,
    }


def test_batch_grid_enlarges_small_images_and_skips_padding():
    grid = batch_grid(batch(1), NAMES)
    assert grid.dtype == np.uint8
    assert grid.shape[0] == grid.shape[1] > 3 * 128
    x1, _, x2, y2 = where(grid, color(0))
    factor = (grid.shape[1] - 16) / 128
    assert abs(x1 - 8 - 32 * factor) <= 2
    assert abs(x2 - 8 - 96 * factor) <= 2
    assert abs(y2 - 8 - 64 * factor) <= 2
    assert not (grid == np.array(color(1))).all(-1).any()  # not valid


@pytest.mark.parametrize("count, columns, lines", [(1, 1, 1), (3, 2, 2), (20, 4, 4)])
def test_batch_grid_layout(count, columns, lines):
    grid = batch_grid(batch(count, 64), NAMES, max_images=16)
    tile = (grid.shape[1] - 8) // columns
    assert grid.shape[0] == lines * tile + 8
    assert grid.shape[1] <= 2048 + 8 * 5


def test_batch_grid_of_large_and_of_no_images():
    grid = batch_grid(batch(16, 640), NAMES)
    assert 1900 < grid.shape[1] < 2120
    some = batch(3) | {"example_valid": np.array([True, False, False])}
    assert batch_grid(some, NAMES).shape == batch_grid(batch(1), NAMES).shape
    assert colors_in(batch_grid(batch(0), NAMES)) > 2  # a notice


def test_val_grid_shows_truth_left_and_confident_predictions_right():
    truth = batch(1)
    found = {
        "boxes": truth["boxes"],
        "classes": np.array([[2, 1, 0, 0, 0]]),
        "scores": np.array([[0.9, 0.25, 0.8, 0, 0]]),  # 0.25 is not above 0.25
        "valid": np.array([[True, True, False, False, False]]),
    }
    grid = val_grid(truth, found, NAMES)
    middle = grid.shape[1] / 2
    assert where(grid, color(0))[2] < middle
    assert where(grid, color(2))[0] > middle
    assert not (grid == np.array(color(1))).all(-1).any()
    assert (grid[:30, :60] > 200).any() and (grid[:30, int(middle) :] > 200).any()
    assert colors_in(val_grid(batch(0), found, NAMES)) > 2


def scenes(count=3, size=96):
    """A batch of drawn scenes with all that is known, and perfect predictions."""
    batch = {
        "image": np.zeros((count, size, size, 3), np.uint8),
        "boxes": np.zeros((count, 5, 4), np.float32),
        "classes": np.zeros((count, 5), np.int32),
        "valid": np.zeros((count, 5), bool),
        "masks": np.zeros((count, size // 4, size // 4), np.int32),
        "keypoints": np.zeros((count, 5, 4, 3), np.float32),
        "angles": np.zeros((count, 5), np.float32),
    }
    for row in range(count):
        scene = draw_scene(0, "train", row, size)
        batch["image"][row] = scene.image[..., ::-1]
        for slot, item in enumerate(scene.objects):
            batch["boxes"][row, slot] = item.box
            batch["classes"][row, slot] = item.class_id
            batch["valid"][row, slot] = True
            batch["masks"][row][item.mask[1::4, 1::4]] = slot + 1
            batch["keypoints"][row, slot] = item.keypoints
            batch["angles"][row, slot] = item.rotated_box[4]
    found = {key: batch[key] for key in ("boxes", "classes", "valid", "angles")}
    each = batch["masks"][:, None] == np.arange(1, 6)[:, None, None]
    found["masks"] = np.packbits(each, axis=-1)
    found["scores"] = batch["valid"] * np.float32(0.9)
    found["keypoints"] = np.minimum(batch["keypoints"], [1e9, 1e9, 1])
    return batch, found


@pytest.mark.parametrize("extra", ("masks", "keypoints", "angles"))
def test_grids_draw_what_the_batch_holds(extra):
    batch, found = scenes()
    plain = ("image", "boxes", "classes", "valid")
    base = {key: batch[key] for key in plain}
    shown = {key: found[key] for key in ("boxes", "classes", "valid", "scores")}
    more, predicted = base | {extra: batch[extra]}, shown | {extra: found[extra]}
    assert (batch_grid(more, NAMES) != batch_grid(base, NAMES)).mean() > 0.005
    absent = shown | dict.fromkeys({"masks", "keypoints", "angles"} - {extra})
    grids = [
        val_grid(more, shown, NAMES),
        val_grid(base, predicted, NAMES),
        val_grid(more, predicted, NAMES),
    ]
    # Left of each pair are labels and right are predictions: each side changes alone.
    assert len({grid.tobytes() for grid in grids}) == 3
    np.testing.assert_array_equal(
        val_grid(more, absent | {extra: found[extra]}, NAMES), grids[2]
    )


def test_both_forms_of_true_masks_and_packed_ones_look_alike():
    batch, found = scenes(1)
    base = {key: batch[key] for key in ("image", "boxes", "classes", "valid")}
    each = (batch["masks"][:, None] == np.arange(1, 6)[:, None, None]).astype(np.uint8)
    grid = batch_grid(base | {"masks": batch["masks"]}, NAMES)
    np.testing.assert_array_equal(batch_grid(base | {"masks": each}, NAMES), grid)
    pair = val_grid(base | {"masks": each}, found | {"keypoints": None}, NAMES)
    assert pair.shape[1] > 1.9 * grid.shape[1] - 50


def test_whole_images_are_captioned():
    image = np.full((3, 64, 64, 3), 128, np.uint8)
    batch = {"image": image, "labels": np.array([0, 1, 2])}
    grid = batch_grid(batch, NAMES)
    for label in range(3):
        where(grid, color(label))
    right, wrong = (0, 120, 64), (190, 20, 50)
    guess = np.eye(3)[[0, 2, 2]] * 0.8 + 0.05
    grid = val_grid(batch, {"probabilities": guess}, NAMES)
    tile = (grid.shape[1] - 8) // 2  # two columns: right, wrong; right
    assert where(grid, wrong)[0] > tile and where(grid, wrong)[3] < grid.shape[0] / 2
    assert (
        is_colour(grid[:, : tile + 4], right).sum() > 2 * is_colour(grid, wrong).sum()
    )
    some = batch | {"example_valid": np.array([True, False, False])}
    assert not is_colour(val_grid(some, {"probabilities": guess}, NAMES), wrong).any()
    none = batch | {"example_valid": np.zeros(3, bool)}
    assert colors_in(val_grid(none, {"probabilities": guess}, NAMES)) > 2


def test_save_image(tmp_path):
    image = draw_objects(GREY, np.array([[10, 50, 90, 90]]), [0], NAMES)
    save_image(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(read(tmp_path / "new" / "a.png"), image)
    save_image(tmp_path / "b.jpg", image)
    assert np.abs(read(tmp_path / "b.jpg").astype(int) - image).mean() < 2
    with pytest.raises(ValueError, match="cannot write images of type '.xyz'"):
        save_image(tmp_path / "c.xyz", image)
    names = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert names == ["a.png", "b.jpg"]


def test_pictures_of_real_labels(assets):
    folder = assets / "data" / "bccd"
    path = sorted((folder / "images" / "val").iterdir())[0]
    rows = np.loadtxt(folder / "labels" / "val" / f"{path.stem}.txt", ndmin=2)
    image = read(path)
    scale = np.array([image.shape[1], image.shape[0]] * 2)
    low, high = rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2
    boxes = np.concatenate([low, high], 1) * scale
    drawn = draw_objects(image, boxes, rows[:, 0], NAMES)
    for class_id in np.unique(rows[:, 0]).astype(int):
        where(drawn, color(class_id))
