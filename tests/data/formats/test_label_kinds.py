"""Folders and batches with masks, keypoints and rotated boxes."""

import dataclasses
import json

import numpy as np
import pytest
from batch_cases import BUCKETS, MIXED, assert_same, everything, held
from yolo_files import add, opened, picture, write_yaml

from yolojax.data import geometry
from yolojax.data.batches import labelled as pipeline
from yolojax.data.batches import prefetch
from yolojax.data.formats import yolo_folder
from yolojax.data.samples import objects
from yolojax.data.samples.objects import LabelFormat

MASKS = LabelFormat("masks", mask_ratio=4, overlap_mask=True, flip_idx=None)
KEYPOINTS = LabelFormat("keypoints", 1, False, (1, 0, 2))
ROTATED = LabelFormat("rotated", 1, False, None)
KINDS = {
    "segment": MASKS,
    "separate": dataclasses.replace(MASKS, overlap_mask=False),
    "pose": KEYPOINTS,
    "obb": ROTATED,
}
TASKS = {"separate": "segment"}

TRIANGLE = "1 0.1 0.1 0.4 0.1 0.4 0.5\n"
SQUARE = "2 0.6 0.6 0.9 0.6 0.9 0.9 0.6 0.9\n"
BOX = "0 0.5 0.5 0.2 0.3\n"
POSE = "0 0.5 0.5 0.4 0.4 0.3 0.4 0 0.4 0.45 1 0.5 0.5 2\n"
NAMES = "names: [a, b, c]\ntrain: images/train\nval: images/val\n"
KPT = "kpt_shape: [3, 3]\nflip_idx: [1, 0, 2]\nkpt_oks_sigmas: [0.1, 0.2, 1]\n"


def folder_of(root, texts, extra=""):
    """Writes pictures with these label files; returns the root."""
    rng = np.random.default_rng(0)
    for number, text in enumerate(texts):
        image = picture(*rng.integers(30, 90, 2).tolist(), seed=number)
        for split in ("train", "val"):
            add(root, split, f"t{number}", text=text, image=image)
    write_yaml(root, NAMES + extra)
    return root


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Returns 7 pictures with 0 to 3 objects, opened for every kind of labels."""
    rng = np.random.default_rng(0)
    polygons, poses, quads = [], [], []
    for number in range(7):
        lines = {"polygon": [], "pose": [], "quad": []}
        for _ in range(number % 4):
            x, y = rng.uniform(0.3, 0.7, 2)
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 30)))
            radii = rng.uniform(0.1, 0.25, len(angles))
            points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)])
            lines["polygon"].append(points.T.ravel())
            wide = np.array([np.cos(angles[0]), np.sin(angles[0])]) * 0.25
            tall = np.array([-wide[1], wide[0]]) / 2
            middle = np.array([x, y])
            quad = [middle + a * wide + b * tall
                    for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]  # fmt: skip
            lines["quad"].append(np.clip(quad, 0, 1).ravel())
            seen = np.concatenate([points[:, :3].T, rng.integers(0, 3, (3, 1))], axis=1)
            lines["pose"].append(np.concatenate([[x, y, 0.4, 0.4], seen.ravel()]))
        for key, texts in (("polygon", polygons), ("pose", poses), ("quad", quads)):
            texts.append(
                "".join(
                    f"{number % 3} " + " ".join(f"{v:.5f}" for v in row) + "\n"
                    for row in lines[key]
                )
            )
    make = tmp_path_factory.mktemp
    segment = folder_of(make("segment"), polygons)
    pose = folder_of(make("pose"), poses, KPT)
    rotated = folder_of(make("obb"), quads)
    return {
        "segment": opened(segment, task="segment"),
        "separate": opened(segment, task="segment"),
        "pose": opened(pose, task="pose"),
        "obb": opened(rotated, task="obb"),
    }


# Folders


def test_polygons_go_with_their_rows(tmp_path):
    texts = [TRIANGLE + SQUARE, SQUARE + TRIANGLE + SQUARE, "", SQUARE]
    root = folder_of(tmp_path, texts)
    source = opened(root, task="segment")
    assert [len(polygons) for polygons in source.polygons] == [2, 2, 0, 1]
    assert source.keypoints is None and source.flip_idx is None
    for rows, polygons in zip(source.labels, source.polygons, strict=True):
        assert len(rows) == len(polygons)
        for row, points in zip(rows, polygons, strict=True):
            assert points.dtype == np.float32
            assert len(points) == {1: 3, 2: 4}[int(row[0])]
            want = geometry.cxcywh_to_xyxy(row[None, 1:])[0]
            got = [*points.min(axis=0), *points.max(axis=0)]
            np.testing.assert_allclose(got, want, atol=1e-6)
    only = opened(root, task="segment", classes=[2], single_cls=True)
    assert [len(polygons) for polygons in only.polygons] == [1, 1, 0, 1]
    assert all(len(points) == 4 for found in only.polygons for points in found)
    assert all((rows[:, 0] == 0).all() for rows in only.labels)


def test_keypoints_go_with_their_rows(tmp_path):
    other = POSE.replace("0 ", "1 ", 1).replace("0.3 0.4 0", "0.6 0.4 2")
    root = folder_of(tmp_path, [POSE + other, other + other + POSE, ""], KPT)
    source = opened(root, task="pose")
    assert source.polygons is None and source.kpt_shape == (3, 3)
    assert source.flip_idx == (1, 0, 2) and source.kpt_sigmas == (0.1, 0.2, 1.0)
    assert [points.shape for points in source.keypoints] == [(2, 3, 3)] * 2 + [
        (0, 3, 3)
    ]
    for rows, points in zip(source.labels, source.keypoints, strict=True):
        want = np.where(rows[:, 0] == 1, 0.6, 0.3).astype(np.float32)
        np.testing.assert_array_equal(points[:, 0, 0], want)
    only = opened(root, task="pose", classes=[1])
    assert [len(points) for points in only.keypoints] == [1, 1, 0]
    # Other tasks see boxes, polygons they do not.
    plain = opened(root, task="detect")
    assert plain.keypoints is None and [len(rows) for rows in plain.labels] == [2, 2, 0]
    with pytest.raises(ValueError, match="needs a polygon"):
        opened(root, task="segment")


def test_scan_cache_holds_polygons_and_keypoints(tmp_path, monkeypatch):
    texts = [TRIANGLE + SQUARE, "", SQUARE, "9 9\n"]
    segment = folder_of(tmp_path / "segment", texts)
    pose = folder_of(tmp_path / "pose", [POSE, "", POSE + POSE, "x"], KPT)
    for root, task in ((segment, "segment"), (segment, "obb"), (pose, "pose"),
                       (pose, "detect")):  # fmt: skip
        first = opened(root, task=task, cache_dir=tmp_path / "cache")
        with monkeypatch.context() as patched:
            if task != "detect" or root == pose:
                patched.setattr(
                    yolo_folder, "verify_labelled", None
                )  # must not be needed
            again = opened(root, task=task, cache_dir=tmp_path / "cache")
        assert again.paths == first.paths and again.problems == first.problems
        for name in ("polygons", "keypoints"):
            a, b = getattr(again, name), getattr(first, name)
            assert (a is None) == (b is None)
            for one, other in zip(a or [], b or [], strict=True):
                assert len(one) == len(other)
                for points, same in zip(one, other, strict=True):
                    assert points.dtype == np.float32
                    np.testing.assert_array_equal(points, same)
    assert len(list((tmp_path / "cache").glob("scan-*.npz"))) == 3


@pytest.mark.parametrize("task", ["segment", "obb"])
def test_boxes_where_polygons_are_needed_are_refused(tmp_path, task):
    root = folder_of(tmp_path, [TRIANGLE, BOX, ""])
    with pytest.raises(ValueError, match=r"t1\.txt.*without polygons.*1 label files"):
        opened(root, task=task)
    without = folder_of(tmp_path / "none", [BOX])
    with pytest.raises(ValueError, match=f"task '{task}' needs a polygon"):
        opened(without, task=task)


def test_detection_uses_polygons_only_if_all_objects_have_one(tmp_path, caplog):
    mixed = opened(folder_of(tmp_path / "mixed", [TRIANGLE, BOX]))
    assert mixed.polygons is None and "not used" in caplog.text
    assert [len(rows) for rows in mixed.labels] == [1, 1]
    caplog.clear()
    assert opened(folder_of(tmp_path / "boxes", [BOX, ""])).polygons is None
    whole = opened(folder_of(tmp_path / "whole", [TRIANGLE, ""]))
    assert [len(polygons) for polygons in whole.polygons] == [1, 0]
    assert not caplog.text


def test_wrong_tasks_are_refused(tmp_path):
    root = folder_of(tmp_path, [POSE])
    with pytest.raises(ValueError, match=r"data\.yaml.*`kpt_shape: \[17, 3\]`"):
        opened(root, task="pose")
    with pytest.raises(ValueError, match="'classify'.*detect, segment, pose, obb"):
        opened(root, task="classify")


@pytest.mark.parametrize("value", ["[0.1, 0.2]", "[0.1, 0, 0.2]", "3", "[a, b, c]"])
def test_wrong_sigmas_are_refused(tmp_path, value):
    root = folder_of(tmp_path, [POSE], f"kpt_shape: [3, 3]\nkpt_oks_sigmas: {value}\n")
    with pytest.raises(ValueError, match="kpt_oks_sigmas.*one positive number"):
        opened(root, task="pose")


VERDICTS = {
    "1 0.1 0.1\n" + SQUARE: "polygon_too_short",
    "1 0.1 0.1 0.4 0.4\n" + SQUARE: "mixed_polygon_and_box_rows",
    "1 0.1 0.1 0.4 0.4 0.5 0.5 0.6\n": "odd_polygon_values",
}


@pytest.mark.parametrize("text", VERDICTS)
def test_unusable_polygons_are_left_out_with_a_reason(tmp_path, text):
    root = folder_of(tmp_path, [SQUARE, text])
    source = opened(root, task="segment")
    assert len(source) == 1
    (problem,) = source.problems
    assert problem.dropped and problem.line == 1
    assert problem.code == VERDICTS[text]


def test_polygons_without_area_are_kept_with_a_note(tmp_path):
    line = "1 0.1 0.1 0.2 0.2 0.3 0.3 0.4 0.4\n"
    point = "1 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5\n"
    source = opened(folder_of(tmp_path, [SQUARE + line + point]), task="obb")
    (problem,) = source.problems
    assert not problem.dropped
    assert (problem.code, problem.count) == ("flat_polygons", 2)
    assert len(source.polygons[0]) == 3
    batches = pipeline.EvalBatches(held(source), **evaluation(ROTATED))
    assert np.isfinite(batches[0]["angles"]).all()


@pytest.mark.parametrize("where", ["-1 -1", "5000 3", "nan nan", "0.3 1.2"])
def test_points_that_are_not_labelled_may_be_anywhere(tmp_path, where):
    text = POSE.replace("0.3 0.4 0", f"{where} 0")
    source = opened(folder_of(tmp_path, [text], KPT), task="pose")
    assert not source.problems
    want = [[[0, 0, 0], [0.4, 0.45, 1], [0.5, 0.5, 2]]]
    np.testing.assert_array_equal(source.keypoints[0], np.float32(want))
    wrong = POSE.replace("0.4 0.45 1", f"{where} 1")
    folder_of(tmp_path, [wrong, text], KPT)
    (problem,) = opened(tmp_path, task="pose").problems
    assert problem.dropped and problem.file.endswith("t0.txt")


def test_points_without_visibility_are_not_labelled_if_negative(tmp_path):
    text = "0 0.5 0.5 0.4 0.4 -1 -1 0.4 0.45 -0.005 0.5\n"
    source = opened(folder_of(tmp_path, [text], "kpt_shape: [3, 2]\n"), task="pose")
    want = [[[0, 0, 0], [0.4, 0.45, 1], [-0.005, 0.5, 0]]]
    np.testing.assert_array_equal(source.keypoints[0], np.float32(want))


BOX_AND_MORE = [
    ("0 0.5 0.5 0.25 0.25 0.93 1\n1 0.3 0.3 0.2 0.2 0.7 1\n", "detect", False),
    ("0 0.5 0.5 0.25 0.25 0.93 1\n1 0.3 0.3 0.2 0.2 0.7 1\n", "segment", False),
    ("0 0.5 0.5 0.25 0.25 0.93 0.4\n", "detect", False),
    ("0 0.5 0.5 0.25 0.25 0.93 7\n", "detect", True),
    ("0 0.5 0.5 0.25 0.25 0.93\n", "detect", True),
]


@pytest.mark.parametrize(("text", "task", "dropped"), BOX_AND_MORE)
def test_boxes_with_more_behind_them_are_told(tmp_path, text, task, dropped):
    (problem,) = opened(folder_of(tmp_path, [SQUARE, text]), task=task).problems
    assert problem.dropped == dropped and "a box with" in str(problem)
    assert dropped or (problem.code, problem.count) == (
        "box_and_more",
        text.count("\n"),
    )
    assert not dropped or problem.code in (
        "wrong_column_count",
        "coordinate_above_1.01",
    )


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("0 0.5 0.5 0.25 0.25 0.93 0.4\n", "segment"),  # may well be a triangle
        ("0 0.1 0.1 0.4 0.1 0.4 0.5\n", "detect"),  # no box
        ("0 0.5 0.5 0.25 0.25 0.93 1\n0 0.1 0.1 0.4 0.1 0.4 0.5\n", "detect"),
    ],
)
def test_triangles_are_no_boxes(tmp_path, text, task):
    assert not opened(folder_of(tmp_path, [text]), task=task).problems


FORGOTTEN = [  # rows, which kpt_shape there is, which one is asked for
    ("0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 1\n", "", "[2, 3]"),
    ("0 0.5 0.5 0.4 0.4 0.4 0.4 2\n1 0.5 0.5 0.4 0.4 0 0 0\n", "", "[1, 3]"),
    ("0 0.5 0.5 0.4 0.4 0.4 0.4 -1 -1 0.6 0.6\n", "", "[3, 2]"),
    ("0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 1\n", "kpt_shape: [3, 3]\n", "[2, 3]"),
]


@pytest.mark.parametrize(("text", "extra", "asked"), FORGOTTEN)
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_keypoints_without_their_shape_are_told(tmp_path, text, extra, asked, task):
    folder = folder_of(tmp_path, [SQUARE, text], extra)
    (problem,) = opened(folder, task=task).problems
    assert problem.dropped and f"need `kpt_shape: {asked}`" in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        "0 0.1 0.1 0.4 0.1 0.4 0.5 0.2 0.6 0.1 3\n",  # starts with no box
        "0 0.5 0.5 0.4 0.4 0.4 0.4 7 0.6 0.6 1\n",  # no visibility
        "0 0.5 0.5 0.4 0.4 9 0.4 2 0.6 0.6 1\n",
        "0 0.5 0.5 0.4 0.4 0.4 nan 2 0.6 0.6 1\n",
        "0 0.5 0.5 0.4 0.4 -1 -1\n",
        "7 0.5 0.5 0.4 0.4 0.4 0.4 0.3 0.3 0.6 0.6\n",  # a polygon of another class
        "0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.6 1\n0 0.5 0.5 0.4 0.4 0.4 0.4 2\n",
    ],
)
def test_what_is_wrong_otherwise_is_no_keypoints(tmp_path, text):
    (problem,) = opened(folder_of(tmp_path, [SQUARE, text]), task="segment").problems
    assert problem.dropped and "kpt_shape:" not in str(problem)


def test_keypoint_rows_of_wrong_length_are_left_out(tmp_path):
    short = POSE.rsplit(" ", 1)[0] + "\n"
    source = opened(folder_of(tmp_path, [POSE, POSE + short, short], KPT), task="pose")
    assert len(source) == 1
    codes = [problem.code for problem in source.problems]
    assert codes == ["ragged_rows", "wrong_column_count"]


# Batches


def training(labels_, **kwargs):
    augment = dataclasses.replace(MIXED, copy_paste=0.5, flipud=0.3, degrees=10.0)
    return {
        "imgsz": 64,
        "batch": 3,
        "epochs": 3,
        "seed": 1,
        "augment": augment,
        "close_mosaic": 1,
        "object_buckets": BUCKETS,
        "labels": labels_,
    } | kwargs


def evaluation(labels_, **kwargs):
    return {
        "imgsz": 64,
        "batch": 3,
        "stride": 32,
        "pad": 0.5,
        "rect": True,
        "object_buckets": BUCKETS,
        "labels": labels_,
    } | kwargs


def expected_shapes(kind, hw, slots):
    return {
        "segment": {"masks": ((3, hw[0] // 4, hw[1] // 4), np.int32)},
        "separate": {"masks": ((3, slots, hw[0] // 4, hw[1] // 4), np.uint8)},
        "pose": {"keypoints": ((3, slots, 3, 3), np.float32)},
        "obb": {"angles": ((3, slots), np.float32)},
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_an_outline_has_the_shapes_of_its_batch(sources, kind):
    options = training(KINDS[kind], object_buckets=(1, 2, 4, 8, 16, 32, 64))
    train = pipeline.TrainBatches(held(sources[kind]), **options)
    for step in range(len(train)):
        batch, outline = train[step], train.outline(step)
        assert not outline["image"].any() and batch.keys() == outline.keys()
        for name, value in batch.items():
            assert outline[name].shape == value.shape, name
            assert outline[name].dtype == value.dtype, name


@pytest.mark.parametrize("kind", KINDS)
def test_batches_have_the_promised_arrays(sources, kind):
    images = held(sources[kind])
    train = pipeline.TrainBatches(images, **training(KINDS[kind]))
    val = pipeline.EvalBatches(images, **evaluation(KINDS[kind]))
    found = 0
    for batch in [*(train[k] for k in range(len(train))), *(val[k] for k in range(3))]:
        slots = batch["boxes"].shape[1]
        shapes = expected_shapes(kind, batch["image"].shape[1:3], slots)
        for key, (shape, dtype) in shapes.items():
            assert batch[key].shape == shape and batch[key].dtype == dtype
        valid = batch["valid"]
        if kind == "segment":
            for row, map_ in enumerate(batch["masks"]):
                assert map_.max() <= valid[row].sum()
        elif kind == "separate":
            assert not batch["masks"][~valid].any() and batch["masks"].max() <= 1
        else:
            assert not batch[next(iter(shapes))][~valid].any()
        assert not batch["boxes"][~valid].any()
        found += valid.sum()
    assert found > 30


def batches_from(source, wanted, start, workers=0):
    """Returns the bytes of two epochs from a step on."""
    options = {"workers": workers, "num_threads": 2, "prefetch": 2}
    batches = pipeline.TrainBatches(held(source), **training(wanted, epochs=2))
    return everything(prefetch.prefetched(batches, start_step=start, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_the_starting_step_changes_no_byte(sources, kind):
    want = batches_from(sources[kind], KINDS[kind], 0)
    assert_same(batches_from(sources[kind], KINDS[kind], 4), want[4:])


@pytest.mark.process
@pytest.mark.parametrize(
    "kind", ["segment", pytest.param("pose", marks=pytest.mark.slow)]
)
def test_worker_processes_change_no_byte(sources, kind):
    want = batches_from(sources[kind], KINDS[kind], 0)
    assert_same(batches_from(sources[kind], KINDS[kind], 0, workers=2), want)


def test_unknown_mirror_switches_flips_off(sources, caplog):
    options = training(dataclasses.replace(KEYPOINTS, flip_idx=None))
    batches = pipeline.TrainBatches(held(sources["pose"]), **options)
    assert "flip_idx" in caplog.text and "switched off" in caplog.text
    assert batches.augment.fliplr == batches.augment.flipud == 0
    assert batches.augment.mosaic == options["augment"].mosaic
    caplog.clear()
    still = dataclasses.replace(options["augment"], fliplr=0.0, flipud=0.0)
    pipeline.TrainBatches(held(sources["pose"]), **(options | {"augment": still}))
    pipeline.TrainBatches(held(sources["pose"]), **training(KEYPOINTS))
    assert not caplog.text


@pytest.mark.parametrize(("kind", "what"), [("pose", "keypoints"), ("obb", "polygons")])
def test_missing_labels_are_refused(sources, kind, what):
    other = held(sources["pose" if kind == "obb" else "obb"])
    for build, options in (
        (pipeline.TrainBatches, training(KINDS[kind])),
        (pipeline.EvalBatches, evaluation(KINDS[kind])),
    ):
        with pytest.raises(ValueError, match=f"need {what}"):
            build(other, **options)


def reference_source(root, stored, task):
    case = json.loads(str(stored["meta_json"]))[task]
    for number, text in enumerate(case["label_texts"]):
        image = stored[f"img{number}_bgr"]
        add(root, "val", str(number), text=text, image=image, suffix=".png")
    write_yaml(
        root,
        "names: [a, b, c]\ntrain: images/val\nval: images/val\nkpt_shape: [5, 3]\n",
    )
    return case, opened(root, "val", task=task)


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_validation_batches_match_reference(assets, tmp_path, task):
    path = assets / "golden" / "dataset_val_batches.npz"  # too large for this folder
    stored = dict(np.load(path, allow_pickle=False))
    case, source = reference_source(tmp_path, stored, task)
    batches = pipeline.EvalBatches(
        held(source, imgsz=96), **evaluation(KINDS[task], imgsz=96)
    )
    for number, want in enumerate(case["batches"]):
        name, batch = f"{task}/b{number}", batches[number]
        used = batch["example_valid"]
        files = [source.paths[i].rsplit("/", 1)[1] for i in batch["image_id"][used]]
        assert files == want["files"]
        row, slot = np.nonzero(batch["valid"])
        np.testing.assert_array_equal(row, stored[f"{name}/batch_idx"])
        classes = stored[f"{name}/cls"][:, 0]
        np.testing.assert_array_equal(batch["classes"][row, slot], classes)
        height, width = batch["image"].shape[1:3]
        boxes = stored[f"{name}/bboxes"][:, :4] * np.array([width, height] * 2)
        boxes = geometry.cxcywh_to_xyxy(boxes)
        np.testing.assert_allclose(batch["boxes"][row, slot], boxes, atol=2e-3)
        if task == "segment":
            masks = stored[f"{name}/masks"]
            np.testing.assert_array_equal(batch["masks"][used], masks)
        if task == "obb":
            angles = stored[f"{name}/bboxes"][:, 4]
            np.testing.assert_allclose(batch["angles"][row, slot], angles, atol=1e-4)
        if task == "pose":
            points = stored[f"{name}/keypoints"] * [width, height, 1]
            np.testing.assert_allclose(batch["keypoints"][row, slot], points, atol=2e-3)


@pytest.mark.parametrize(
    ("task", "folder"),
    [("segment", "coco8-seg"), ("pose", "coco8-pose"), ("obb", "dota8")],
)
def test_real_folders(assets, task, folder):
    root = assets / "data" / folder
    source = opened(root, task=task)
    assert not any(problem.dropped for problem in source.problems)
    kind = dataclasses.replace(KINDS[task], flip_idx=source.flip_idx)
    train = pipeline.TrainBatches(
        held(source, imgsz=160),
        **training(kind, imgsz=160, object_buckets=(64, 512, 1024)),
    )
    batch = train[0]
    assert batch["valid"].sum() > 5
    for key in expected_shapes(task, (160, 160), 64):
        assert np.isfinite(batch[key]).all() and batch[key].any()


def test_formats_are_those_of_the_tasks():
    assert {kind.kind for kind in KINDS.values()} | {"boxes"} == set(objects.KINDS)
