"""Images: what is drawn lies where it should, and odd input still gives a picture."""

import cv2
import numpy as np
import pytest
from pictures import colors_in, is_colour, read, where

from yolojax.data.shapes.folder import draw_scene
from yolojax.visualize import (
    PALETTE,
    DrawOptions,
    Objects,
    batch_grid,
    color,
    draw,
    draw_classes,
    draw_objects,
    save_image,
    small_jpeg,
    val_grid,
)
from yolojax.visualize.marks import box_corners
from yolojax.visualize.tags import legend_bar

NAMES = ["RBC", "WBC", "Platelets"]
GREY = np.full((400, 600, 3), 128, np.uint8)


def test_box_is_drawn_where_it_is_in_the_colour_of_its_class():
    before = GREY.copy()
    image, _ = draw_objects(GREY, np.array([[100.4, 150, 300, 249.6]]), [1], NAMES)
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
    image, _ = draw_objects(GREY, boxes, [0, 1, 2], NAMES, np.array([0.9, 0.8, 0.7]))
    areas = [(image == np.array(color(i))).all(-1).sum() for i in range(3)]
    assert min(areas) > 400  # every label shows most of its background


def test_label_stays_inside_the_image():
    for box in ([0, 0, 600, 400], [-50, -50, 20, 20], [590, 390, 700, 500]):
        image, _ = draw_objects(GREY, np.array([box]), [0], NAMES, np.array([0.5]))
        assert (image == np.array(color(0))).all(-1).sum() > 300, box


def test_no_boxes_changes_nothing():
    image, _ = draw_objects(GREY, np.zeros((0, 4)), np.zeros(0), NAMES, np.zeros(0))
    np.testing.assert_array_equal(image, GREY)


def test_odd_boxes_and_names():
    boxes = np.array(
        [[np.nan] * 4, [10, 10, 10, 10], [50, 50, 1e9, 90], [9, 90, 80, 60]]
    )
    names = ["Größe µm", "白血球", "$5_{x}", "x" * 200]
    image, _ = draw_objects(GREY, boxes, [0, 1, 2, 7], names, np.ones(4))
    assert image.shape == GREY.shape
    assert not (image == np.array(color(0))).all(-1).any()  # the NaN box
    for class_id in (1, 2, 7):
        where(image, color(class_id))
    tiny, _ = draw_objects(np.zeros((8, 8, 3), np.uint8), boxes[1:2], [0], names)
    assert tiny.shape == (8, 8, 3)


def test_names_outside_ascii_are_drawn():
    latin, cyrillic = (
        draw_objects(GREY, np.array([[100, 100, 200, 200]]), [0], [name])[0]
        for name in ("aaa", "Ждж")
    )
    assert (latin != cyrillic).any()


def test_mask_is_filled_and_outlined_where_it_is():
    mask = np.zeros((1, 100, 150), bool)  # a quarter of the picture's size
    mask[0, 25:75, 25:100] = True
    image, _ = draw_objects(
        GREY, np.array([[100, 100, 400, 300]]), [1], NAMES, masks=mask
    )
    inside = 0.6 * 128 + 0.4 * np.array(color(1))
    assert np.abs(image[120:280, 120:380] - inside).max() < 0.51
    np.testing.assert_array_equal(image[320:], 128)
    np.testing.assert_array_equal(image[:, 420:], 128)
    for y, x in ((200, 100), (200, 399), (299, 250)):
        assert is_colour(image[y, x], color(1)), (y, x)


def test_touching_masks_keep_the_colour_of_their_class_beside_a_seam():
    masks = np.zeros((2, 400, 600), bool)
    masks[0, 100:300, 100:300] = masks[1, 100:300, 300:500] = True
    boxes = np.array([[100, 100, 300, 300], [300, 100, 500, 300]])
    image, _ = draw_objects(GREY, boxes, [1, 1], NAMES, masks=masks)
    inside = 0.6 * 128 + 0.4 * np.array(color(1))
    for x in (200, 400):
        assert np.abs(image[200, x] - inside).max() < 0.51
    assert (image[110:290, 298:302].min(-1) == 255).any(1).all()
    for x in (100, 499):  # what touches nothing has no seam
        assert (image[110:290, x - 3 : x + 4].min(-1) < 255).all()


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
    image, _ = draw_objects(GREY, box, [0], NAMES, angles=angle)
    for a, b in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        x, y = ((a + b) / 2).round().astype(int)
        assert is_colour(image[y - 1 : y + 2, x - 1 : x + 2], color(0)).any()
    assert is_colour(image[200, 300], (128, 128, 128))
    broken, _ = draw_objects(GREY, box, [0], NAMES, angles=np.array([np.nan]))
    np.testing.assert_array_equal(broken, GREY)


def joints(points, visibility):
    return np.concatenate([points, np.reshape(visibility, (-1, 1))], 1)[None]


def test_joints_show_whether_they_are_visible():
    points = np.array([[100, 100], [200, 100], [300, 100]])
    box = np.array([[50, 50, 350, 350]])

    def drawn(visibility, scores=None):
        keypoints = joints(points, visibility)
        image, _ = draw_objects(GREY, box, [0], NAMES, scores, keypoints=keypoints)
        return [
            is_colour(image[100, x], color(k)) for k, x in enumerate((100, 200, 300))
        ]

    # A ring has no colour of the joint in its middle, nor has a joint left out.
    assert drawn([2, 1, 0]) == [True, False, False]
    assert drawn([1, 1, 0]) == [True, True, False]  # labels without visibility
    assert drawn([0.9, 0.3, 0.1], np.ones(1)) == [True, False, False]
    np.testing.assert_array_equal(
        draw_objects(GREY, box, [0], NAMES, keypoints=joints(points, [0, 0, 0]))[0],
        draw_objects(GREY, box, [0], NAMES, keypoints=joints(points, [0, 0, np.nan]))[
            0
        ],
    )


def skeleton(name, visible, **options):
    points = np.zeros((17, 2))
    points[5], points[7] = (300, 100), (400, 100)  # left shoulder and elbow
    points[6], points[8] = (200, 200), (100, 200)  # right ones
    box = np.array([[5, 5, 590, 390]])
    objects = Objects(box, [0], keypoints=joints(points, visible))
    return draw(GREY, objects, [name], DrawOptions(**options))[0]


def test_skeleton_of_a_person_has_coloured_sides():
    visible = np.isin(np.arange(17), (5, 6, 7, 8)) * 2
    image = skeleton("tall person", visible)
    assert is_colour(image[100, 350], color(1)) and is_colour(image[200, 150], color(0))
    assert is_colour(image[148:153, 248:253], color(2)).any()  # between the shoulders
    visible[7] = 0
    assert not is_colour(skeleton("Persons", visible)[100, 350], color(1))


def test_joints_without_a_known_skeleton_are_points():
    seventeen = skeleton("horse", np.isin(np.arange(17), (5, 6, 7, 8)) * 2)
    three = draw_objects(
        *(GREY, np.array([[50, 50, 350, 350]]), [0], NAMES),
        keypoints=joints(np.array([[100, 100], [300, 100], [200, 300]]), [2, 2, 2]),
    )[0]
    for image, disc, between in (
        (seventeen, (100, 300), image_box(80, 315, 120, 385)),
        (three, (100, 100), image_box(125, 115, 290, 280)),
    ):
        assert (image[disc] != 128).any()
        np.testing.assert_array_equal(image[between], 128)


def test_size_and_lines_of_joints_can_be_chosen():
    visible = np.isin(np.arange(17), (5, 6, 7, 8)) * 2
    large = skeleton("person", visible, kpt_radius=12, kpt_line=False)
    assert is_colour(large[110, 300], color(1))  # 10 pixels from the shoulder
    assert is_colour(skeleton("person", visible)[110, 300], (128, 128, 128))
    small = skeleton("person", visible, kpt_radius=1, kpt_line=False)
    for image in (large, small):
        np.testing.assert_array_equal(image[80:120, 315:385], 128)
    assert (small[98:103, 298:303] != 128).any()
    np.testing.assert_array_equal(small[104:110, 298:303], 128)
    with pytest.raises(ValueError, match="kpt_radius = 0 is no number of pixels"):
        DrawOptions(kpt_radius=0)


def image_box(top, left, bottom, right):
    return slice(top, bottom), slice(left, right)


def test_palette_is_distinct():
    assert len(np.unique(PALETTE, axis=0)) == len(PALETTE) == 80
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


def small_objects(count: int = 6) -> dict[str, np.ndarray]:
    corner = 40 + 100 * np.stack(np.divmod(np.arange(count), 3), 1)
    boxes = np.concatenate([corner, corner + 12], 1).astype(np.float32)
    return {
        "image": np.full((1, 400, 400, 3), 128, np.uint8),
        "boxes": boxes[None],
        "classes": np.full((1, count), 1),
        "valid": np.ones((1, count), bool),
    }


def test_small_objects_have_a_legend_and_no_labels():
    batch = small_objects()
    image, bare = draw_objects(
        batch["image"][0], batch["boxes"][0], batch["classes"][0], NAMES
    )
    assert bare == [1] * 6
    painted = (image != 128).any(-1)
    for x1, y1, x2, y2 in batch["boxes"][0].astype(int):
        painted[y1 - 2 : y2 + 3, x1 - 2 : x2 + 3] = False
    assert not painted.any()  # nothing but boxes
    grid = batch_grid(batch, NAMES)
    assert where(grid, color(1))[3] > 416  # in the legend below the tile
    large = batch | {"boxes": np.tile([[50, 50, 300, 300.0]], (1, 6, 1))}
    assert batch_grid(large | {"valid": np.eye(1, 6, dtype=bool)}, NAMES).shape == (
        *(416, 416),
        3,
    )
    found = batch | {"scores": np.full((1, 6), 0.9)}
    assert where(val_grid(batch, found, NAMES), color(1))[3] > 34 + 416


def test_labels_do_not_hide_objects():
    # A crowd of boxes that are larger than their labels, without any gap.
    left, top = (v.ravel() for v in np.mgrid[0:600:60, 0:400:25])
    boxes = np.stack([left, top, left + 60, top + 25], 1)
    image, bare = draw_objects(GREY, boxes, np.zeros(len(boxes), int), ["car"])
    assert len(bare) > 0.9 * len(boxes)


def test_legend_of_many_classes_is_cut():
    names = [f"class number {i}" for i in range(1000)]
    some, all_of_them = (
        legend_bar(range(n), names, 600, background=24) for n in (60, 1000)
    )
    assert some.shape[1] == all_of_them.shape[1] == 600
    assert some.shape[0] <= all_of_them.shape[0] < some.shape[0] + 30


@pytest.mark.parametrize("kind", ("objects", "classes"))
def test_tiles_bear_the_names_of_their_files(kind):
    shown = batch(2) if kind == "objects" else {"labels": np.array([0, 1])}
    shown |= {"image": np.full((2, 256, 256, 3), 90, np.uint8)}
    shown |= {"image_id": np.array([1, 0])}
    guess = {"probabilities": np.full((2, 3), 1 / 3)}
    found = batch(2) | {"scores": np.zeros((2, 5))} if kind == "objects" else guess
    for drawn in (
        lambda files: batch_grid(shown, NAMES, files=files),
        lambda files: val_grid(shown, found, NAMES, files=files),
    ):
        without = drawn(None)
        one, other, long = (
            drawn([name, "/data/b.jpg"]) for name in ("x/a.jpg", "x/c.jpg", "d" * 300)
        )
        assert one.shape == other.shape == long.shape > without.shape
        changed = np.argwhere((one != other).any(-1))
        assert changed[:, 1].min() > one.shape[1] / 2  # image 0 stands on the right
        assert (drawn(["y/a.jpg", "b.jpg"]) == one).all()  # names without folders


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
    image, _ = draw_objects(GREY, np.array([[10, 50, 90, 90]]), [0], NAMES)
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
    drawn, _ = draw_objects(image, boxes, rows[:, 0], NAMES)
    for class_id in np.unique(rows[:, 0]).astype(int):
        where(drawn, color(class_id))


def test_best_classes_stand_in_the_corner():
    shares = np.array([0.1, 0.6, 0.05, 0.11, 0.02, 0.12])
    names = {i: f"name {i}" for i in range(6)}
    image = draw_classes(GREY, shares, names)
    tops = [where(image, color(i))[1] for i in (1, 5, 3, 0, 2)]
    assert tops == sorted(tops) and tops[0] == 0  # best first
    assert not is_colour(image, color(4)).any()  # the sixth
    np.testing.assert_array_equal(image[:, 300:], 128)
    for size, lines in ((64, 2), (28, 1), (4, 1)):
        tiny = draw_classes(GREY[:size, :size], shares, names)
        assert tiny.shape == (size, size, 3)
        shown = sum(is_colour(tiny, color(i)).any() for i in range(6))
        assert shown == lines


def test_labels_of_large_pictures_grow_with_them():
    def height(size):
        image = np.full((size, size, 3), 128, np.uint8)
        box = np.array([[0.2, 0.2, 0.8, 0.8]]) * size
        drawn = draw_objects(image, box, [0], NAMES)[0]
        return 0.2 * size - where(drawn, color(0))[1]

    assert height(4800) > 1.7 * height(2400) > 0


def test_a_small_jpeg_has_few_bytes_and_the_proportions_of_the_picture():
    noise = np.random.default_rng(0).integers(0, 256, (600, 1200, 3), np.uint8)
    data, (height, width) = small_jpeg(noise, 30_000, 640)
    assert len(data) <= 30_000 and width == 2 * height < 640
    calm, size = small_jpeg(np.full((90, 60, 3), (200, 10, 10), np.uint8), 30_000, 640)
    image = cv2.imdecode(np.frombuffer(calm, np.uint8), cv2.IMREAD_COLOR)
    assert size == image.shape[:2] == (90, 60)
    assert np.abs(image[..., ::-1] - np.array([200, 10, 10])).max() < 8
    with pytest.raises(ValueError, match="no JPEG"):
        small_jpeg(noise, 100, 640)
