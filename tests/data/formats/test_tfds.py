"""Data sets of TensorFlow Datasets: the same batches as files, and what is refused."""

import dataclasses
import io
import json
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from coco_folder import first_batches, same_batches, same_source
from yolo_files import picture

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.data import (
    SOURCES,
    description_of,
    layout_of,
    open_coco_json,
    open_tfds,
)
from yolojax.data.batches import labelled as pipeline
from yolojax.data.batches import prefetch
from yolojax.data.formats import tfds as source_lib
from yolojax.data.formats.coco import annotations as coco_objects
from yolojax.data.formats.labelled import Wanted
from yolojax.data.formats.yolo_folder import open_yolo_folder
from yolojax.data.store import cached

ALL = Wanted("detect", False, None, 1.0, "head", 0)
NAMES = ["cat", "dog", "owl"]
SIZES = [(97, 131), (64, 64), (48, 120), (101, 77), (33, 50), (80, 61), (55, 90)]


@dataclasses.dataclass
class Example:
    name: str
    data: bytes
    hw: tuple[int, int]
    boxes: list[list[float]]  # x, y, width, height: pixels with two decimals
    labels: list[int]
    crowd: list[bool]


def examples(seed=0, sizes=SIZES):
    """Returns pictures with boxes; the first one is a crowd, the last picture empty."""
    rng = np.random.default_rng(seed)
    found = []
    for i, (height, width) in enumerate(sizes):
        image = picture(height, width, seed=100 * seed + i)
        data = cv2.imencode(".jpg", image)[1].tobytes()
        count = 0 if i == len(sizes) - 1 else 3 + i
        corner = rng.uniform(0, 0.5, (count, 2)) * [width, height]
        side = rng.uniform(0.02, 0.5, (count, 2)) * [width, height]
        boxes = np.concatenate([corner, side], 1).round(2).tolist()
        labels = rng.integers(0, 3, count).tolist()
        crowd = [i == 0 and k == 0 for k in range(count)]
        name = f"{(i * 5) % 7}.jpg"  # another order than that of the list
        found.append(Example(name, data, (height, width), boxes, labels, crowd))
    return found


def builder_of(title, splits, features, record):
    """Returns a class of data sets of this name."""

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = title

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            return {key: self._generate_examples(value) for key, value in splits()}

        def _generate_examples(self, given):
            for i, example in enumerate(given):
                yield i, record(example)

    return Made


def image_feature():
    return tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")


def objects_feature(crowd=True, label=True):
    given = {"bbox": tfds.features.BBoxFeature()}
    if label:
        given["label"] = tfds.features.ClassLabel(names=NAMES)
    if crowd:
        given["is_crowd"] = np.bool_
    return tfds.features.Sequence(given)


def record_of(example):
    height, width = example.hw
    objects = [
        {
            "bbox": tfds.features.BBox(
                ymin=y / height,
                xmin=x / width,
                ymax=(y + h) / height,
                xmax=(x + w) / width,
            ),
            "label": label,
            "is_crowd": crowd,
        }
        for (x, y, w, h), label, crowd in zip(
            example.boxes, example.labels, example.crowd, strict=True
        )
    ]
    return {
        "image": io.BytesIO(example.data),
        "image/filename": example.name,
        "objects": objects,
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Returns the folder of data sets that were prepared without TensorFlow."""
    root = tmp_path_factory.mktemp("tfds")
    usual = {
        "image": image_feature(),
        "image/filename": tfds.features.Text(),
        "objects": objects_feature(),
    }

    def make(name, splits, features, record):
        made = builder_of(name, splits, features, record)
        made(data_dir=root, file_format="array_record").download_and_prepare()

    make(
        "scenes",
        lambda: [("train", examples()), ("validation", examples(1))],
        usual,
        record_of,
    )

    def face(example):
        boxes = [{"bbox": o["bbox"]} for o in record_of(example)["objects"]]
        return {"image": io.BytesIO(example.data), "faces": boxes}

    make(
        "plain_faces",
        lambda: [("train", examples()), ("test", examples(1))],
        {"image": image_feature(), "faces": objects_feature(crowd=False, label=False)},
        face,
    )
    make(
        "digits",
        lambda: [("train", examples())],
        {"image": image_feature(), "label": tfds.features.ClassLabel(num_classes=3)},
        lambda e: {"image": io.BytesIO(e.data), "label": 1},
    )
    return root


@pytest.fixture(autouse=True)
def here(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))


def opened(name="scenes", split="train", cache_dir=None, **changes):
    wanted = dataclasses.replace(ALL, **changes)
    return open_tfds(f"tfds:{name}", split, wanted, cache_dir=cache_dir, threads=2)


# The same data in three layouts


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Returns the same pictures as a YOLO folder and as a folder as COCO's."""
    root = tmp_path_factory.mktemp("files")
    (root / "coco/annotations").mkdir(parents=True)
    for split, seed in (("train", 0), ("val", 1)):
        content = {"images": [], "annotations": [], "categories": []}
        content["categories"] = [{"id": 3 * i, "name": n} for i, n in enumerate(NAMES)]
        folders = [root / "coco" / split]
        folders += [root / "yolo" / kind / split for kind in ("images", "labels")]
        for folder in folders:
            folder.mkdir(parents=True)
        for number, example in enumerate(examples(seed)):
            for folder in folders[:2]:
                (folder / example.name).write_bytes(example.data)
            height, width = example.hw
            image = {"id": number, "file_name": example.name}
            content["images"].append(image | {"height": height, "width": width})
            rows = []
            objects = zip(example.boxes, example.labels, example.crowd, strict=True)
            for box, label, crowd in objects:
                annotation = {"id": len(content["annotations"]), "image_id": number}
                annotation |= {"bbox": box, "category_id": 3 * label}
                content["annotations"].append(annotation | {"iscrowd": int(crowd)})
                x, y, w, h = box
                row = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
                if not crowd:
                    rows.append(" ".join(f"{n:g}" for n in (label, *row)) + "\n")
            text = root / "yolo/labels" / split / example.name.replace("jpg", "txt")
            text.write_text("".join(rows))
        path = root / "coco/annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content))
    (root / "yolo/data.yaml").write_text(
        "names: [cat, dog, owl]\ntrain: images/train\nval: images/val\n"
    )
    return root


@pytest.mark.parametrize("split", ["train", "val"])
def test_three_layouts_of_the_same_data_give_the_same_batches(written, split):
    options = {"cache_dir": None, "threads": 2}
    yolo = open_yolo_folder(written / "yolo", split, ALL, **options)
    json_file = open_coco_json(written / "coco", split, ALL, **options)
    tfds_source = opened(split=split)
    same_source(json_file, yolo)
    same_source(tfds_source, yolo)
    assert tfds_source.names == json_file.names == yolo.names == tuple(NAMES)
    np.testing.assert_array_equal(tfds_source.original_hw, yolo.original_hw)
    for one, other in zip(tfds_source.crowds, json_file.crowds, strict=True):
        assert one.tobytes() == other.tobytes()
    assert sum(len(rows) for rows in tfds_source.crowds) == 1
    expected = first_batches(yolo, count=9)
    same_batches(first_batches(json_file, count=9), expected)
    same_batches(first_batches(tfds_source, count=9), expected)
    assert "tensorflow" not in sys.modules


def test_boxes_of_large_pictures_are_told_from_float32():
    rng = np.random.default_rng(3)
    differ = 0
    for _ in range(2000):
        hw = int(rng.integers(300, 6000)), int(rng.integers(300, 6000))
        x, y, w, h = (rng.uniform(1, 150, 4)).round(2).tolist()
        # As a builder writes it: corners, relative, in float32.
        corners = np.float32([y / hw[0], x / hw[1], (y + h) / hw[0], (x + w) / hw[1]])
        layout = source_lib.TfdsFeatures("objects", True, None, None, ("a", "b"))
        objects = {"bbox": [corners], "label": [1]}
        (row,), _, _ = source_lib._rows(objects, layout, hw)
        differ += row != coco_objects.box_row(1, [x, y, w, h], hw)
    assert not differ


def test_a_run_opens_each_layout(written, monkeypatch, tmp_path):
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path))
    sources = []
    for data in (written / "yolo", written / "coco", "tfds:scenes"):
        config = config_lib.default(task="detect")
        config.data = str(data)
        config = config_lib.check(config)
        assert config.data == str(data)
        sources.append(loading.open_split(config, "train"))
        assert SOURCES[layout_of(config.data, description_of(config.data))] is not None
    for source in sources[1:]:
        same_source(source, sources[0])
    config = config_lib.default(task="classify")
    config.data = "tfds:digits"
    with pytest.raises(ValueError, match="only for task 'detect', .* is 'classify'"):
        loading.open_split(config_lib.check(config), "train")


@pytest.mark.process
def test_workers_read_the_pictures_themselves(written):
    source = opened()
    again = pickle.loads(pickle.dumps(source))
    assert again.reader is not source.reader
    for i in range(len(source)):
        np.testing.assert_array_equal(again.load(i, 64), source.load(i, 64))
    chosen = opened(fraction=0.5, fraction_mode="stratified")
    assert 1 < len(chosen) < len(source)
    for i, path in enumerate(chosen.paths):
        same = source.load(source.paths.index(path), 64)
        np.testing.assert_array_equal(chosen.load(i, 64), same)
    batches = pipeline.EvalBatches(
        cached.Images(chosen, imgsz=64, cache=False, threads=1),
        imgsz=64,
        batch=2,
        stride=32,
        pad=0.5,
        rect=False,
        object_buckets=(16,),
    )
    with prefetch.prefetched(
        batches, start_step=0, workers=1, num_threads=1, prefetch=1
    ) as loader:
        for step, batch in enumerate(loader):
            for key, value in batches[step].items():
                np.testing.assert_array_equal(batch[key], value)
    assert step == len(batches) - 1


def test_names_of_pictures(written):
    source = opened()
    assert source.paths == tuple(f"tfds:scenes/train/{i}.jpg" for i in range(7))
    faces = opened("plain_faces")
    assert faces.paths == tuple(f"tfds:plain_faces/train/{i:06d}" for i in range(7))
    assert faces.names == ("faces",) and faces.crowds is None
    assert sorted(faces.digests) == sorted(source.digests)
    assert {row[0] for rows in faces.labels for row in rows} == {0}
    assert len(opened("scenes:1.0.0", "val")) == 7


def test_a_missing_validation_split_is_replaced(caplog):
    source = opened("plain_faces", "val")
    assert "no validation split; its test split is used" in caplog.text
    assert source.paths[0].startswith("tfds:plain_faces/test/")
    assert opened("plain_faces", "test").digests == source.digests
    with pytest.raises(ValueError, match="no split for `test`.*train, validation"):
        opened("scenes", "test")


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_tasks_that_boxes_do_not_serve_are_refused(task):
    with pytest.raises(ValueError, match=f"only for task 'detect'.*'{task}'"):
        opened(task=task)


@pytest.mark.parametrize(
    "name", ["coco/2017", "nothing", "scenes:2.0.0", "", "scenes/x"]
)
def test_a_data_set_that_is_not_prepared_says_how(name, prepared):
    with pytest.raises(FileNotFoundError) as caught:
        opened(name)
    text = str(caught.value)
    assert f"data = 'tfds:{name}' is not prepared in {prepared}" in text
    assert "TFDS_DATA_DIR" in text and "download_and_prepare()" in text
    assert f"tfds.builder('{name}'".replace(":2.0.0", "") in text


def test_configs_are_listed(prepared, tmp_path, monkeypatch):
    (tmp_path / "many").mkdir()
    (tmp_path / "many/2017").symlink_to(prepared / "scenes")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(opened("many/2017")) == 7
    with pytest.raises(FileNotFoundError, match="It is there as 2017"):
        opened("many")


def test_data_without_boxes_is_refused():
    with pytest.raises(ValueError, match="features are image, label. Choose"):
        opened("digits")


def test_records_of_another_format_are_refused(prepared, tmp_path, monkeypatch):
    (tmp_path / "scenes/1.0.0").mkdir(parents=True)
    for path in (prepared / "scenes/1.0.0").glob("*.json"):
        text = path.read_text().replace("array_record", "tfrecord")
        (tmp_path / "scenes/1.0.0" / path.name).write_text(text)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="stored as tfrecord, which only TensorFlow"):
        opened()


def test_wrong_records_are_left_out(tmp_path, monkeypatch):
    good, far, empty, twice, broken = examples(sizes=SIZES[:4] + SIZES[:1])
    far.boxes[0] = [far.hw[1], 0.0, 9.0, 9.0]
    empty.boxes[0][2] = 0.0
    twice.boxes[1], twice.labels[1] = twice.boxes[0], twice.labels[0]
    broken.name, broken.data = "z.jpg", broken.data[:90]
    given = [good, far, empty, twice, broken]
    made = builder_of(
        "wrong",
        lambda: [("train", given)],
        {
            "image": image_feature(),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence(
                {
                    "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "label": tfds.features.ClassLabel(names=NAMES),
                    "is_crowd": np.bool_,
                }
            ),
        },
        lambda e: record_of(e) | {"objects": loose(e)},
    )
    made(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = opened("wrong")
    assert [Path(path).name for path in source.paths] == ["0.jpg", "1.jpg", "3.jpg"]
    reasons = {Path(p.file).name: (p.code, p.dropped) for p in source.problems}
    codes = {
        "5.jpg": ("coordinate_above_1.01", True),
        "3.jpg": ("empty_boxes", False),
        "1.jpg": ("duplicates_removed", False),
        "z.jpg": ("truncated_image", True),
    }
    assert reasons.keys() == codes.keys()
    for name, (code, dropped) in codes.items():
        assert reasons[name] == (code, dropped)


def loose(example):
    """Returns objects of any coordinates, which the usual feature would refuse."""
    height, width = example.hw
    return [
        {
            "bbox": [y / height, x / width, (y + h) / height, (x + w) / width],
            "label": label,
            "is_crowd": crowd,
        }
        for (x, y, w, h), label, crowd in zip(
            example.boxes, example.labels, example.crowd, strict=True
        )
    ]


def test_the_scan_is_kept(tmp_path, monkeypatch):
    first = opened(cache_dir=tmp_path)
    calls = []
    real = source_lib.verify_record
    monkeypatch.setattr(
        source_lib, "verify_record", lambda *a: calls.append(a) or real(*a)
    )
    second = opened(cache_dir=tmp_path)
    assert not calls
    same_source(first, second)
    assert first.paths == second.paths
    for one, other in zip(first.crowds, second.crowds, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(first.load(3, 64), second.load(3, 64))
    opened(split="val", cache_dir=tmp_path)
    assert len(calls) == 7
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    same_source(opened(cache_dir=tmp_path), first)
    assert len(calls) == 14


def test_crowds_follow_the_wanted_classes():
    source = opened()
    ((index, rows),) = [(i, r) for i, r in enumerate(source.crowds) if len(r)]
    crowd_class = int(rows[0, 0])
    other = [c for c in range(3) if c != crowd_class]
    assert len(opened(classes=[crowd_class]).crowds[index]) == 1
    assert not any(len(rows) for rows in opened(classes=other).crowds)
    assert opened(single_cls=True).crowds[index][0, 0] == 0


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match="pip install tensorflow-datasets"):
        opened()
