"""Polygons, keypoints and rotated boxes through every augmentation.

Reference files that are too large for this folder are read from the assets.
"""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outlines import corners, star
from painted import difference, draw, paint, pictures
from recipes import PLAIN, USUAL, options_of

from yolojax.data import geometry
from yolojax.data.samples import objects, plan, polygons, render
from yolojax.data.samples.objects import Annotations, LabelFormat, Objects

MASKS = LabelFormat("masks", mask_ratio=4, overlap_mask=True, flip_idx=None)
KEYPOINTS = LabelFormat("keypoints", 1, False, (0, 2, 1, 4, 3))
ROTATED = LabelFormat("rotated", 1, False, None)


@pytest.fixture
def reference(assets):
    """Returns a loader of reference arrays by file stem."""
    folder = assets / "golden"
    return lambda stem: dict(np.load(folder / f"{stem}.npz", allow_pickle=False))


def annotations_of(stored, names, sizes, points=12):
    """Returns the labels of stored samples, polygons and keypoints where present."""
    rows = [
        np.concatenate([stored[f"{n}/cls"], stored[f"{n}/bboxes_xywhn"]], axis=1)
        for n in names
    ]
    shapes = [
        [stored[f"{name}/{key}"] for name in names]
        if f"{names[0]}/{key}" in stored
        else None
        for key in ("segments_n", "keypoints_n")
    ]
    return Annotations(np.array(sizes), rows, *shapes, points)


def assert_objects(got, stored, name, atol):
    np.testing.assert_array_equal(got.classes, stored[f"{name}/cls"][:, 0])
    if f"{name}/bboxes_xyxy" in stored:
        want = stored[f"{name}/bboxes_xyxy"]
        np.testing.assert_allclose(got.boxes, want, atol=atol)
    for key, value in (("segments", got.polygons), ("keypoints", got.keypoints)):
        if f"{name}/{key}" in stored:
            np.testing.assert_allclose(value, stored[f"{name}/{key}"], atol=atol)
        else:
            assert value is None


# Against the reference


def test_affine_map_matches_reference(reference):
    stored = reference("augment_affine")
    cases = json.loads(str(stored["meta_json"]))
    seen = {"box": 0, "seg": 0, "kpt": 0}
    for number, case in enumerate(cases):
        name = f"c{number}"
        given_ = annotations_of(stored, [f"{name}/in"], [case["in_hw"]])
        labels = KEYPOINTS if case["task"] == "kpt" else MASKS
        size, options = case["out_wh"][0], options_of(case["cfg"])
        recipe = plan.Recipe(given_, (size, size), options, labels)
        canvas = plan.single_canvas(0, stored[f"{name}/u"], recipe)
        assert_objects(canvas.objects, stored, f"{name}/out", 2e-3)
        seen[case["task"]] += 1
    assert min(seen.values()) >= 8


@pytest.mark.parametrize("name", ["c1", "c2"])
def test_mosaic_matches_reference(reference, name):
    stored = reference("augment_mosaic")
    case = json.loads(str(stored["meta_json"]))[int(name[1:])]
    row, column = case["center_row_col"]
    names = [f"{name}/in{k}" for k in range(4)]
    sizes = [stored[f"{n}/img"].shape[:2] for n in names]
    origins, _ = geometry.mosaic_layout((column, row), sizes, 48)
    given_ = annotations_of(stored, names, sizes)
    got = plan.mosaic_objects(given_, range(4), origins, 48, rotated=False)
    assert_objects(got, stored, f"{name}/out", 1e-3)


@pytest.mark.parametrize("number", range(4))
def test_flips_match_reference(golden, number):
    stored = golden("augment_flip")
    name = f"c{number}"
    hw = (1, 1) if stored[f"{name}/normalized"] else stored[f"{name}/in/img"].shape[:2]
    boxes = geometry.cxcywh_to_xyxy(stored[f"{name}/in/bboxes_xywh"])
    before = Objects(
        np.zeros(4, np.int32),
        boxes,
        stored[f"{name}/in/segments"],
        stored[f"{name}/in/keypoints"],
    )
    across = str(stored[f"{name}/direction"]) == "horizontal"
    got = objects.flip(
        before, hw, fliplr=across, flipud=not across, flip_idx=stored["flip_idx"]
    )
    atol = 1e-6 * max(hw)
    want = stored[f"{name}/out/segments"]
    np.testing.assert_allclose(got.polygons, want, atol=atol)
    want = stored[f"{name}/out/keypoints"]
    np.testing.assert_allclose(got.keypoints, want, atol=atol)


@pytest.mark.parametrize("number", range(15))
def test_letterboxed_objects_match_reference(golden, number):
    stored = golden("augment_letterbox")
    case = json.loads(str(stored["meta_json"]))[number]
    given_ = annotations_of(stored, [f"c{number}/in"], [case["in_hw"]])
    ratio_w, ratio_h = case["ratio"]
    got = objects.scale(
        given_.objects(0), (ratio_h, ratio_w), (case["left"], case["top"])
    )
    assert_objects(got, stored, f"c{number}/out", 1e-3)


FORMATS = {
    "detect": objects.BOXES,
    "segment": MASKS,
    "segment_no_overlap": dataclasses.replace(MASKS, overlap_mask=False),
    "pose": KEYPOINTS,
    "obb": ROTATED,
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_match_reference(reference, name):
    stored, labels = reference("augment_format"), FORMATS[name]
    hw = stored[f"{name}/in/img"].shape[:2]
    points = stored.get(f"{name}/in/segments_n", np.zeros((1, 1, 2))).shape[1]
    given_ = annotations_of(stored, [f"{name}/in"], [hw], points)
    got = objects.arrays(given_.objects(0), hw, labels)
    np.testing.assert_array_equal(got["classes"], stored[f"{name}/out/cls"][:, 0])
    want = stored[f"{name}/out/bboxes"]
    if labels.rotated:
        np.testing.assert_allclose(got["angles"], want[:, 4], atol=1e-5)
    pixels = want[:, :4] * np.array([hw[1], hw[0]] * 2, np.float32)
    want = geometry.cxcywh_to_xyxy(pixels)
    np.testing.assert_allclose(got["boxes"], want, atol=1e-4)
    if labels.kind == "masks":
        masks = stored[f"{name}/out/masks"]
        want = masks[0] if labels.overlap_mask else masks
        np.testing.assert_array_equal(got["masks"], want)
        assert got["masks"].dtype == (np.int32 if labels.overlap_mask else np.uint8)
    if labels.kind == "keypoints":
        want = stored[f"{name}/out/keypoints"] * [hw[1], hw[0], 1]
        np.testing.assert_allclose(got["keypoints"], want, atol=1e-4)


@pytest.mark.parametrize("number", range(3))
def test_copy_paste_matches_reference(reference, number):
    """Exact as long as nothing moves: options that make the affine map the identity."""
    stored, name = reference("augment_mix"), f"copypaste{number}"
    image = stored[f"{name}/in/img"]
    given_ = annotations_of(stored, [f"{name}/in"], [image.shape[:2]])
    options = dataclasses.replace(PLAIN, copy_paste=float(stored[f"{name}/p"]))
    before = given_.objects(0)
    mirrored = objects.flip(before, (64, 64), fliplr=True, flipud=False, flip_idx=None)
    chosen = objects.pasteable(before, mirrored, options.copy_paste)
    np.testing.assert_array_equal(chosen, stored[f"{name}/selected"])

    recipe = plan.Recipe(given_, (len(image), len(image)), options, MASKS)
    canvas = plan.single_canvas(0, np.full(8, 0.5), recipe)
    np.testing.assert_allclose(canvas.layer.sources[0].matrix, np.eye(3), atol=1e-6)
    joined = objects.join(before, mirrored.take(chosen))
    assert_objects(joined, stored, f"{name}/out", 1e-3)
    want = stored[f"{name}/out/segments"]
    np.testing.assert_allclose(canvas.objects.polygons, want, atol=1e-3)
    got = draw(canvas.layer, [image], len(image))
    np.testing.assert_array_equal(got, stored[f"{name}/out/img"])


# Copy-paste after an affine map


def scattered(rng, sizes, count=8):
    """Returns polygons [p, 2] (0..1) and rows of a data set of small objects."""
    shapes, rows = [], []
    for _ in range(len(sizes)):
        found = [
            star(rng, 14, rng.uniform(0.15, 0.85, 2), rng.uniform(0.05, 0.14))
            for _ in range(count)
        ]
        boxes = polygons.bounds(np.stack(found))
        middle, wide = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        classes = rng.integers(0, 4, (count, 1))
        shapes.append(tuple(found))
        rows.append(np.concatenate([classes, middle, wide], axis=1).astype(np.float32))
    return Annotations(np.asarray(sizes), rows, shapes, None, 1000)


SIZES = [(96, 70), (60, 96), (96, 96), (80, 96)]


@pytest.mark.parametrize(
    "extra",
    [{}, {"degrees": 20.0, "shear": 5.0}, {"perspective": 0.0005, "degrees": 5.0}],
    ids=["aligned", "turned", "perspective"],
)
def test_pasted_pixels_differ_from_a_pasted_canvas_only_at_edges(extra):
    """The reference pastes first and warps then; its edges are blended, ours are sharp.

    Farther than 1.5 source pixels from an outline no grey level differs by more than
    one, and of all pixels less than an eighth lie nearer.
    """
    rng = np.random.default_rng(5)
    given_ = scattered(rng, SIZES)
    options = dataclasses.replace(
        PLAIN, copy_paste=1.0, scale=0.4, translate=0.1, **extra
    )
    pictures_ = pictures(SIZES)
    pasted = 0
    for number in range(24):
        index, draws = number % 4, rng.random(8)
        recipe = plan.Recipe(given_, (96, 96), options, MASKS)
        canvas = plan.single_canvas(index, draws, recipe)
        if canvas.layer.paste is None:
            continue
        matrix = canvas.layer.sources[0].matrix
        before = given_.objects(index)
        mirror = {"fliplr": True, "flipud": False}
        other = objects.flip(before, SIZES[index], **mirror, flip_idx=None)
        chosen = objects.pasteable(before, other, 1.0)
        pasted += len(chosen)
        picture, edge = pictures_[index].copy(), np.zeros((96, 96), np.uint8)
        for outline in other.polygons[chosen].astype(np.int32):
            mask = np.zeros(SIZES[index], np.uint8)
            cv2.fillPoly(mask, [outline], 1)
            picture[mask > 0] = pictures_[index][:, ::-1][mask > 0]
            moved = polygons.transform(outline.astype(np.float32), matrix)
            width = 2 * int(np.ceil(1.5 * 1.5 * abs(np.linalg.det(matrix)) ** 0.5)) + 1
            cv2.polylines(edge, [np.rint(moved).astype(np.int32)], True, 1, width)
        warp = cv2.warpPerspective if matrix[2, :2].any() else cv2.warpAffine
        matrix = matrix if matrix[2, :2].any() else matrix[:2]
        want = warp(picture, matrix, (96, 96), borderValue=(114, 114, 114))
        delta = difference(draw(canvas.layer, pictures_, 96), want).max(axis=2)
        assert delta[edge == 0].max() <= 1
        assert (delta > 1).mean() < 0.125
    assert pasted > 40


def test_pasted_objects_carry_their_pixels_through_a_mosaic():
    """With one colour per picture, what is pasted shows where its mask is."""
    rng = np.random.default_rng(2)
    given_ = scattered(rng, SIZES)
    colours = [np.full((h, w, 3), 60 * i + 20, np.uint8) for i, (h, w) in
               enumerate(SIZES)]  # fmt: skip
    options = dataclasses.replace(
        USUAL, hsv_h=0.0, hsv_s=0.0, hsv_v=0.0, copy_paste=0.6, mosaic=0.5,
        copy_paste_mode="mixup", flipud=0.5, degrees=10.0,
    )  # fmt: skip
    pasted = 0
    for epoch in range(60):
        recipe = plan.Recipe(given_, (96, 96), options, MASKS)
        sample = plan.plan_sample(1, epoch, epoch % 4, recipe)
        plain = plan.plan_sample(
            1, epoch, epoch % 4,
            dataclasses.replace(recipe, options=dataclasses.replace(options,
                                                                    copy_paste=0.0)),
        )  # fmt: skip
        assert sample.hsv == plain.hsv  # pasting shifts no other draws
        count = len(plain.objects)
        np.testing.assert_array_equal(sample.objects.boxes[:count], plain.objects.boxes)
        paste = sample.base.paste
        assert (paste is None) == (len(sample.objects) == count)
        if paste is None:
            continue
        got, without = paint(sample, colours), paint(plain, colours)
        mask = render.filled(paste.polygons, (96, 96)) > 0
        np.testing.assert_array_equal(got[~mask], without[~mask])
        layer = plan.LayerPlan(paste.sources)
        other = draw(layer, colours, 96)[:, :, ::-1]
        np.testing.assert_array_equal(got[mask], other[mask])
        # The pasted objects' own masks, from labels, lie on the pasted pixels.
        shown = polygons.object_masks(sample.objects.polygons[count:], (96, 96), 1)
        wide = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        # At a mirrored border a mask reaches one pixel farther than what was pasted.
        assert (shown.max(axis=0) & ~wide).sum() <= 2
        pasted += len(paste.polygons)
    assert pasted > 20


def test_nothing_is_pasted_over_an_object_or_without_polygons():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    here = Objects(np.zeros(2, np.int32), boxes)
    third = np.array(
        [[7.1, 0, 17, 10], [6.9, 0, 16.9, 10], [50, 50, 60, 60]], np.float32
    )
    candidates = Objects(np.zeros(3, np.int32), third)
    # 29%, 31% and nothing of the first object.
    assert objects.pasteable(here, candidates, 1.0).tolist() == [2, 0]
    assert objects.pasteable(here, candidates, 0.5).tolist() == [2]
    none = here.take(np.zeros(0, int))
    assert len(objects.pasteable(none, candidates, 1.0)) == 0
    assert len(objects.pasteable(here, none, 1.0)) == 0
    rows = [np.array([[0, 0.2, 0.5, 0.1, 0.1]], np.float32)]
    given_ = Annotations(np.array([[64, 64]]), rows, None, None, 1000)
    options = dataclasses.replace(PLAIN, copy_paste=1.0)
    for mode in ("flip", "mixup"):
        chosen = dataclasses.replace(options, copy_paste_mode=mode)
        recipe = plan.Recipe(given_, (64, 64), chosen, objects.BOXES)
        assert plan.plan_sample(0, 0, 0, recipe).base.paste is None


# Properties of whole plans


EVERYTHING = dataclasses.replace(
    USUAL, mosaic=0.6, mixup=0.4, cutmix=0.4, copy_paste=0.5, flipud=0.5, degrees=30.0,
    shear=5.0,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    mode=st.sampled_from(("flip", "mixup")),
    perspective=st.sampled_from([0.0, 0.0005]),
)
def test_polygons_stay_inside_their_boxes(seed, mode, perspective):
    rng = np.random.default_rng(seed)
    options = dataclasses.replace(
        EVERYTHING, copy_paste_mode=mode, perspective=perspective
    )
    recipe = plan.Recipe(scattered(rng, SIZES), (96, 96), options, MASKS)
    found = plan.plan_sample(seed, 0, 1, recipe).objects
    assert found.polygons.shape == (len(found), 1000, 2)
    assert found.polygons.dtype == np.float32
    assert (found.boxes >= 0).all() and (found.boxes <= 96).all()
    for points, box in zip(found.polygons, found.boxes, strict=True):
        assert (points >= box[:2] - 1e-3).all() and (points <= box[2:] + 1e-3).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_rotated_boxes_keep_their_shape(seed):
    """After any turn, shift and zoom a box that is whole inside has sides in ratio."""
    rng = np.random.default_rng(seed)
    turned = [
        np.array([*rng.uniform(25, 71, 2), rng.uniform(14, 24), rng.uniform(5, 9),
                  rng.uniform(-0.7, 2.2)])
        for _ in range(4)
    ]  # fmt: skip
    shapes = [tuple(corners(box)[None] / 96)[0:1] for box in turned]
    boxes = [polygons.bounds(shape[0][None]) for shape in shapes]
    rows = [
        np.concatenate(
            [[[0.0]], (b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]], axis=1
        ).astype(np.float32)
        for b in boxes
    ]
    given_ = Annotations(np.full((4, 2), 96), rows, shapes, None, 100)
    options = dataclasses.replace(
        USUAL, mosaic=0.0, degrees=180.0, flipud=0.5, mixup=0.3
    )
    recipe = plan.Recipe(given_, (96, 96), options, ROTATED)
    sample = plan.plan_sample(seed, 0, 2, recipe)
    found = objects.arrays(sample.objects, (96, 96), ROTATED)
    wide = found["boxes"][:, 2:] - found["boxes"][:, :2]
    points = sample.objects.polygons
    whole = ((points > 0.01) & (points < 95.99)).all(axis=(1, 2))
    ratios = [box[2] / box[3] for box in turned]
    for w, h in wide[whole]:
        assert min(abs(w / h / ratio - 1) for ratio in ratios) < 0.02
    assert (found["angles"] >= -np.pi / 4).all()
    assert (found["angles"] < 3 * np.pi / 4).all()


def test_keypoints_follow_pixels_and_flips():
    """Dots in five colours end where the keypoints say, each in its own place."""
    rng = np.random.default_rng(0)
    picture = np.zeros((96, 96, 3), np.uint8)
    colours = rng.permutation(np.linspace(60, 250, 5)).astype(np.uint8)
    places = np.array([[40, 30], [55, 30], [25, 60], [70, 62], [48, 75]], np.float32)
    for (x, y), colour in zip(places.astype(int), colours, strict=True):
        picture[y - 2 : y + 3, x - 2 : x + 3] = colour
    keypoints = np.concatenate([(places + 0.5) / 96, np.full((5, 1), 2.0)], axis=1)
    rows = [np.array([[0, 0.5, 0.5, 0.8, 0.8]], np.float32)] * 3
    given_ = Annotations(
        np.full((3, 2), 96), rows, None, [keypoints[None].astype(np.float32)] * 3, 1000
    )
    options = dataclasses.replace(
        PLAIN, mosaic=0.5, degrees=15.0, scale=0.2, translate=0.1, fliplr=0.5,
        flipud=0.5,
    )  # fmt: skip
    recipe = plan.Recipe(given_, (96, 96), options, KEYPOINTS)
    checked = 0
    for epoch in range(40):
        sample = plan.plan_sample(0, epoch, 0, recipe)
        image = paint(sample, [picture] * 3)[:, :, 0]
        across = sample.base.sources[0].matrix[0, 0] < 0
        upside = sample.base.sources[0].matrix[1, 1] < 0
        for points in sample.objects.keypoints:
            if across != upside:  # one mirror swaps, two swap back
                points = points[list(KEYPOINTS.flip_idx)]
            for (x, y, seen), colour in zip(points, colours, strict=True):
                assert (seen > 0) <= (0 <= x <= 96 and 0 <= y <= 96)
                if seen > 0 and 3 < x < 93 and 3 < y < 93:
                    value = int(image[int(y), int(x)])
                    # A tile may end between a keypoint and its dot's middle.
                    checked += abs(value - int(colour)) <= 12
    assert checked > 100


def test_keypoints_outside_are_not_visible():
    points = np.array([[[5, 5, 2], [-1, 5, 2], [5, 31, 1], [30, 30, 2]]], np.float32)
    before = Objects(np.zeros(1, np.int32), np.zeros((1, 4), np.float32), None, points)
    got = objects.clip(before, (0, 0, 30, 30), rotated=False).keypoints[0]
    np.testing.assert_array_equal(got, [[5, 5, 2], [0, 5, 0], [5, 30, 0], [30, 30, 2]])
    assert before.keypoints[0, 1, 2] == 2  # the given arrays are left alone


def test_map_slots_are_those_of_boxes_and_classes():
    """Value k + 1 of the map is object k, in a sample with everything on."""
    rng = np.random.default_rng(3)
    recipe = plan.Recipe(scattered(rng, SIZES), (96, 96), EVERYTHING, MASKS)
    for epoch in range(20):
        found = plan.plan_sample(0, epoch, 0, recipe).objects
        got = objects.arrays(found, (96, 96), MASKS)
        assert sorted(got["classes"]) == sorted(found.classes)
        for slot, (x1, y1, x2, y2) in enumerate(got["boxes"]):
            rows, columns = np.nonzero(got["masks"] == slot + 1)
            if len(rows):  # a cell is 4 pixels
                assert x1 / 4 - 1 <= columns.min() and columns.max() <= x2 / 4
                assert y1 / 4 - 1 <= rows.min() and rows.max() <= y2 / 4


def test_samples_without_objects_have_empty_arrays():
    none = [np.zeros((0, 5), np.float32)] * 2
    sizes = np.full((2, 2), 64)
    for labels in FORMATS.values():
        shapes = {"masks": [()] * 2, "rotated": [()] * 2}.get(labels.kind)
        points = [np.zeros((0, 5, 3), np.float32)] * 2
        given_ = Annotations(
            sizes, none, shapes, points if labels is KEYPOINTS else None, labels.points
        )
        for seed in range(6):
            recipe = plan.Recipe(given_, (64, 64), EVERYTHING, labels)
            found = plan.plan_sample(seed, 0, 0, recipe).objects
            got = objects.arrays(found, (64, 64), labels)
            assert got["boxes"].shape == (0, 4) and got["classes"].shape == (0,)
            if labels.kind == "masks":
                shape = (16, 16) if labels.overlap_mask else (0, 16, 16)
                assert got["masks"].shape == shape and not got["masks"].any()


@pytest.mark.parametrize(
    ("change", "words"), [({"kind": "mask"}, "kind"), ({"mask_ratio": 0}, "mask_ratio")]
)
def test_wrong_formats_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(MASKS, **change)
