"""Plans are pure numbers: reference arithmetic, properties, independence of draws."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import GOLDEN
from recipes import (
    PLAIN,
    USUAL,
    affine_cases,
    boxed,
    data_set,
    mosaic_case,
    options_of,
    recipe_of,
    sample,
)

from yolojax.data import geometry
from yolojax.data.samples import objects, plan
from yolojax.data.samples.objects import Annotations


def pixels(boxes_n, hw):
    rows = np.concatenate([np.zeros((len(boxes_n), 1), np.float32), boxes_n], axis=1)
    return geometry.label_pixels(rows, hw)


# Sizes


def test_resized_size_matches_reference(golden):
    table = golden("augment_resize_on_load")["size_table"]
    got = [geometry.resized_hw((h, w), s) for h, w, s, _, _ in table.tolist()]
    np.testing.assert_array_equal(got, table[:, 3:])


def test_letterbox_parameters_match_reference(golden):
    table = golden("letterbox")
    columns = table["columns"].tolist()
    for row in table["params"].tolist():
        want = dict(zip(columns, row, strict=True))
        got = geometry.letterbox(
            (want["h"], want["w"]),
            (want["size"], want["size"]),
            scaleup=bool(want["scaleup"]),
            minimal=bool(want["auto"]),
        )
        assert got.new_hw == (want["new_h"], want["new_w"])
        sides = (got.top, got.bottom, got.left, got.right)
        assert sides == tuple(want[k] for k in ("top", "bottom", "left", "right"))
        assert got.out_hw == (want["out_h"], want["out_w"])


def test_letterbox_options_match_reference(golden):
    stored = golden("augment_letterbox")
    for number, case in enumerate(json.loads(str(stored["meta_json"]))):
        options = dict(case["options"])
        names = {"auto": "minimal", "scale_fill": "stretch", "scaleFill": "stretch"}
        options = {names.get(key, key): value for key, value in options.items()}
        got = geometry.letterbox(
            tuple(case["in_hw"]), tuple(case["new_shape"]), **options
        )
        sides = (got.top, got.bottom, got.left, got.right)
        assert sides == tuple(case[k] for k in ("top", "bottom", "left", "right"))
        assert got.out_hw == tuple(case["out_hw"])
        np.testing.assert_allclose(got.ratio[::-1], case["ratio"], rtol=1e-12)
        boxes = pixels(stored[f"c{number}/in/bboxes_xywhn"], tuple(case["in_hw"]))
        ratio_w, ratio_h = case["ratio"]
        boxes = boxes * np.array([ratio_w, ratio_h] * 2) + [got.left, got.top] * 2
        want = stored[f"c{number}/out/bboxes_xyxy"]
        np.testing.assert_allclose(boxes, want, atol=1e-3)


def test_rectangular_batches_match_reference():
    for case in json.loads((GOLDEN / "rect_batches.json").read_text()):
        hw = np.array(case["shapes_hw"])
        order, shapes = geometry.rect_batches(
            hw,
            batch=case["batch_size"],
            imgsz=case["imgsz"],
            stride=case["stride"],
            pad=case["pad"],
        )
        np.testing.assert_array_equal(shapes, case["batch_shapes_hw"])
        assert sorted(order) == list(range(len(hw)))
        aspect = hw[:, 0] / hw[:, 1]
        # Images of equal aspect ratio may come in any order.
        np.testing.assert_array_equal(aspect[order], aspect[case["order"]])


# Affine map and mosaic


def test_affine_matrix_and_boxes_match_reference(golden):
    stored = golden("augment_affine")
    cases = affine_cases(stored)
    assert len(cases) >= 8
    for name, case in cases:
        hw, size = tuple(case["in_hw"]), case["out_wh"][0]
        rows = np.concatenate(
            [stored[f"{name}/in/cls"], stored[f"{name}/in/bboxes_xywhn"]], axis=1
        )
        recipe = recipe_of([hw], [rows], size, options_of(case["cfg"]))
        canvas = plan.single_canvas(0, stored[f"{name}/u"], recipe)
        matrix = canvas.layer.sources[0].matrix
        want = stored[f"{name}/M"]
        np.testing.assert_allclose(matrix, want, atol=1e-4, rtol=1e-5)
        raw = geometry.transform_boxes(geometry.label_pixels(rows, hw), want)
        np.testing.assert_allclose(raw, stored[f"{name}/raw_boxes"], atol=2e-3)
        want = stored[f"{name}/out/bboxes_xyxy"]
        np.testing.assert_allclose(canvas.objects.boxes, want, atol=2e-3)
        np.testing.assert_array_equal(
            canvas.objects.classes, stored[f"{name}/out/cls"][:, 0]
        )


def test_zoom_of_the_affine_map_matches_reference(golden):
    stored = golden("augment_affine")
    for name, case in affine_cases(stored):
        cfg = {
            k: tuple(v) if isinstance(v, list) else v for k, v in case["cfg"].items()
        }
        out = tuple(case["out_wh"][::-1])
        in_hw = tuple(case["in_hw"])
        _, zoom = geometry.affine_matrix(stored[f"{name}/u"], in_hw, out, **cfg)
        assert zoom == pytest.approx(case["scale"], abs=1e-9)


def test_box_candidates_match_reference(golden):
    stored = golden("augment_box_candidates")
    for key, area in (("keep_area010", 0.10), ("keep_area001", 0.01)):
        got = geometry.box_candidates(stored["box1"], stored["box2"], min_area=area)
        np.testing.assert_array_equal(got, stored[key])


@pytest.mark.parametrize("name", ["c0", "c3"])
def test_mosaic_labels_match_reference(golden, name):
    stored = golden("augment_mosaic")
    center, sizes, rows, _ = mosaic_case(stored, name)
    origins, _ = geometry.mosaic_layout(center, sizes, 48)
    annotations = Annotations(np.array(sizes), rows, None, None, 1000)
    got = plan.mosaic_objects(annotations, range(4), origins, 48, rotated=False)
    want = stored[f"{name}/out/bboxes_xyxy"]
    np.testing.assert_allclose(got.boxes, want, atol=1e-3)
    np.testing.assert_array_equal(got.classes, stored[f"{name}/out/cls"][:, 0])


@pytest.mark.parametrize("number", range(4))
def test_flipped_boxes_match_reference(golden, number):
    stored = golden("augment_flip")
    hw = stored[f"c{number}/in/img"].shape[:2]
    boxes = geometry.cxcywh_to_xyxy(stored[f"c{number}/in/bboxes_xywh"])
    want = geometry.cxcywh_to_xyxy(stored[f"c{number}/out/bboxes_xywh"])
    if stored[f"c{number}/normalized"]:
        hw = (1, 1)
    across = str(stored[f"c{number}/direction"]) == "horizontal"
    got = geometry.flip_boxes(boxes, hw, fliplr=across, flipud=not across)
    np.testing.assert_allclose(got, want, atol=1e-6 * max(hw))


def test_colour_tables_match_reference(golden):
    stored = golden("augment_hsv")
    for number in range(6):
        tables = geometry.hsv_tables(stored[f"c{number}/gain"])
        for column, key in enumerate(("lut_h", "lut_s", "lut_v")):
            np.testing.assert_array_equal(tables[:, column], stored[f"c{number}/{key}"])


def cutmix_names(stored):
    return sorted({key.split("/")[0] for key in stored if key.startswith("cutmix")})


def test_cutmix_labels_match_reference(golden):
    stored = golden("augment_mix")
    pasted = 0
    for name in cutmix_names(stored):
        boxes = stored[f"{name}/in0/bboxes_xyxy"]
        areas = stored[f"{name}/areas"]
        share = geometry.visible_share(boxes, areas).sum(axis=1)
        free = stored[f"{name}/free_areas"]
        np.testing.assert_array_equal(np.flatnonzero(share <= 0), free)
        got = plan.cutmix_objects(
            boxed(stored, f"{name}/in0"),
            boxed(stored, f"{name}/in1"),
            areas.astype(int),
            0.0,
            rotated=False,
        )
        want = stored[f"{name}/out/bboxes_xyxy"]
        if got is not None:
            pasted += 1
            np.testing.assert_array_equal(got[0], areas[free[0]])
            boxes = np.concatenate([boxes, got[1].boxes])
        np.testing.assert_allclose(boxes, want, atol=1e-3)
    assert pasted


def test_cutmix_rectangle_by_hand():
    # share 0.75 leaves half of each side: 20 x 30 around (10, 50), cut at the left.
    assert geometry.cutmix_area(0.75, (5, 50), (60, 40)) == (0, 35, 15, 60)
    assert geometry.cutmix_area(1.0, (5, 50), (60, 40)) == (5, 50, 5, 50)


# Whole plans


def as_numbers(value):
    return json.dumps(
        dataclasses.asdict(value), default=lambda array: array.tolist(), sort_keys=True
    )


def test_plan_is_a_function_of_seed_epoch_and_index():
    first = as_numbers(sample(USUAL, seed=3, epoch=2, index=1))
    np.random.default_rng().random(10)
    assert as_numbers(sample(USUAL, seed=3, epoch=2, index=1)) == first
    for change in ({"seed": 4}, {"epoch": 3}, {"index": 2}):
        other = sample(USUAL, **({"seed": 3, "epoch": 2, "index": 1} | change))
        assert as_numbers(other) != first


def test_without_augmentation_labels_are_those_of_the_file():
    sizes, labels = data_set(objects=4)
    got = sample(PLAIN, index=2, objects=4)
    height, width = sizes[2]
    want = geometry.label_pixels(labels[2], (height, width))
    want += np.array([(64 - width) / 2, (64 - height) / 2] * 2, np.float32)
    np.testing.assert_allclose(got.objects.boxes, want, atol=1e-4)
    np.testing.assert_array_equal(got.objects.classes, labels[2][:, 0])
    assert got.hsv is None and got.mixup is None and got.cutmix is None


def test_what_reaches_behind_the_viewer_has_no_box():
    matrix = np.array([[1, 0, 0], [0, 1, 0], [0.02, 0, 0.5]])  # depth 0.5 + x / 50
    boxes = np.array(
        [[-24, 10, 0, 20], [-40, 10, 0, 20], [-60, 10, -50, 20], [0, 0, 20, 9]]
    )
    given = objects.Objects(np.arange(4), boxes.astype(np.float32), None, None)
    moved = objects.move(given, matrix, 1.0, (100, 100), rotated=False)
    assert moved.classes.tolist() == [3]
    np.testing.assert_allclose(moved.boxes, [[0, 0, 20 / 0.9, 18]], rtol=1e-5)
    points = np.array([[[5, 5, 2], [-30, 5, 2]]], np.float32)
    posed = objects.Objects(
        np.zeros(1, int), boxes[3:].astype(np.float32), None, points
    )
    kept = objects.move(posed, matrix, 1.0, (100, 100), rotated=False).keypoints
    assert kept[0, :, 2].tolist() == [2, 0]


def test_one_option_does_not_change_the_draws_of_another():
    plain = sample(USUAL)
    flipped = sample(dataclasses.replace(USUAL, flipud=1.0))
    assert plain.hsv == flipped.hsv
    x1, y1, x2, y2 = plain.objects.boxes.T
    want = np.stack([x1, 64 - y2, x2, 64 - y1], axis=1)
    np.testing.assert_allclose(flipped.objects.boxes, want, atol=1e-4)


def test_mosaic_has_the_sample_and_three_uniform_partners():
    seen = np.zeros(6)
    for epoch in range(300):
        sources = sample(USUAL, epoch=epoch, index=2).base.sources
        assert len(sources) == 4 and sources[0].index == 2
        for source in sources[1:]:
            seen[source.index] += 1
    # 900 draws: 150 each, standard deviation 11.
    assert (np.abs(seen - 150) < 50).all()


def test_mixup_weights_have_the_reference_distribution():
    options = dataclasses.replace(PLAIN, mixup=1.0)
    ratios = [sample(options, epoch=epoch).mixup[0] for epoch in range(500)]
    # Beta(32, 32): mean 0.5, standard deviation 0.062.
    assert abs(np.mean(ratios) - 0.5) < 0.015 and abs(np.std(ratios) - 0.062) < 0.01


def test_close_mosaic_leaves_the_rest_on():
    mixed = dataclasses.replace(USUAL, mixup=1.0, cutmix=1.0, copy_paste=0.5)
    off = {"mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0}
    assert mixed.without_mixing() == dataclasses.replace(mixed, **off)
    got = sample(dataclasses.replace(USUAL, mixup=1.0, cutmix=1.0).without_mixing())
    assert len(got.base.sources) == 1
    assert got.mixup is None and got.cutmix is None and got.hsv is not None


def test_mixup_joins_the_objects_of_two_images():
    options = dataclasses.replace(PLAIN, mixup=1.0)
    got = sample(options, seed=1)
    assert got.mixup is not None
    ratio, layer = got.mixup
    assert 0.2 < ratio < 0.8
    sizes, labels = data_set()
    partner = layer.sources[0].index
    want = np.concatenate([labels[0][:, 0], labels[partner][:, 0]])
    np.testing.assert_array_equal(got.objects.classes, want)


def test_probabilities_are_those_of_the_options():
    options = dataclasses.replace(USUAL, mosaic=0.3, mixup=0.2, bgr=0.6, flipud=0.0)
    plans = [sample(options, epoch=epoch) for epoch in range(600)]
    share = lambda flags: sum(flags) / 600  # noqa: E731
    assert abs(share(len(p.base.sources) == 4 for p in plans) - 0.3) < 0.08
    assert abs(share(p.mixup is not None for p in plans) - 0.2) < 0.08
    assert abs(share(p.bgr for p in plans) - 0.6) < 0.08
    assert abs(share(p.base.sources[0].matrix[0, 0] < 0 for p in plans) - 0.5) < 0.08
    assert all(p.base.sources[0].matrix[1, 1] > 0 for p in plans)


number = st.floats(0, 1, width=32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 1000),
    imgsz=st.sampled_from([32, 64, 97]),
    strengths=st.tuples(*[number] * 6),
    degrees=st.floats(0, 180),
    shear=st.floats(0, 20),
    perspective=st.sampled_from([0.0, 0.001]),
)
def test_boxes_stay_inside(seed, epoch, imgsz, strengths, degrees, shear, perspective):
    mosaic, mixup, cutmix, flip, translate, scale = strengths
    options = dataclasses.replace(
        USUAL, mosaic=mosaic, mixup=mixup, cutmix=cutmix, fliplr=flip, flipud=flip,
        translate=translate, scale=scale, degrees=degrees, shear=shear,
        perspective=perspective,
    )  # fmt: skip
    got = sample(options, seed=seed, epoch=epoch, imgsz=imgsz)
    assert (
        got.objects.boxes.dtype == np.float32 and got.objects.classes.dtype == np.int32
    )
    assert got.objects.boxes.shape == (len(got.objects.classes), 4)
    assert np.isfinite(got.objects.boxes).all()
    assert (got.objects.boxes >= 0).all() and (got.objects.boxes <= imgsz).all()
    assert (got.objects.boxes[:, 2:] > got.objects.boxes[:, :2]).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_images_without_objects_give_empty_arrays(seed):
    options = dataclasses.replace(USUAL, mixup=0.5, cutmix=0.5)
    got = sample(options, seed=seed, objects=0)
    assert got.objects.boxes.shape == (0, 4) and got.objects.classes.shape == (0,)
