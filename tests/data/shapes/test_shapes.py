"""The built-in drawn data set: determinism, exact labels, an atomic cache."""

import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from places import ROOT

from yolojax import cache
from yolojax.data.shapes import folder as shapes
from yolojax.data.shapes import scene as shapes_scene

SMALL = {"train": 6, "val": 3}
NAME = f"shapes-detect-v{shapes.VERSION}"


@pytest.fixture(scope="module")
def scenes():
    return [shapes.draw_scene(0, "train", i, 160) for i in range(150)]


@pytest.fixture(scope="module")
def objects(scenes):
    return [o for scene in scenes for o in scene.objects]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(shapes, "COUNTS", SMALL)


def tree(root: Path) -> dict[str, bytes]:
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


# Scenes


def test_scene_is_a_pure_function_of_its_numbers():
    first = shapes.draw_scene(3, "val", 7, 96)
    np.random.default_rng(0).random(5)
    shapes.draw_scene(3, "val", 8, 96)
    again = shapes.draw_scene(3, "val", 7, 96)
    assert first.image.tobytes() == again.image.tobytes()
    for a, b in zip(first.objects, again.objects, strict=True):
        for field in dataclasses.fields(a):
            np.testing.assert_array_equal(
                getattr(a, field.name), getattr(b, field.name)
            )


@pytest.mark.parametrize("other", [(4, "val", 7), (3, "train", 7), (3, "val", 8)])
def test_every_number_matters(other):
    one, two = shapes.draw_scene(3, "val", 7, 96), shapes.draw_scene(*other, 96)
    assert np.abs(one.image.astype(int) - two.image).mean() > 3


def test_layout_does_not_depend_on_size():
    for index in range(20):
        small = shapes.draw_scene(0, "train", index, 64)
        large = shapes.draw_scene(0, "train", index, 256)
        assert len(small.objects) == len(large.objects)
        for a, b in zip(small.objects, large.objects, strict=True):
            assert a.class_id == b.class_id
            np.testing.assert_allclose(a.outline * 4, b.outline, rtol=0, atol=1e-3)


def test_types_and_shapes(scenes):
    for scene in scenes:
        assert scene.image.shape == (160, 160, 3) and scene.image.dtype == np.uint8
        for o in scene.objects:
            assert o.mask.shape == (160, 160) and o.mask.dtype == bool
            assert o.box.shape == (4,) and o.rotated_box.shape == (5,)
            assert o.keypoints.shape == (len(shapes_scene.KEYPOINTS), 3)
            assert o.outline.ndim == 2 and o.outline.shape[1] == 2
            for array in (o.box, o.rotated_box, o.keypoints, o.outline):
                assert array.dtype == np.float32


def test_counts_sizes_and_classes(scenes, objects):
    counts = np.bincount([len(s.objects) for s in scenes], minlength=6)
    assert len(counts) == 1 + shapes_scene.MAX_OBJECTS and (counts[1:] > 5).all()
    assert counts[0] < 0.06 * len(scenes)
    low, high = shapes_scene.EXTENT
    extents = [np.ptp(o.outline, axis=0).max() / 160 for o in objects]
    assert low - 1e-4 <= min(extents) < 0.25 and 0.5 < max(extents) <= high + 1e-4
    share = np.bincount([o.class_id for o in objects], minlength=4) / len(objects)
    assert len(share) == 4 and (share > 0.17).all()


def test_objects_overlap_and_stay_visible(objects):
    shares = np.array([o.visible_share for o in objects])
    assert shares.min() >= shapes_scene.MIN_VISIBLE
    assert 0.1 < (shares < 0.95).mean() < 0.6  # partly hidden ones are common


@pytest.mark.parametrize("size", [64, 128, 160])
def test_visible_share_holds_in_the_whole_data_set(size):
    for split, count in shapes.COUNTS.items():
        for index in range(0, count, 4):
            for o in shapes.draw_scene(shapes.SEED, split, index, size).objects:
                bound = shapes_scene.MIN_VISIBLE - (0.05 if size == 64 else 0)
                assert o.visible_share >= bound, (split, index)


def test_background_pictures_exist_in_the_data_set():
    empty = sum(
        not shapes.draw_scene(shapes.SEED, split, index, 32).objects
        for split, count in shapes.COUNTS.items()
        for index in range(0, count, 4)
    )
    assert 1 <= empty <= 12


def test_box_and_mask_agree(scenes):
    alone = 0
    for scene in scenes:
        for o in scene.objects:
            ys, xs = np.nonzero(o.mask)
            seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert (seen[:2] > o.box[:2] - 1).all() and (seen[2:] < o.box[2:] + 1).all()
            others = [p for p in scene.objects if p is not o]
            if all(
                (p.box[:2] > o.box[2:] + 1).any() or (p.box[2:] < o.box[:2] - 1).any()
                for p in others
            ):
                alone += 1
                # A pixel counts from half coverage, and a sharp point ends in fewer.
                blunt = shapes.CLASSES[o.class_id] in ("circle", "rectangle")
                np.testing.assert_allclose(seen, o.box, atol=1 if blunt else 3)
            # An independent test: every pixel that is seen lies within the outline.
            contour = o.outline.reshape(-1, 1, 2)
            for x, y in list(zip(xs, ys, strict=True))[::37]:
                centre = (float(x) + 0.5, float(y) + 0.5)
                assert cv2.pointPolygonTest(contour, centre, True) >= -0.75
    assert alone > 50


def test_box_fits_the_drawn_outline_within_a_pixel(objects):
    cut = 0
    for o in objects:
        big = np.zeros((1280, 1280), np.uint8)  # 8 samples a pixel, 0 .. 160
        points = np.round((o.outline * 8 - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(big, [points], 1, shift=4)
        x, y, w, h = cv2.boundingRect(big)
        drawn = np.array([x, y, x + w, y + h]) / 8
        np.testing.assert_allclose(drawn, o.box, atol=0.4)
        clamped = np.concatenate([o.outline.min(0), o.outline.max(0)]).clip(0, 160)
        cut += np.abs(clamped - o.box).max() > 1
    assert cut > 3  # some have their widest point beyond the border


def test_masks_are_disjoint(scenes):
    for scene in scenes:
        if scene.objects:
            assert sum(o.mask.astype(int) for o in scene.objects).max() == 1


def test_objects_can_be_seen_in_the_picture(scenes):
    """A mask that misses its shape, or a shape in the ground's colour, shows here."""
    contrast = []
    for scene in scenes:
        ground = ~np.any([o.mask for o in scene.objects], axis=0)
        for o in scene.objects:
            near = cv2.dilate(o.mask.astype(np.uint8), np.ones((13, 13), np.uint8))
            ring = (near > 0) & ground
            if not ring.any():  # other objects all around
                continue
            inner = cv2.erode(o.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            gap = scene.image[inner].mean(0) - scene.image[ring].mean(0)
            contrast.append(np.abs(gap).max())
    assert len(contrast) > 100
    assert np.median(contrast) > 60 and np.quantile(contrast, 0.03) > 15


def test_colour_does_not_tell_the_class(scenes):
    hues: list[list[float]] = [[], [], [], []]
    for scene in scenes:
        hue = cv2.cvtColor(scene.image, cv2.COLOR_BGR2HSV)[..., 0] * (math.pi / 90)
        for o in scene.objects:
            hues[o.class_id].append(np.exp(1j * hue[o.mask]).mean())
    for values in hues:  # every class has all hues: the mean vector is short
        assert abs(np.mean(values)) < 0.3


def test_rotated_box_holds_the_outline_tightly(objects):
    for o in objects:
        cx, cy, w, h, angle = o.rotated_box
        cos, sin = math.cos(angle), math.sin(angle)
        d = o.outline - (cx, cy)
        u, v = d[:, 0] * cos + d[:, 1] * sin, d[:, 1] * cos - d[:, 0] * sin
        np.testing.assert_allclose([u.min(), u.max()], [-w / 2, w / 2], atol=0.02)
        np.testing.assert_allclose([v.min(), v.max()], [-h / 2, h / 2], atol=0.02)
    turned = [o for o in objects if o.class_id == 2]
    assert max(o.rotated_box[4] for o in turned) > 0.35
    assert min(o.rotated_box[4] for o in turned) < -0.35


def test_keypoints_lie_on_their_object(objects):
    for o in objects:
        contour = o.outline.reshape(-1, 1, 2)
        points = o.keypoints[:, :2]
        for x, y in points[1:]:
            assert abs(cv2.pointPolygonTest(contour, (float(x), float(y)), True)) < 0.05
        centre = (float(points[0, 0]), float(points[0, 1]))
        assert cv2.pointPolygonTest(contour, centre, False) > 0
        tip, right, left = points[1:]
        assert right[0] > left[0] and tip[1] < max(right[1], left[1])
        inside = ((points >= 0) & (points < 160)).all(1)
        np.testing.assert_array_equal(o.keypoints[:, 2] > 0, inside)
        if o.visible_share > 0.995 and inside.all():
            # A thin overlap at the outline may hide two of them.
            assert (o.keypoints[:, 2] == 2).mean() >= 0.5
    states = np.concatenate([o.keypoints[:, 2] for o in objects])
    assert set(states) == {0, 1, 2}


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ((0, "training", 0, 64), "split='training'"),
        ((-1, "train", 0, 64), "seed=-1"),
        ((0, "train", -2, 64), "index=-2"),
        ((0, "train", 0, 31), "size=31"),
    ],
)
def test_bad_scene_arguments(args, word):
    with pytest.raises(ValueError, match=word):
        shapes.draw_scene(*args)


# The folder


def test_folder_is_an_ordinary_yolo_folder(tmp_path):
    counts = {"train": 30, "val": 8, "test": 4}
    data_yaml = shapes.write_yolo_folder(
        tmp_path / "set", task="detect", size=64, counts=counts, seed=5
    )
    root = tmp_path / "set"
    assert data_yaml == root / "data.yaml"
    assert data_yaml.read_text().startswith("# Drawn with code")
    described = yaml.safe_load(data_yaml.read_text())
    assert described["path"] == str(root)
    assert described["names"] == dict(enumerate(shapes.CLASSES))
    for split, count in counts.items():
        assert described[split] == f"images/{split}"
        images = sorted((root / described[split]).iterdir())
        labels = sorted((root / "labels" / split).iterdir())
        assert [p.stem for p in images] == [p.stem for p in labels]
        assert len(images) == count
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            scene = shapes.draw_scene(5, split, index, 64)
            pixels = cv2.imread(str(image))
            assert pixels.shape == (64, 64, 3)
            assert np.abs(pixels.astype(int) - scene.image).mean() < 6  # JPEG
            rows = [line.split() for line in label.read_text().splitlines()]
            assert all(len(n.split(".")[1]) == 6 for row in rows for n in row[1:])
            assert [int(row[0]) for row in rows] == [o.class_id for o in scene.objects]
            for row, o in zip(rows, scene.objects, strict=True):
                cx, cy, w, h = np.array(row[1:], float) * 64
                box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
                np.testing.assert_allclose(box, o.box, atol=1e-3)
                assert min(w, h) > 2 and min(box) > -1e-3 and max(box) < 64 + 1e-3


def test_folder_has_the_same_bytes_twice(tmp_path):
    for name in ("a", "b"):
        shapes.write_yolo_folder(
            tmp_path / name, task="detect", size=64, counts=SMALL, seed=1
        )
    one, two = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert len(one) == 2 * (6 + 3) + 1
    assert one.pop("data.yaml") != two.pop("data.yaml")  # each names its own path
    assert one == two


def test_folder_with_an_awkward_name(tmp_path):
    root = tmp_path / 'my "set": #1 \\ é'
    made = shapes.write_yolo_folder(
        root, task="detect", size=32, counts={"train": 1, "val": 1}, seed=0
    )
    assert yaml.safe_load(made.read_text(encoding="utf-8"))["path"] == str(root)


def test_unknown_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="task='detekt'.*detect, segment, pose, obb"):
        shapes.ensure_shapes(tmp_path / "cache", task="detekt")
    with pytest.raises(ValueError, match="task='detekt'"):
        shapes.write_yolo_folder(
            tmp_path / "set", task="detekt", size=64, counts=SMALL, seed=0
        )
    assert list(tmp_path.iterdir()) == []


def test_bad_folder_arguments(tmp_path):
    def write(root, size=64, counts=SMALL, seed=0):
        shapes.write_yolo_folder(
            root, task="detect", size=size, counts=counts, seed=seed
        )

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="not an empty directory"):
        write(tmp_path / "full")
    with pytest.raises(ValueError, match="not an empty directory"):
        write(tmp_path / "full" / "mine.txt")
    with pytest.raises(ValueError, match="'train' and 'val'"):
        write(tmp_path / "new", counts={"train": 2})
    with pytest.raises(ValueError, match="1 picture or more"):
        write(tmp_path / "new", counts={"train": 2, "val": 0})
    with pytest.raises(ValueError, match="size=8"):
        write(tmp_path / "new", size=8)
    with pytest.raises(ValueError, match="seed=-1"):
        write(tmp_path / "new", seed=-1)
    assert not (tmp_path / "new").exists()
    assert tree(tmp_path) == {"full/mine.txt": b"keep"}


# The cache


def test_ensure_draws_once(tmp_path, small, capfd):
    root = tmp_path / "deep" / "cache"
    data_yaml, created = shapes.ensure_shapes(root, task="detect")
    assert created and data_yaml == root / NAME / "data.yaml"
    before = tree(root)
    stamps = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert shapes.ensure_shapes(root, task="detect") == (data_yaml, False)
    assert tree(root) == before
    assert stamps == {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert [p.name for p in root.iterdir()] == [NAME]
    assert capfd.readouterr() == ("", "")
    image = cv2.imread(str(data_yaml.parent / "images" / "val" / "000002.jpg"))
    assert image.shape == (shapes.SIZE, shapes.SIZE, 3)


def test_interrupted_drawing_leaves_nothing(tmp_path, small, monkeypatch):
    draw, calls = shapes.draw_scene, []

    def stop(seed, split, index, size, arrangement):
        calls.append(index)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return draw(seed, split, index, size, arrangement)

    monkeypatch.setattr(shapes, "draw_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        shapes.ensure_shapes(tmp_path, task="detect")
    assert list(tmp_path.iterdir()) == []
    assert shapes.ensure_shapes(tmp_path, task="detect")[1]


def test_leftovers_are_not_taken_for_the_data_set(tmp_path, small):
    young = tmp_path / f".{NAME}-young"
    old = tmp_path / f".{NAME}-old"
    for leftover in (young, old):
        images = leftover / "images" / "train"
        images.mkdir(parents=True)
        (images / "000000.jpg").write_bytes(b"half")
    long_ago = time.time() - 7200
    for path in [*old.rglob("*"), old]:
        os.utime(path, (long_ago, long_ago))
    # An old directory that is still written to, deeper down, is in use.
    os.utime(young, (long_ago, long_ago))
    data_yaml, created = shapes.ensure_shapes(tmp_path, task="detect")
    assert created and yaml.safe_load(data_yaml.read_text())["names"]
    assert young.exists() and not old.exists()
    assert len(list((data_yaml.parent / "images" / "train").iterdir())) == 6


CHILD = """
import sys
from yolojax.data.shapes import folder as shapes
shapes.COUNTS = {"train": int(sys.argv[2]), "val": 3}
print(shapes.ensure_shapes(sys.argv[1], task="detect")[1])
"""


def child(cache_dir: Path, count: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(cache_dir), str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.process
def test_killed_process_leaves_no_data_set(tmp_path, small):
    with child(tmp_path, 100_000) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".shapes-*/labels/train/000003.txt")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / NAME).exists()
    assert len(list(tmp_path.iterdir())) == 1  # what it had drawn so far
    data_yaml, created = shapes.ensure_shapes(tmp_path, task="detect")
    assert created and len(list(data_yaml.parent.glob("images/*/*.jpg"))) == 9


@pytest.mark.process
def test_two_processes_at_once(tmp_path, small):
    children = [child(tmp_path, 6) for _ in range(2)]
    said = []
    for process in children:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said.append(out.strip())
    assert said.count("True") == 1
    assert [p.name for p in tmp_path.iterdir()] == [NAME]
    assert not shapes.ensure_shapes(tmp_path, task="detect")[1]


def test_loser_of_the_race_uses_the_winners_result(tmp_path):
    root = tmp_path / "set"

    def write(temporary: Path) -> None:
        (temporary / "mine").write_text("loser")
        assert cache.make_directory(root, lambda d: (d / "a").touch())  # comes first

    assert not cache.make_directory(root, write)
    assert list(tmp_path.iterdir()) == [root]
    assert [p.name for p in root.iterdir()] == ["a"]


def test_damaged_data_set_is_an_error(tmp_path, small):
    data_yaml, _ = shapes.ensure_shapes(tmp_path, task="detect")
    (data_yaml.parent / "labels" / "val" / "000001.txt").unlink()
    with pytest.raises(ValueError, match=r"labels/val holds 2 \.txt files, not 3; del"):
        shapes.ensure_shapes(tmp_path, task="detect")


def test_moved_cache_gets_its_new_path(tmp_path, small):
    shapes.ensure_shapes(tmp_path / "a", task="detect")
    (tmp_path / "a").rename(tmp_path / "b")
    data_yaml, created = shapes.ensure_shapes(tmp_path / "b", task="detect")
    assert not created
    described = yaml.safe_load(data_yaml.read_text())
    assert described["path"] == str(tmp_path / "b" / NAME)
    assert len(list(data_yaml.parent.iterdir())) == 3  # images, labels, data.yaml


def test_unwritable_cache_names_the_variable(tmp_path, small, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write .*file.*YOLOJAX_CACHE"):
        shapes.ensure_shapes(tmp_path / "file" / "cache", task="detect")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    data_yaml, _ = shapes.ensure_shapes(tmp_path / "good", task="detect")
    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere: feign it
    with pytest.raises(ValueError, match="Permission denied.*YOLOJAX_CACHE"):
        shapes.ensure_shapes(tmp_path / "new", task="detect")
    # A whole data set in a read-only cache is used as it is.
    assert shapes.ensure_shapes(tmp_path / "good", task="detect") == (data_yaml, False)


def test_full_disk_leaves_nothing(tmp_path, small, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match="No space left on device.*YOLOJAX_CACHE"):
        shapes.ensure_shapes(tmp_path, task="detect")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_no_jax():
    code = "import sys, yolojax.data.shapes.folder; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
