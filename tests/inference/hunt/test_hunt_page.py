"""What a hunt leaves: the page, its pictures, the tables."""

import csv
import re
from types import SimpleNamespace

import numpy as np
import pytest
from kept_run import HOSTILE, NAMES, drawn_source
from yolo_files import picture

from yolojax import config as config_lib
from yolojax.data.formats.class_folder import open_class_folder
from yolojax.inference.hunt import content, hunting
from yolojax.inference.hunt.looked import Objects, looked_at
from yolojax.inference.hunt.suspects import Suspect, corners_of, suspects_of_whole

SIDE = 64  # pixels of the input; pictures are 64 x 64


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return drawn_source(tmp_path_factory.mktemp("data"))


def batch(source, seen):
    """Returns a batch of all pictures at half their size, with what is seen in them.

    Args:
        source: the split.
        seen: (picture, box in pixels of the picture, class, score).
    """
    count, most = len(source), max(map(len, source.labels))
    boxes = np.zeros((count, most, 4), np.float32)
    for row, labels in enumerate(source.labels):
        low = labels[:, 1:3] - labels[:, 3:] / 2
        boxes[row] = np.concatenate([low, low + labels[:, 3:]], 1) * SIDE / 2
    host = {
        "image": np.zeros((count, SIDE // 2, SIDE // 2, 3), np.uint8),
        "boxes": boxes,
        "classes": np.array([labels[:, 0] for labels in source.labels], np.int32),
        "valid": np.ones((count, most), bool),
        "image_id": np.arange(count, dtype=np.int32),
        "example_valid": np.ones(count, bool),
        "letterbox": np.tile(np.array([0.5, 0.5, 0, 0], np.float32), (count, 1)),
        "original_hw": source.original_hw,
    }
    room = 4
    found = {
        "boxes": np.zeros((count, room, 4), np.float32),
        "scores": np.zeros((count, room), np.float32),
        "classes": np.zeros((count, room), np.int32),
        "valid": np.zeros((count, room), bool),
    }
    for row, box, class_id, score in sorted(seen, key=lambda one: -one[3]):
        slot = int(found["valid"][row].sum())
        found["boxes"][row, slot] = np.array(box) / 2
        found["classes"][row, slot], found["scores"][row, slot] = class_id, score
        found["valid"][row, slot] = True
    return host, (np.zeros(3), SimpleNamespace(**found))


def hunted(monkeypatch, folder, source, stream, **settings):
    """Returns the folder of a hunt in which this is seen."""
    monkeypatch.setattr(hunting.loading, "open_split", lambda *a, **k: source)
    monkeypatch.setattr(hunting, "looked", lambda *a: iter(stream))
    monkeypatch.setattr(hunting.report, "about_process", about)
    config = config_lib.default(settings.get("task", "detect"), "hunt")
    config = config_lib.check(config, "hunt")
    given = SimpleNamespace(names=source.names, source="somewhere")
    return hunting.hunt(config, folder, given)


def about(config, weights, epoch):
    return {"weights": weights, "epoch": epoch, "validated": HOSTILE, "device": "cpu"}


def middle(class_id, score=0.8):
    """Returns what is seen where all labels are."""
    return (25.6, 22.4, 38.4, 41.6), class_id, score


def test_what_a_hunt_leaves(source, monkeypatch, tmp_path):
    seen = [(row, *middle(c)) for row in range(14) for c in range(3)]
    seen.append((0, (2, 2, 20, 20), 1, 0.8))
    folder = hunted(monkeypatch, tmp_path / "run", source, [batch(source, seen)])
    assert folder == tmp_path / "run" / "hunt"
    with open(folder / "hunt.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["file"] == source.paths[0] and row["object"] == ""
    assert (row["rank"], row["kind"], row["class"]) == ("1", "missing label", NAMES[1])
    assert [float(row[k]) for k in ("x1", "y1", "x2", "y2")] == [2, 2, 20, 20]
    assert 0.9 < float(row["score"]) <= 1 and float(row["confidence"]) == 0.8
    with open(folder / "hunt_pictures.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["file"], row["suspects"]) == (source.paths[0], "1")
    text = (folder / "hunt.html").read_text()
    assert text.count("data:image/jpeg") == 1
    assert HOSTILE not in text and "&lt;script&gt;alert(1)" in text
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', text) == []
    assert 'class="sortable"' in text


def test_nothing_suspect_is_a_page_as_well(source, monkeypatch, tmp_path):
    seen = [(row, *middle(c)) for row in range(14) for c in range(3)]
    folder = hunted(monkeypatch, tmp_path, source, [batch(source, seen)])
    assert len((folder / "hunt.csv").read_text().splitlines()) == 1
    assert "data:image" not in (folder / "hunt.html").read_text()


def test_labels_are_told_by_their_number(source, monkeypatch, tmp_path):
    """Class 2 is not seen in picture 5: the third label of its file."""
    seen = [(r, *middle(c)) for r in range(14) for c in range(3) if (r, c) != (5, 2)]
    folder = hunted(monkeypatch, tmp_path, source, [batch(source, seen)])
    with open(folder / "hunt.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["file"], row["object"]) == (source.paths[5], "2")
    assert (row["class"], row["kind"], row["seen"]) == (NAMES[2], "doubtful label", "")


def test_boxes_are_those_of_the_picture(source):
    one = next(looked_at([batch(source, [(0, (2, 4, 20, 30), 1, 0.8)])]))
    assert one.seen.boxes.tolist() == [[2, 4, 20, 30]]
    assert one.labels.boxes[0].tolist() == pytest.approx([25.6, 22.4, 38.4, 41.6])
    assert one.similarity.shape == (3, 1)


def test_rotated_boxes_turn_about_their_centres():
    flat = Objects(np.array([[0, 0, 4, 2]], np.float32), np.zeros(1, np.int32))
    assert corners_of(flat, 0).tolist() == [[0, 0], [4, 0], [4, 2], [0, 2]]
    turned = Objects(flat.boxes, flat.classes, np.array([np.pi / 2], np.float32))
    wanted = [[3, -1], [3, 3], [1, 3], [1, -1]]
    assert corners_of(turned, 0) == pytest.approx(np.array(wanted), abs=1e-6)


@pytest.mark.parametrize(
    ("corners", "wanted"),
    [
        ([[30, 30], [40, 40]], (3, 3, 67, 67)),  # never less than that
        ([[0, 0], [100, 40]], (0, 0, 250, 250)),
        ([[900, 500], [1000, 600]], (750, 425, 1000, 675)),  # moved into the picture
        (None, (0, 0, 1000, 800)),
    ],
)
def test_what_is_shown_of_a_picture(corners, wanted):
    corners = None if corners is None else np.array(corners, float)
    one = Suspect("wrong class", 0, 0, 0, 1, 0.9, 0.9, 1.0, corners)
    assert content._around(one, (1000, 800)) == wanted


def test_pictures_of_one_class_are_ranked_by_their_loss(tmp_path, monkeypatch):
    for name in ("a", "b"):
        for number in range(2):
            folder = tmp_path / "data" / "train" / name
            folder.mkdir(parents=True, exist_ok=True)
            import cv2

            cv2.imwrite(str(folder / f"{number}.jpg"), picture(40, 30, number))
    source = open_class_folder(
        tmp_path / "data", "train", fraction=1.0, fraction_mode="head", seed=0,
        classes=None, cache_dir=None, threads=1,
    )  # fmt: skip
    shares = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.95, 0.05]], np.float32)
    host = {"example_valid": np.ones(4, bool), "labels": source.targets}
    host["image_id"] = np.arange(4)
    stream = [(host, (np.zeros(1), SimpleNamespace(probabilities=shares)))]
    found, count = suspects_of_whole(stream)
    assert count == 4 and [one.picture for one in found] == [3, 1]
    assert found[0].loss == pytest.approx(-np.log(0.05), rel=1e-5)
    assert (found[0].labelled, found[0].seen) == (1, 0)
    made = hunted(monkeypatch, tmp_path / "run", source, stream, task="classify")
    text = (made / "hunt.html").read_text()
    assert text.count("data:image/jpeg") == 2 and "Classes" not in text
