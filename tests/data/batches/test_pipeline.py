"""Loaders: the same bytes whatever the workers, the cache or the starting step."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from batch_cases import BUCKETS, MIXED, assert_same, everything, held
from places import ROOT
from recipes import PLAIN, USUAL
from yolo_files import add, opened, picture, write_yaml

from yolojax.data import Wanted, geometry, open_yolo_folder
from yolojax.data.batches import labelled as pipeline
from yolojax.data.batches import prefetch
from yolojax.data.batches.slots import with_room


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Returns 7 training images of different shapes and 0 to 3 objects."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(7):
        rows = rng.uniform(0.3, 0.6, (number % 4, 4))
        text = "".join(
            f"{number % 3} " + " ".join(f"{value:.4f}" for value in row) + "\n"
            for row in rows
        )
        image = picture(*rng.integers(30, 90, 2).tolist(), seed=number)
        add(root, "train", f"t{number}", text=text, image=image)
    add(root, "val", "v0")
    write_yaml(root, "names: [a, b, c]\ntrain: images/train\nval: images/val\n")
    return opened(root)


def train(source, *, cache=False, workers=0, start_step=0, num_threads=2, **kwargs):
    options = {
        "imgsz": 64,
        "batch": 3,
        "epochs": 4,
        "seed": 1,
        "augment": MIXED,
        "close_mosaic": 1,
        "object_buckets": BUCKETS,
    } | kwargs
    return prefetch.prefetched(
        pipeline.TrainBatches(held(source, cache=cache), **options),
        start_step=start_step,
        workers=workers,
        num_threads=num_threads,
        prefetch=2,
    )


def evaluation(source, *, workers=0, **kwargs):
    options = {
        "imgsz": 64,
        "batch": 3,
        "stride": 32,
        "pad": 0.5,
        "rect": True,
        "object_buckets": BUCKETS,
    } | kwargs
    return prefetch.prefetched(
        pipeline.EvalBatches(held(source, imgsz=options["imgsz"]), **options),
        start_step=0,
        workers=workers,
        num_threads=1,
        prefetch=1,
    )


def test_batches_have_the_promised_arrays(source):
    batches = everything(train(source))
    assert len(batches) == 4 * 3
    for batch in batches:
        slots = batch["boxes"].shape[1]
        assert slots in BUCKETS
        kinds = {key: (value.shape, value.dtype) for key, value in batch.items()}
        assert kinds == {
            "image": ((3, 64, 64, 3), np.uint8),
            "boxes": ((3, slots, 4), np.float32),
            "classes": ((3, slots), np.int32),
            "valid": ((3, slots), np.bool_),
            "image_id": ((3,), np.int32),
            "example_valid": ((3,), np.bool_),
        }
        assert (batch["boxes"][~batch["valid"]] == 0).all()
        assert (batch["classes"][~batch["valid"]] == 0).all()
    last = batches[2]
    assert last["example_valid"].tolist() == [True, False, False]
    assert last["image_id"].tolist()[1:] == [-1, -1]
    assert not last["image"][1:].any() and not last["valid"][1:].any()


def test_every_epoch_shows_every_image_once_in_a_new_order(source):
    loader = train(source)
    orders = []
    for epoch in range(4):
        steps = range(epoch * 3, epoch * 3 + 3)
        orders.append([i for step in steps for i in loader.indices(step)])
        assert sorted(orders[-1]) == list(range(7))
    assert len(set(map(tuple, orders))) > 1
    shown = [b["image_id"][b["example_valid"]].tolist() for b in everything(loader)]
    assert shown == [loader.indices(step) for step in range(12)]
    assert loader.batches_per_epoch == 3


def test_threads_give_the_same_bytes(source):
    want = everything(train(source, num_threads=1))
    assert_same(everything(train(source, num_threads=4)), want)


@pytest.mark.process
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_worker_processes_give_the_same_bytes(source, workers):
    want = everything(train(source, num_threads=1))
    assert_same(everything(train(source, workers=workers, num_threads=1)), want)


def test_run_continues_at_any_step(source):
    whole = everything(train(source))
    for step in (1, 5, 11):
        assert_same(everything(train(source, start_step=step)), whole[step:])


@pytest.mark.process
def test_worker_processes_continue_at_any_step(source):
    resumed = everything(train(source, start_step=7, workers=2, num_threads=1))
    assert_same(resumed, everything(train(source))[7:])


def test_cache_never_changes_bytes(source):
    assert_same(everything(train(source, cache="ram")), everything(train(source)))


def test_cached_images_are_those_of_the_source(source):
    cached, plain = held(source, cache=True), held(source)
    for index in range(len(source)):
        image = cached.image(index)
        assert image.shape[:2] == tuple(plain.sizes[index])
        np.testing.assert_array_equal(image, plain.image(index))


def test_close_mosaic_starts_with_its_epoch(source):
    options = dataclasses.replace(USUAL, mosaic=1.0)
    for close, plain_epochs in ((0, 0), (1, 1), (4, 4), (9, 4)):
        batches = train(source, augment=options, close_mosaic=close).batches
        joined = [len(batches.plan(e, 0).base.sources) == 4 for e in range(4)]
        assert joined == [True] * (4 - plain_epochs) + [False] * plain_epochs


def test_number_of_slots_is_usual_and_grows_when_needed(source):
    batches = train(source).batches
    runs = [(epoch, index) for epoch in range(4) for index in range(7)]
    counts = [len(batches.plan(*sample).objects) for sample in runs]
    assert batches.base_slots == pipeline.bucket_for(max(counts), BUCKETS, "")
    small = dataclasses.replace(PLAIN, mixup=0.0)
    loader = train(source, augment=small, object_buckets=(2, 3, 16))
    assert loader.batches.base_slots == 3
    assert loader.batches.spare_slots is None  # every sample of the run was counted
    loader.batches.spare_slots = 16
    assert [loader.batches._slots([n], [0]) for n in (1, 3, 4, 9)] == [3, 3, 16, 16]
    many = [{"boxes": np.ones((9, 4), np.float32), "classes": np.ones(9, np.int32)}]
    assert loader.batches._slots([9], [0]) == 16
    got = pipeline.collate(many, [5], 2, 16)
    assert got["valid"].sum() == 9 and got["image_id"].tolist() == [5, -1]


def test_rare_batches_get_their_slots_from_the_tail_of_the_counts(source, monkeypatch):
    monkeypatch.setattr(pipeline, "DRY_SAMPLES", 7)
    batches = train(source, object_buckets=(1, 3, 16, 64)).batches
    monkeypatch.setattr(pipeline, "likely_most", lambda counts, total: 50)
    raised = train(source, object_buckets=(1, 3, 16, 64)).batches
    assert batches.spare_slots is None  # too few were seen to tell
    bound = raised._upper_bound()
    assert raised.spare_slots == (64 if bound > 16 else 16) > raised.base_slots
    every = [raised.plan(e, i) for e in range(raised.epochs) for i in range(7)]
    assert max(len(plan.objects) for plan in every) <= bound


def test_a_sample_of_a_late_epoch_always_finds_room(source, monkeypatch, caplog):
    caplog.set_level("INFO", "yolojax")
    samples = [(epoch, index) for epoch in range(4) for index in range(7)]
    plain = train(source).batches
    counts = [len(plan.objects) for plan in (plain.plan(*each) for each in samples)]
    assert max(counts) > counts[0] > 0
    monkeypatch.setattr(pipeline, "DRY_SAMPLES", 1)  # it is seen, the others come
    batches = train(source, object_buckets=(counts[0],)).batches
    for step in range(len(batches)):
        batches[step]
    bound, added = batches._upper_bound(), batches.object_buckets[-1]
    assert bound <= added < bound + 8
    assert f"{added} is added to ({counts[0]},), as a sample" in caplog.text
    assert with_room((8, 2048), 2048) == (8, 2048)
    assert with_room((8, 2048), 2120) == (8, 2048, 2304)


def test_likely_most_goes_on_as_the_tail_does():
    rng = np.random.default_rng(0)
    counts = rng.geometric(0.1, 1 << 20)  # the chance falls by equal factors
    seen = counts[:2048]
    for total in (2048, 1 << 14, 1 << 20):
        found = pipeline.likely_most(seen, total)
        assert 0.7 < found / counts[:total].max() < 1.4
    assert pipeline.likely_most(seen, 2048) == seen.max()
    assert pipeline.likely_most(np.full(2048, 3), 1 << 20) == 3
    assert pipeline.likely_most(np.arange(50), 1 << 20) == 49


def test_more_objects_than_slots_is_an_error(source):
    with pytest.raises(ValueError, match=r"/t\d.jpg: has . objects.*object_buckets"):
        train(source, augment=PLAIN, object_buckets=(1, 2))
    with pytest.raises(
        ValueError, match=r"/t\d.jpg: has 3 obj.*Append a larger bucket"
    ):
        evaluation(source, object_buckets=(1, 2))


@pytest.mark.parametrize("buckets", [(), (0, 4), (8, 4), (4, 4)])
def test_wrong_buckets_are_refused(source, buckets):
    with pytest.raises(ValueError, match="object_buckets = "):
        train(source, object_buckets=buckets)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_wrong_seeds_are_refused(source, seed):
    with pytest.raises(ValueError, match="seed = "):
        train(source, seed=seed)


def test_image_that_vanishes_stops_the_epoch_by_name(source, tmp_path):
    for number in range(3):
        add(tmp_path, "train", f"t{number}")
    write_yaml(tmp_path, "names: [a]\ntrain: images/train\nval: images/train\n")
    loader = train(opened(tmp_path))
    (tmp_path / "images/train/t1.jpg").unlink()
    with loader, pytest.raises(ValueError, match=r"t1\.jpg: cannot be read"):
        list(loader)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.process)])
def test_loader_can_be_left_early(source, workers):
    loader = train(source, workers=workers, num_threads=1)
    batch = next(loader)
    loader.close()
    loader.close()
    assert type(batch["image"]) is np.ndarray and batch["image"].any()
    with pytest.raises(ValueError, match="loader is closed"):
        next(loader)


LEAVE_OPEN = """
import pickle, sys
from yolojax.data.batches import prefetch
if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        batches = pickle.load(file)
    loader = prefetch.prefetched(
        batches, start_step=0, workers=1, num_threads=1, prefetch=2
    )
    batch = next(loader)
"""


@pytest.mark.process
def test_loader_left_open_cleans_up_at_exit(source, tmp_path):
    (tmp_path / "batches.pkl").write_bytes(pickle.dumps(train(source).batches))
    (tmp_path / "leave_open.py").write_text(LEAVE_OPEN)
    command = [sys.executable, tmp_path / "leave_open.py", tmp_path / "batches.pkl"]
    root = ROOT
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_batches_travel_to_other_processes(source):
    batches = train(source).batches
    again = pickle.loads(pickle.dumps(batches))
    assert_same([again[4]], [batches[4]])


def test_images_match_their_boxes():
    """A bright rectangle on black stays inside its box through the whole pipeline."""

    class Drawn:
        names = ("box",)
        original_hw = np.full((8, 2), 64)
        polygons = keypoints = None
        labels = [np.array([[0, 0.5, 0.4, 0.5, 0.25]], np.float32)] * 8

        def __len__(self):
            return 8

        def load(self, index, imgsz):
            image = np.zeros((64, 64, 3), np.uint8)
            image[18:34, 16:48] = 255  # cy 0.4 * 64 = 25.6: rows 17.6 to 33.6
            return image

    options = dataclasses.replace(
        USUAL, hsv_h=0.0, hsv_s=0.0, hsv_v=0.0, flipud=0.5, degrees=10.0
    )
    batches = train(Drawn(), augment=options, batch=8, close_mosaic=2).batches
    checked = 0
    for step in range(4):
        batch = batches[step]
        for row in range(8):
            bright = batch["image"][row, :, :, 0] > 200
            covered = np.zeros_like(bright)
            for x1, y1, x2, y2 in batch["boxes"][row][batch["valid"][row]]:
                area = (
                    slice(int(y1 - 1), int(y2) + 3),
                    slice(int(x1 - 1), int(x2) + 3),
                )
                area = tuple(slice(max(s.start, 0), s.stop) for s in area)
                covered[area] = True
                checked += 1
            # Slivers of objects cut off by a border may have lost their box.
            assert (bright & ~covered).sum() <= 0.25 * max(bright.sum(), 1) + 60
    assert checked > 30


# Evaluation


def reference_folder(root, stored):
    meta = json.loads(str(stored["meta_json"]))
    for number, text in enumerate(meta["label_texts"]):
        add(
            root, "val", str(number), text=text, image=stored[f"img{number}_bgr"],
            suffix=".png",
        )  # fmt: skip
    write_yaml(root, "names: [a, b, c]\ntrain: images/val\nval: images/val\n")
    return meta, opened(root, "val")


def test_validation_batches_match_reference(golden, tmp_path):
    stored = golden("dataset_val_batches")
    meta, source = reference_folder(tmp_path, stored)
    loader = evaluation(source, imgsz=96)
    assert loader.batches.shapes() == [tuple(hw) for hw in meta["batch_shapes_hw"]]
    batches = everything(loader)
    assert len(batches) == 3
    for number, (batch, want) in enumerate(zip(batches, meta["batches"], strict=True)):
        name = f"detect/b{number}"
        used = batch["example_valid"]
        assert used.tolist() == [True] * len(want["files"]) + [False] * (
            3 - len(want["files"])
        )
        files = [source.paths[i].rsplit("/", 1)[1] for i in batch["image_id"][used]]
        assert files == want["files"]
        np.testing.assert_array_equal(batch["original_hw"][used], want["ori_shape"])
        gains = [[*gain, *pad] for gain, pad in want["ratio_pad"]]
        np.testing.assert_allclose(batch["letterbox"][used], gains, rtol=1e-6)
        image = stored[f"{name}/img"].transpose(0, 2, 3, 1)
        assert np.abs(batch["image"][used].astype(int) - image).max() <= 1
        row, slot = np.nonzero(batch["valid"])
        np.testing.assert_array_equal(row, stored[f"{name}/batch_idx"])
        np.testing.assert_array_equal(
            batch["classes"][row, slot], stored[f"{name}/cls"][:, 0]
        )
        x1, y1, x2, y2 = batch["boxes"][row, slot].T
        height, width = batch["image"].shape[1:3]
        boxes = np.stack(
            [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height,
             (x2 - x1) / width, (y2 - y1) / height], axis=1
        )  # fmt: skip
        np.testing.assert_allclose(boxes, stored[f"{name}/bboxes"], atol=1e-5)


def test_square_evaluation_keeps_order_and_shape(source):
    batches = everything(evaluation(source, rect=False))
    assert [batch["image"].shape for batch in batches] == [(3, 64, 64, 3)] * 3
    ids = np.concatenate([batch["image_id"] for batch in batches])
    assert ids.tolist() == [*range(7), -1, -1]
    assert batches[2]["letterbox"][1:].tolist() == [[1, 1, 0, 0]] * 2


def test_letterbox_maps_boxes_back_to_the_original(source):
    for rect in (True, False):
        for batch in everything(evaluation(source, rect=rect)):
            for row in np.flatnonzero(batch["example_valid"]):
                index = batch["image_id"][row]
                gain_h, gain_w, left, top = batch["letterbox"][row].tolist()
                boxes = batch["boxes"][row][batch["valid"][row]]
                got = (boxes - [left, top, left, top]) / [
                    gain_w,
                    gain_h,
                    gain_w,
                    gain_h,
                ]
                want = geometry.label_pixels(
                    source.labels[index], source.original_hw[index].tolist()
                )
                np.testing.assert_allclose(got, want, atol=1e-3)


@pytest.mark.process
def test_evaluation_workers_give_the_same_bytes(source):
    want = everything(evaluation(source))
    assert_same(everything(evaluation(source, workers=2)), want)


def test_real_pictures(assets):
    source = pipeline_source(assets / "data/coco128/data.yaml")
    loader = train(
        source, imgsz=320, batch=16, epochs=1, close_mosaic=0,
        object_buckets=(64, 128, 256),
    )  # fmt: skip
    with loader:
        batch = next(loader)
    assert batch["valid"].sum() > 50
    assert 40 < batch["image"].mean() < 200
    assert cv2.Laplacian(batch["image"][0], cv2.CV_64F).std() > 1


def pipeline_source(path):
    wanted = Wanted("detect", False, None, 32, "head", 0)
    return open_yolo_folder(path, "train", wanted, cache_dir=None, threads=2)
