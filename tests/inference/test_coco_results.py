"""COCO's files and evaluation of masks and keypoints, from batches to numbers."""

import dataclasses
import json
import shutil

import faster_coco_eval
import numpy as np
import pytest
from coco_folder import box, change, content_of, entry, opened, write
from faster_coco_eval.core import mask as masks_of_library

from yolojax import config as config_lib
from yolojax.assembly import data as assembly_data
from yolojax.data.batches import labelled as pipeline
from yolojax.data.formats.coco import annotations
from yolojax.data.samples.objects import LabelFormat
from yolojax.data.store import cached
from yolojax.inference.coco_results import CocoResults
from yolojax.types import Detections

LABELS = {
    "segment": LabelFormat("masks", 4, False, None),
    "pose": LabelFormat("keypoints", 4, False, None),
}
# height and width; the long side is 96 in the batch, and the short one is padded
SIZES = {1: (96, 64), 2: (64, 96), 3: (192, 96), 4: (48, 48)}
POINTS = ((0.25, 0.25), (0.75, 0.5), (0.5, 0.75))  # of keypoints within their box


def keypoints(x, y, w, h, hidden):
    """Returns three keypoints of a box, one of which may not be labelled."""
    flat = []
    for i, (along, down) in enumerate(POINTS):
        flat += [0, 0, 0] if i == hidden else [x + along * w, y + down * h, 2 - i % 2]
    return {"keypoints": flat, "num_keypoints": 3 - (hidden is not None)}


def polygon(x, y, w, h):
    return {"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}


@pytest.fixture
def folder(tmp_path):
    """A folder as COCO's: pictures of four shapes, boxes on the cells of masks."""
    found = []
    for number, (height, width) in SIZES.items():
        cell = 4 * max(height, width) // 96 or 2
        for i, (x, y, w, h) in enumerate([(1, 2, 6, 5), (4, 8, 3, 4)]):
            x, y, w, h = (cell * value for value in (x, y, w, h))
            assert x + w <= width and y + h <= height
            more = polygon(x, y, w, h) | keypoints(x, y, w, h, hidden=i or None)
            more |= {"area": 0.5 * w * h, "category_id": (2, 7)[i]}
            found.append(box(len(found) + 1, number, x, y, w, h) | more)
    images = [entry(number, hw) for number, hw in SIZES.items()]
    write(tmp_path, content_of(images, found))
    instances = tmp_path / "annotations" / "instances_val2017.json"
    for split in ("train", "val"):
        path = instances.with_name(f"person_keypoints_{split}2017.json")
        shutil.copy(instances, path)
    return tmp_path


def found_in(source, task):
    """Returns the batches of a source, and its labels as what was detected."""
    images = cached.Images(source, imgsz=96, cache=False, threads=1)
    batches = pipeline.EvalBatches(
        images,
        imgsz=96,
        batch=3,
        stride=32,
        pad=0.5,
        rect=False,
        object_buckets=(2, 4, 8, 16, 32),
        labels=LABELS[task],
    )
    for host in batches:
        yield (
            host,
            Detections(
                boxes=host["boxes"].copy(),
                scores=np.where(host["valid"], 0.5, 0).astype(np.float32),
                classes=host["classes"].copy(),
                valid=host["valid"].copy(),
                masks=packed(host["boxes"]) if task == "segment" else None,
                keypoints=host.get("keypoints"),
            ),
        )


def packed(boxes):
    """Returns masks [B, D, 24, 3] of an input of 96 pixels that fill boxes."""
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)[..., None, None] / 4
    cells = np.arange(24) + 0.5
    across = (cells > x1) & (cells < x2)
    down = (cells[:, None] > y1) & (cells[:, None] < y2)
    return np.packbits(across & down, axis=-1)


def measured(source, task, place, edit=lambda found: found, **options):
    """Returns the numbers, the annotations and the detections that were written."""
    results = CocoResults(source, task, None, **{"single_cls": False} | options)
    for host, found in found_in(source, task):
        results.add(host, edit(found))
    numbers = results.finish(300, place)
    files = (place / f"{name}.json" for name in ("annotations", "predictions"))
    return numbers, *(json.loads(file.read_text()) for file in files)


def own(source):
    """Returns a source that is not a COCO file: its labels are the truth."""
    return dataclasses.replace(source, coco=None)


@pytest.mark.parametrize("form", [lambda source: source, own], ids=["file", "labels"])
@pytest.mark.parametrize(
    ("task", "second"), [("segment", "segm"), ("pose", "keypoints")]
)
def test_labels_as_detections_are_perfect(folder, tmp_path, capsys, form, task, second):
    source = form(opened(folder, "val", task=task))
    numbers, truth, entries = measured(source, task, tmp_path)
    assert numbers["coco/AP"] == numbers[f"coco/{second}/AP"] == 1.0
    assert numbers[f"coco/{second}/AP_300_detections"] == 1.0
    assert len(numbers) == {"segm": 13 + 13, "keypoints": 13 + 11}[second]
    assert len(entries) == len(truth["annotations"]) == 8
    lines = capsys.readouterr().out.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("COCO evaluation of")]
    titles = {"segm": "masks", "keypoints": "keypoints"}
    assert [lines[i].split()[-1] for i in heads] == ["boxes", titles[second]]
    assert len(lines) == len(numbers) + 2


def test_masks_have_the_size_of_the_picture_and_none_of_its_padding(folder, tmp_path):
    source = opened(folder, "val", task="segment")
    _, truth, entries = measured(source, "segment", tmp_path)
    boxes = {(a["image_id"], a["category_id"]): a["bbox"] for a in truth["annotations"]}
    for found in entries:
        hw = SIZES[found["image_id"]]
        mask = annotations.run_length_mask(found["segmentation"], hw)
        x, y, w, h = map(round, boxes[found["image_id"], found["category_id"]])
        want = np.zeros(hw, np.uint8)
        want[y : y + h, x : x + w] = 1
        wrong = mask != want  # corners are rounded off
        assert wrong.sum() <= 24 and not mask[want == 0].any()
        assert found["segmentation"]["size"] == list(hw)


def everything(found):
    """Returns detections whose masks fill the network's input, padding and all."""
    return found.replace(
        boxes=np.broadcast_to(np.float32([0, 0, 96, 96]), found.boxes.shape),
        masks=np.full_like(found.masks, 255),
    )


def test_a_mask_of_all_of_the_input_is_all_of_the_picture(folder, tmp_path):
    source = opened(folder, "val", task="segment")
    _, _, entries = measured(source, "segment", tmp_path, everything)
    for found in entries:
        hw = SIZES[found["image_id"]]
        assert annotations.run_length_mask(found["segmentation"], hw).all()


def blots(found):
    """Returns detections with masks of another form and scores that differ."""
    rng = np.random.default_rng(int(found.valid.sum()))
    coarse = rng.random((*found.masks.shape[:2], 6, 6)) < 0.8
    masks = np.unpackbits(found.masks, axis=-1)
    masks &= coarse.repeat(4, axis=2).repeat(4, axis=3)
    scores = np.where(found.valid, rng.random(found.valid.shape), 0)
    return found.replace(
        masks=np.packbits(masks, axis=-1), scores=scores.astype(np.float32)
    )


def test_numbers_of_masks_are_those_of_whole_masks_in_the_library(folder, tmp_path):
    source = opened(folder, "val", task="segment")
    numbers, truth, entries = measured(source, "segment", tmp_path, blots)

    def encoded(mask):
        return masks_of_library.encode(np.asfortranarray(mask))

    for annotation in truth["annotations"]:
        whole = np.zeros(SIZES[annotation["image_id"]], np.uint8)
        x, y, w, h = map(round, annotation["bbox"])
        whole[y : y + h, x : x + w] = 1
        annotation["segmentation"] = encoded(whole)
    results = []
    for found in entries:
        whole = annotations.run_length_mask(
            found["segmentation"], SIZES[found["image_id"]]
        )
        kept = {k: found[k] for k in ("image_id", "category_id", "score")}
        results.append(kept | {"segmentation": encoded(whole)})
    api = faster_coco_eval.COCO(truth)
    run = faster_coco_eval.COCOeval_faster(
        api, api.loadRes(results), "segm", print_function=lambda text: None
    )
    run.run()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    got = [numbers[f"coco/segm/{name}"] for name in names]
    np.testing.assert_allclose(got, run.stats[:6], atol=1e-12)
    assert 0.05 < got[0] < 0.95 and numbers["coco/AP"] > got[0]


def test_areas_crowds_and_bad_outlines_of_the_file(folder, tmp_path):
    counts = [0, 96 * 64]

    def add(content):
        crowd = {"iscrowd": 1, "area": 5.0, "segmentation": {"size": [96, 64]}}
        crowd["segmentation"]["counts"] = counts
        broken = crowd | {"segmentation": {"size": [9, 9], "counts": "~~"}}
        content["annotations"] += [
            box(90, 1, 0, 0, 64, 96) | crowd,
            box(91, 1, 1, 2, 3, 4) | broken,
        ]

    change(folder, add, "val")
    source = opened(folder, "val", task="segment")
    _, truth, _ = measured(source, "segment", tmp_path)
    *single, whole, broken = truth["annotations"]
    assert all(a["area"] == a["bbox"][2] * a["bbox"][3] / 2 for a in single)
    assert whole["iscrowd"] and whole["area"] == 5.0
    assert whole["segmentation"] == {"size": [96, 64], "counts": counts}
    assert broken["iscrowd"]
    assert broken["segmentation"] == [[1, 2, 4, 2, 4, 6, 1, 6]]  # its box
    # By the labels that training sees, crowds are boxes.
    _, truth, _ = measured(own(source), "segment", tmp_path)
    whole, broken = (a for a in truth["annotations"] if a["iscrowd"])
    assert whole["area"] == 64 * 96
    assert broken["area"] == pytest.approx(12, abs=1e-3)


def test_areas_of_labels_are_those_of_masks_and_of_persons(folder, tmp_path):
    source = own(opened(folder, "val", task="segment"))
    first = source.polygons[0]
    triangle = first[0][:3]  # half of the rectangle
    labels = [(triangle, *first[1:]), *source.polygons[1:]]
    source = dataclasses.replace(source, polygons=labels)
    _, truth, _ = measured(source, "segment", tmp_path)
    half, full, *_ = truth["annotations"]
    assert half["area"] / np.prod(half["bbox"][2:]) == pytest.approx(0.5, abs=0.1)
    assert full["area"] == pytest.approx(np.prod(full["bbox"][2:]), rel=1e-3)
    source = own(opened(folder, "val", task="pose"))
    _, truth, _ = measured(source, "pose", tmp_path)
    for found in truth["annotations"]:
        area = 0.53 * found["bbox"][2] * found["bbox"][3]
        assert found["area"] == pytest.approx(area)


@pytest.mark.parametrize("form", [lambda source: source, own], ids=["file", "labels"])
def test_keypoints_are_in_pixels_of_the_picture(folder, tmp_path, form):
    source = form(opened(folder, "val", task="pose"))
    _, truth, entries = measured(source, "pose", tmp_path)
    for i, (annotation, found) in enumerate(
        zip(truth["annotations"], sorted(entries, key=order), strict=True)
    ):
        x, y, w, h = annotation["bbox"]
        want = keypoints(x, y, w, h, hidden=i % 2 or None)
        np.testing.assert_allclose(
            annotation["keypoints"], want["keypoints"], atol=0.01
        )
        assert annotation["num_keypoints"] == want["num_keypoints"]
        got = np.array(found["keypoints"]).reshape(3, 3)
        labelled = np.array(want["keypoints"]).reshape(3, 3)
        seen = labelled[:, 2] > 0
        np.testing.assert_allclose(got[seen, :2], labelled[seen, :2], atol=0.02)


def order(found):
    return found["image_id"], found["category_id"]


def test_the_sigmas_of_the_data_set_count(folder, tmp_path):
    source = opened(folder, "val", task="pose")

    def moved(found):
        return found.replace(keypoints=found.keypoints + np.float32([1.5, 0, 0]))

    tight = dataclasses.replace(source, kpt_sigmas=(0.01, 0.01, 0.01))
    wide = dataclasses.replace(source, kpt_sigmas=(1.0, 1.0, 1.0))
    first, *_ = measured(tight, "pose", tmp_path, moved)
    second, *_ = measured(wide, "pose", tmp_path, moved)
    assert first["coco/keypoints/AP"] < 0.2 and second["coco/keypoints/AP"] == 1.0
    assert first["coco/AP"] == second["coco/AP"] == 1.0


def test_objects_without_keypoints_in_the_file_are_ignored(folder, tmp_path):
    def none(content):
        for annotation in content["annotations"][:1]:
            annotation |= {"keypoints": [0] * 9, "num_keypoints": 0}
        del content["annotations"][1]["num_keypoints"]  # is counted then

    path = folder / "annotations"
    content = json.loads((path / "person_keypoints_val2017.json").read_text())
    none(content)
    (path / "person_keypoints_val2017.json").write_text(json.dumps(content))
    source = opened(folder, "val", task="pose")
    numbers, truth, entries = measured(source, "pose", tmp_path)
    assert len(entries) == 7 and len(truth["annotations"]) == 8
    assert [a["num_keypoints"] for a in truth["annotations"][:3]] == [0, 2, 3]
    assert numbers["coco/keypoints/AP"] == 1.0
    assert numbers["coco/AP"] < 1.0  # but the box is there to be found


def test_a_file_that_speaks_of_another_size_is_not_the_truth(folder, tmp_path):
    def double(content):
        for image in content["images"]:
            image |= {"height": 2 * image["height"], "width": 2 * image["width"]}
        for found in content["annotations"]:
            found["bbox"] = [2 * value for value in found["bbox"]]
            found["segmentation"] = [[2 * v for v in found["segmentation"][0]]]

    change(folder, double, "val")
    source = opened(folder, "val", task="segment")
    numbers, truth, entries = measured(source, "segment", tmp_path)
    assert numbers["coco/AP"] == numbers["coco/segm/AP"] == 1.0
    assert len(entries) == 8
    assert truth["images"][0]["height"] == 96


def test_detection_has_one_table(folder, tmp_path, capsys):
    source = opened(folder, "val")
    numbers = CocoResults(source, "detect", None, single_cls=False).finish(9, tmp_path)
    assert all(name.count("/") == 1 for name in numbers)
    assert capsys.readouterr().out.count("COCO evaluation of") == 1
    truth = json.loads((tmp_path / "annotations.json").read_text())
    assert {"segmentation", "keypoints"}.isdisjoint(truth["annotations"][0])


# Real pictures.


def test_real_keypoints_as_detections_are_perfect(assets, tmp_path):
    config = config_lib.default("pose")
    config.data = str(assets / "data" / "coco8-pose")
    source = assembly_data.open_split(config_lib.check(config), "val")
    numbers, truth, entries = measured(source, "pose", tmp_path)
    assert len(entries) == len(truth["annotations"]) > 5
    assert numbers["coco/AP"] == numbers["coco/keypoints/AP"] == 1.0
    assert numbers["coco/keypoints/AR75"] == 1.0
