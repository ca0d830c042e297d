"""Figures of the host pipeline: of every cache and stage, and of the right pictures."""

import numpy as np
import pytest
from yolo_files import add, opened, picture, write_yaml

from yolojax import cache
from yolojax import config as config_lib
from yolojax.data.formats.class_folder import open_class_folder
from yolojax.data.formats.labelled import LabelledImages
from yolojax.speed import pipeline as pipeline_speed


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Measures once, on small pictures, and checks that nothing is left behind."""
    for name, value in {"REPEATS": 1, "MIN_SECONDS": 0.0, "IMGSZ": 64}.items():
        monkeypatch.setattr(pipeline_speed, name, value)
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    yield
    assert not cache.cache_root().exists()


def settings(task, **changes):
    config = config_lib.default(task)
    config.update({"data": "shapes", "imgsz": 64} | changes)
    return config_lib.check(config)


def test_every_cache_and_stage_is_measured(tmp_path, monkeypatch):
    for number in range(9):
        add(tmp_path, "train", f"t{number}", image=picture(60, 50, seed=number))
    write_yaml(tmp_path, "names: [a, b, c]\ntrain: images/train\nval: images/train\n")
    decoded = []
    load = LabelledImages.load

    def counted(self, index, imgsz):
        decoded.append(index)
        return load(self, index, imgsz)

    monkeypatch.setattr(LabelledImages, "load", counted)
    monkeypatch.setattr(pipeline_speed, "IMAGES", 5)
    found = pipeline_speed.figures(settings("detect"), opened(tmp_path))
    counts = {}
    figures = []
    for name, value, unit in found:
        if name.startswith("host pipeline"):
            counts[name.split("=")[1].split(" ")[0]] = len(decoded)
            decoded.clear()
        figures.append((name, value, unit))
    assert counts["False"] > 40 and counts["'ram'"] == counts["'disk'"] == 5
    names = [name for name, _, _ in figures]
    heads = [name for name in names if name.startswith("host pipeline, cache=")]
    assert len(heads) == 3 and all("64 px, one core" in name for name in heads)
    for stage in ("decode", "warp", "colour", "labels", "collate", "everything else"):
        assert names.count(f"  {stage}, one sample") == 3
    assert {unit for _, _, unit in figures} == {"images/s", "ms", "%"}
    assert all(np.isfinite(value) for _, value, _ in figures)
    avoided = [value for name, value, _ in figures if "avoided" in name]
    assert len(avoided) == 2 and min(avoided) > 20


def test_classification_is_measured_at_its_own_size(tmp_path):
    for name in ("a", "b"):
        for number in range(3):
            source = add(tmp_path / "made", "train", name, image=picture(seed=number))
            folder = tmp_path / "data" / "train" / name
            folder.mkdir(parents=True, exist_ok=True)
            source.rename(folder / f"{number}.jpg")
    source = open_class_folder(
        tmp_path / "data", "train", fraction=1.0, fraction_mode="head", seed=0,
        classes=None, cache_dir=None, threads=1,
    )  # fmt: skip
    figures = list(pipeline_speed.figures(settings("classify", imgsz=32), source))
    heads = [name for name, _, _ in figures if "randaugment, 32 px, one core" in name]
    assert len(heads) == 3
    assert sum(name == "  decode, one sample" for name, _, _ in figures) == 3


def test_first_images_keep_what_belongs_to_them(tmp_path):
    for number in range(4):
        text = f"{number % 3} 0.5 0.5 0.2 0.{number + 1}\n"
        add(tmp_path, "train", f"t{number}", text=text)
    write_yaml(tmp_path, "names: [a, b, c]\ntrain: images/train\nval: images/train\n")
    whole = opened(tmp_path)
    part = pipeline_speed.first(whole, 3)
    assert len(part) == 3 and part.paths == whole.paths[:3]
    assert part.digests == whole.digests[:3] and part.names == whole.names
    assert [rows[0, 0] for rows in part.labels] == [0, 1, 2]
    assert part.original_hw.shape == (3, 2)
