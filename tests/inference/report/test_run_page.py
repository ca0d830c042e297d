"""What is measured for the page of a run, what is kept of it, and what it says."""

import json
import re
from types import SimpleNamespace

import cv2
import kept_run
import numpy as np
import pytest

from yolojax.inference import report
from yolojax.inference.report import comparison, content
from yolojax.inference.report.examined import Examined, Worst
from yolojax.metrics import coco
from yolojax.runs import reading


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return kept_run.make(tmp_path_factory.mktemp("runs") / "detect" / "train")


def words(path):
    """Returns the text of a page without its elements."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", path.read_text(), flags=re.S)
    return re.sub(r"<[^>]*>", " ", text)


def test_what_is_kept_fits_what_was_found(run):
    figures = json.loads((run / "report" / "figures.json").read_text())
    assert figures["names"] == list(kept_run.NAMES) and figures["images"] == 14
    assert figures["classes"]["targets"] == [14, 14, 14]
    # Predicted, true: right; a class for another; found where nothing is; missed.
    assert sorted(figures["confusion"]) == [
        [0, 0, 14],
        [1, 3, 14],
        [2, 1, 14],
        [3, 2, 14],
    ]
    part = figures["classes"]["parts"]["Box"]
    assert part["map50"][0] == pytest.approx(0.995, abs=1e-4) and part["map50"][2] == 0
    assert len(part["pr"]["mean"]) == len(part["recalls"]) == 101
    assert figures["labels"]["val"]["class_objects"] == [14, 14, 14]


def test_the_worst_pictures_come_first_and_are_small_files(run):
    figures = json.loads((run / "report" / "figures.json").read_text())
    pictures = figures["pictures"]
    assert len(pictures) == 12
    assert pictures[0]["name"] == f"{kept_run.FILE}.jpg"
    assert pictures[0]["counts"] == {
        "confused": 1,
        "false": 1,
        "missed": 1,
        "right": 1,
    }
    assert [p["name"] for p in pictures[1:3]] == ["13.jpg", "12.jpg"]
    for picture in pictures:
        data = (run / "report" / picture["file"]).read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[:2] == (picture["height"], picture["width"])
        assert len(data) <= 60_000


def examined_of(boxes, found, scores, *, gain=1.0, pad=(0, 0), angles=None):
    """Returns what is seen in one picture with objects of one class."""
    source = SimpleNamespace(paths=("/a/b.jpg",), names=("a",))
    size = int(200 * gain)
    host = {
        "image": np.zeros((1, size + pad[1], size + pad[0], 3), np.uint8),
        "boxes": np.asarray(boxes, np.float32).reshape(1, -1, 4),
        "classes": np.zeros((1, len(boxes)), int),
        "valid": np.ones((1, len(boxes)), bool),
        "example_valid": np.ones(1, bool),
        "image_id": np.zeros(1, int),
        "letterbox": np.array([[gain, gain, pad[0], pad[1]]], np.float32),
        "original_hw": np.array([[200, 200]]),
    }
    things = SimpleNamespace(
        boxes=np.asarray([found], np.float32),
        scores=np.asarray([scores], np.float32),
        classes=np.zeros((1, len(found)), int),
        valid=np.ones((1, len(found)), bool),
    )
    if angles is not None:
        host["angles"] = np.asarray([angles[0]], np.float32)
        things.angles = np.asarray([angles[1]], np.float32)
    examined = Examined(source)
    assert len(list(examined.collected([(host, (None, things))]))) == 1
    return examined


def test_sizes_are_those_of_the_original_picture():
    # 20 pixels in an input at half the size are 40 in the picture: medium.
    examined = examined_of([[0, 0, 20, 20]], [[0, 0, 20, 20]], [0.9], gain=0.5)
    small, medium, large = examined.sizes()
    assert (small["targets"], medium["targets"], large["targets"]) == (0, 1, 0)
    assert medium["map"] == pytest.approx(0.995) and small["map"] is None


def test_what_is_found_of_another_size_counts_nowhere():
    boxes = [[0, 0, 20, 20], [50, 50, 150, 150]]
    found = [[50, 50, 150, 150], [0, 0, 20, 20], [160, 0, 200, 40]]
    small, medium, large = examined_of(boxes, found, [0.9, 0.8, 0.7]).sizes()
    assert small["map50"] == large["map50"] == pytest.approx(0.995)
    assert medium["map50"] is None  # found, but there is no such object


def test_figures_by_size_are_close_to_those_of_coco():
    pytest.importorskip("faster_coco_eval")
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 120, (60, 2))
    sides = rng.choice([10, 30, 50, 90], (60, 1)) * rng.uniform(0.7, 1.3, (60, 2))
    boxes = np.concatenate([low, low + sides], 1)
    found = np.concatenate([boxes + rng.normal(0, 2, boxes.shape), boxes[:20] + 40])
    scores = np.sort(rng.uniform(0.1, 1, len(found)))[::-1]
    sizes = {r["size"]: r["map"] for r in examined_of(boxes, found, scores).sizes()}

    def entry(i, box):
        x0, y0, x1, y1 = map(float, box)
        w, h = x1 - x0, y1 - y0
        return {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": [x0, y0, w, h],
                "area": w * h, "iscrowd": 0}  # fmt: skip

    truth = {
        "images": [{"id": 1, "width": 200, "height": 200}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [entry(i, box) for i, box in enumerate(boxes)],
    }
    entries = [
        entry(i, box) | {"score": float(score)}
        for i, (box, score) in enumerate(zip(found, scores, strict=True))
    ]
    numbers = coco.evaluate(truth, entries, 100).numbers
    for size in ("small", "medium"):
        # It integrates over steps, we over lines.
        assert sizes[size] == pytest.approx(numbers[f"AP_{size}"], abs=0.02)


def test_outlines_are_those_of_the_picture_without_its_padding():
    boxes = [[20, 30, 60, 80]]
    (worst,) = examined_of(boxes, np.zeros((0, 4)), [], pad=(10, 20)).worst
    assert worst.image.shape == (200, 200, 3)
    (mark,) = worst.marks
    assert mark["kind"] == "missed" and mark["true"] == 0 and mark["class"] is None
    assert mark["corners"] == [[10, 10], [50, 10], [50, 60], [10, 60]]


def test_a_quarter_turn_swaps_the_sides_of_an_outline():
    turned = examined_of(
        [[40, 60, 120, 100]],
        np.zeros((0, 4)),
        [],
        angles=([np.pi / 2], np.zeros(0)),
    )
    corners = np.array(turned.worst[0].marks[0]["corners"])
    assert corners.min(0).tolist() == [60, 40] and corners.max(0).tolist() == [100, 120]


def test_a_picture_without_errors_is_not_among_the_worst():
    examined = examined_of([[0, 0, 50, 50]], [[0, 0, 50, 50]], [0.9])
    assert examined.worst == []
    unsure = examined_of([], [[0, 0, 50, 50]], [0.2])  # too low for an error
    assert unsure.worst == []


def test_whole_images_are_worst_where_the_wrong_class_is_surest(monkeypatch):
    from yolojax.data.formats.class_folder import ClassFolder

    source = object.__new__(ClassFolder)
    object.__setattr__(source, "paths", ("a.jpg", "b.jpg", "c.jpg"))
    shares = np.array([[0.4, 0.6], [0.1, 0.9], [0.8, 0.2]], np.float32)
    host = {
        "image": np.zeros((3, 8, 8, 3), np.uint8),
        "labels": np.zeros(3, int),
        "example_valid": np.ones(3, bool),
        "image_id": np.arange(3),
    }
    examined = Examined(source)
    list(examined.collected([(host, (None, SimpleNamespace(probabilities=shares)))]))
    assert [w.name for w in examined.worst] == ["b.jpg", "a.jpg"]
    assert isinstance(examined.worst[0], Worst) and examined.sizes() == []
    (mark,) = examined.worst[0].marks
    assert (mark["class"], mark["true"]) == (1, 0)


def test_the_page_says_what_is_known(run):
    path = report.write_page([run])
    assert path == run / "report.html" and path.stat().st_size < 3e6
    text = words(path)
    for told in (
        "0.3000",
        "feed12",
        "0123abc",
        "best of 4 epochs",
        "imgsz",
        "20 images/s",
    ):
        assert told in text, told
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in path.read_text()
    assert kept_run.HOSTILE not in path.read_text()
    assert "it&#x27;s &quot;quoted&quot; &lt;b&gt;&amp;amp;" in path.read_text()
    assert path.read_text().count("<figure id=") == 12


def test_a_run_without_figures_says_what_is_missing_and_how_to_get_it(tmp_path):
    old = kept_run.make(tmp_path / "an old run", figures=False)
    text = words(report.write_page([old]))
    assert "Not measured" in text and f"yolojax val &#x27;{old}&#x27;" in text
    assert "Curves" in text and "Worst pictures" not in text
    (old / "val").mkdir()
    kept_run.keep_figures(old / "val")
    text = words(report.write_page([old]))
    assert "Not measured" not in text and "Worst pictures" in text


def test_figures_of_other_weights_are_not_those_of_the_run(tmp_path):
    run = kept_run.make(tmp_path / "train", figures=False)
    (run / "val").mkdir()
    kept_run.keep_figures(run / "val", kept_run.ABOUT | {"epoch": None})
    assert reading.read(run).figures is None


def test_figures_of_an_earlier_epoch_are_said_to_be(tmp_path):
    run = kept_run.make(tmp_path / "train", figures=False)
    kept_run.keep_figures(run, kept_run.ABOUT | {"epoch": 2})
    assert "are those of epoch 2; 3 is the best now" in words(report.write_page([run]))


def test_several_runs_are_compared_with_the_first(tmp_path):
    folders = [
        kept_run.make(tmp_path / "detect" / name, lr0=lr0)
        for name, lr0 in (("one", 0.01), ("two", 0.02), ("three", 0.01))
    ]
    path = report.write_page(folders)
    assert path == tmp_path / "detect" / "report.html"
    told = comparison.comparison_page([reading.read(f) for f in folders], path.parent)
    tables = {s.title: s.blocks[0] for s in told.sections}
    assert [row[:4] for row in tables["Settings"].rows] == [
        ["lr0", "0.01", "0.02", "0.01"]
    ]
    assert [row[0] for row in tables["Runs"].rows] == [
        "detect/one",
        "detect/two",
        "detect/three",
    ]
    assert len(tables["Classes"].rows) == 3 and len(tables["Curves"].series) == 3
    links = {path for _, path, _ in tables["Pages"].rows}
    assert links == {"one", "two", "three"}  # none has a page of its own yet


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [
        reading.read(kept_run.make(tmp_path / study / "seed" / "train", figures=False))
        for study in ("one", "two")
    ]
    assert content.run_names(runs[:1]) == ["seed/train"]
    assert content.run_names(runs) == ["one/seed/train", "two/seed/train"]
    told = comparison.comparison_page(runs, tmp_path)
    assert [row[0] for row in told.sections[0].blocks[0].rows] == content.run_names(
        runs
    )
    notes = {s.title: s.blocks[0] for s in told.sections}["Not measured"]
    assert len(notes.lines) == 2 and "yolojax val" in notes.lines[0]


def test_only_settings_of_training_that_differ_are_shown(run):
    differ = content.settings_that_differ(reading.read(run))
    assert set(differ) == {"epochs", "imgsz", "data"}


def test_many_classes_are_shown_by_their_confusions(run):
    kept = reading.read(run)
    names = [f"class {i}" for i in range(60)]
    cells = [[1, 2, 5], [3, 3, 9], [4, 5, 7], [60, 8, 3], [9, 60, 2]]
    many = kept.figures | {"names": names, "confusion": cells}  # predicted, true, count
    object.__setattr__(kept, "figures", many)
    (section,) = content.confusion_section(kept)
    assert {table.title: table.rows for table in section.blocks} == {
        "one class for another": [
            ("class 5", "class 4", 7),
            ("class 2", "class 1", 5),
        ],
        "missed": [("class 8", 3)],
        "found where nothing is": [("class 9", 2)],
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[1]"),
        ("results.csv", "epoch,metrics/mAP50-95(B)\n1,many\n"),
        ("results.csv", "epoch,metrics/mAP50-95(B)\n1\n"),
        ("log.jsonl", "{\n"),
        ("report/figures.json", '{"names": '),
        ("report/figures.json", '{"version": 1, "names": []}'),
        ("report/figures.json", '{"version": 99}'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text):
    run = kept_run.make(tmp_path / "train")
    (run / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        report.write_page([run])
    assert not (run / "report.html").exists()


def test_a_row_that_was_cut_off_is_not_there_yet(tmp_path):
    run = kept_run.make(tmp_path / "train")
    with (run / "results.csv").open("a") as file:
        file.write("5,300,0.")
    assert len(reading.read(run).rows) == 4
