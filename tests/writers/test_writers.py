"""Writers: what reaches the disk and the terminal, also after an abrupt end."""

import io
import json
import math
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

from yolojax.files import replace_text
from yolojax.metrics.classification import ClassifyMetrics
from yolojax.metrics.detection import DetectionMetrics
from yolojax.metrics.segmentation import SegmentMetrics
from yolojax.writers import (
    JsonLines,
    Progress,
    ResultsCsv,
    TensorBoard,
    class_table,
    console_width,
    duration,
    epoch_header,
    epoch_row,
    run_columns,
)
from yolojax.writers.text import cells

COLUMNS = ("epoch", "time", "train/box_loss")


def row(epoch: int, loss: float | None = 0.5) -> dict[str, float | None]:
    return {"epoch": epoch, "time": 10.0 * epoch, "train/box_loss": loss}


def test_csv_has_one_header_and_six_digits(tmp_path):
    path = tmp_path / "run" / "results.csv"
    csv = ResultsCsv(path, COLUMNS, resumed_epoch=0)
    csv.append(row(1, 1.23456789))
    csv.append(row(2, 0.000012345678))
    csv.append(row(3, math.nan))
    csv.append(row(1234567, None))
    assert path.read_text() == (
        "epoch,time,train/box_loss\n1,10,1.23457\n2,20,1.23457e-05\n3,30,nan\n"
        "1234567,1.23457e+07,\n"
    )


def test_csv_resume_drops_later_epochs_and_a_torn_line(tmp_path):
    path = tmp_path / "results.csv"
    csv = ResultsCsv(path, COLUMNS, resumed_epoch=0)
    for epoch in (1, 2, 3, 4):
        csv.append(row(epoch))
    with path.open("a") as file:
        file.write("5,50,0.")  # killed while writing
    resumed = ResultsCsv(path, COLUMNS, resumed_epoch=2)
    assert path.read_text().splitlines()[1:] == ["1,10,0.5", "2,20,0.5"]
    resumed.append(row(3, 0.25))
    assert path.read_text().splitlines()[-1] == "3,30,0.25"
    assert [p.name for p in tmp_path.iterdir()] == ["results.csv"]  # nothing left over


def test_csv_torn_line_of_a_kept_epoch_is_dropped(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("epoch,time,train/box_loss\n1,10,0.5\n2,20,0.")
    ResultsCsv(path, COLUMNS, resumed_epoch=2)
    assert path.read_text() == "epoch,time,train/box_loss\n1,10,0.5\n"


def test_csv_torn_header_and_new_run_start_afresh(tmp_path):
    for text, resumed in (("epoch,ti", 3), ("other\n1\n", 0), ("", 1)):
        path = tmp_path / "results.csv"
        path.write_text(text)
        ResultsCsv(path, COLUMNS, resumed_epoch=resumed)
        assert path.read_text() == "epoch,time,train/box_loss\n"


def test_csv_refuses_what_would_corrupt_it(tmp_path):
    path = tmp_path / "results.csv"
    csv = ResultsCsv(path, COLUMNS, resumed_epoch=0)
    csv.append(row(1))
    before = path.read_text()
    with pytest.raises(ValueError, match="epoch 1 after epoch 1"):
        csv.append(row(1))
    with pytest.raises(ValueError, match=r"missing columns \['time'\]"):
        csv.append({"epoch": 2, "train/box_loss": 1})
    with pytest.raises(ValueError, match=r"unknown columns \['x'\]"):
        csv.append(row(2) | {"x": 1})
    assert path.read_text() == before
    with pytest.raises(ValueError, match=r"results.csv:1: columns are"):
        ResultsCsv(path, (*COLUMNS, "more"), resumed_epoch=1)
    path.write_text("epoch,time,train/box_loss\nx,1,2\n")
    with pytest.raises(ValueError, match=r"results.csv:2: 'x' is not an epoch"):
        ResultsCsv(path, COLUMNS, resumed_epoch=1)
    with pytest.raises(ValueError, match="must start with 'epoch'"):
        ResultsCsv(path, ("time",), resumed_epoch=0)


def metric_names(letter):
    numbers = ("precision", "recall", "mAP50", "mAP50-95")
    return tuple(f"metrics/{name}({letter})" for name in numbers)


def test_columns_of_a_run():
    columns = run_columns(LOSSES, metric_names("B"), 3)
    assert len(columns) == 15
    assert columns[:3] == ("epoch", "time", "train/box_loss")
    assert columns[5:9] == metric_names("B")
    assert columns[9:] == (
        *("val/box_loss", "val/cls_loss", "val/dfl_loss"),
        *("lr/pg0", "lr/pg1", "lr/pg2"),
    )
    top = ("metrics/accuracy_top1", "metrics/accuracy_top5")
    assert run_columns(("loss",), top, 1) == (
        *("epoch", "time", "train/loss", *top, "val/loss", "lr/pg0"),
    )


def test_json_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JsonLines(path)
    log.write({"epoch": 1, "loss": np.float32(0.5), "maps": np.array([1.0, np.nan])})
    log.write({"epoch": 2, "name": "Zähler", "path": tmp_path, "inf": math.inf})
    with path.open("ab") as file:
        file.write('{"epoch": 3, "name": "Zä'.encode()[:-1])  # killed inside a letter
    again = JsonLines(path)
    again.write({"step": 4, "ok": np.bool_(True), "count": np.int64(7)})
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records == [
        {"epoch": 1, "loss": 0.5, "maps": [1.0, None]},
        {"epoch": 2, "name": "Zähler", "path": str(tmp_path), "inf": None},
        {"step": 4, "ok": True, "count": 7},
    ]
    JsonLines(path, resumed_epoch=1)
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert kept == [records[0], records[2]]


def test_replace_text_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    replace_text(path, "old")

    def fails(descriptor):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="is full"):
        patched.setattr(os, "fsync", fails)
        replace_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_tensorboard_events_hold_the_scalars(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    board = TensorBoard(tmp_path)
    board.write(3, {"train/box_loss": 1.5, "skipped": None})
    board.write(4, {"train/box_loss": np.float32(1.25)})
    board.close()
    (file,) = tmp_path.iterdir()
    data, found = file.read_bytes(), []
    while data:  # records: length (8), checksum (4), payload, checksum (4)
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        data = data[16 + size :]
    assert found == [(3, "train/box_loss", 1.5), (4, "train/box_loss", 1.25)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


LOSSES = ("box_loss", "cls_loss", "dfl_loss")


def progress(stream, seconds=1.0, losses=LOSSES) -> Progress:
    ticks = (i * seconds for i in range(10**6))
    return Progress(stream, 100, 240, losses, clock=lambda: next(ticks))


def show(bar: Progress, step: int, *, epoch: int = 3, value: float = 1.2345) -> None:
    bar.update(
        epoch,
        step,
        dict.fromkeys(bar._losses, value),
        lr=0.01,
        images_per_second=812.3,
        wait_share=0.031,
        memory_text="12.1/79.6G",
        eta_seconds=12345,
    )


def test_plain_progress_says_everything_but_not_often():
    out = io.StringIO()
    bar = progress(out, seconds=1.0)
    for step in range(1, 65):
        show(bar, step)
    bar.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3  # at 0, 30 and 60 seconds
    assert "\r" not in out.getvalue() and "\x1b" not in out.getvalue()
    assert re.sub(r"ram +[0-9.]+G", "ram R", lines[1]) == (
        "  3/100   31/240  box 1.234 cls 1.234 dfl 1.234  lr 1.0e-2  812.3 img/s  "
        "wait  3%  ram R  dev 12.1/79.6G  eta 3:25:45"
    )


def test_progress_never_wraps_and_stays_aligned():
    names = ("box_loss", "seg_loss", "cls_loss", "dfl_loss", "sem_loss")
    for losses in (LOSSES, names):
        out = io.StringIO()
        bar = progress(out, seconds=31, losses=losses)
        for step, value in ((1, 0.1), (99, 12.3), (240, 123456.7), (240, math.nan)):
            show(bar, step, value=value)
        lines = out.getvalue().splitlines()
        assert len(lines) == 4
        assert len({len(line) for line in lines}) == 1
        assert len(lines[0]) <= 120
        assert len({line.index("eta") for line in lines}) == 1


@pytest.mark.parametrize("columns", (30, 60, 80, 200))
def test_progress_fits_the_terminal(monkeypatch, columns):
    monkeypatch.setattr("os.get_terminal_size", lambda _: _Size(columns))
    out = Terminal()
    out.fileno = lambda: 1  # type: ignore[method-assign]
    bar = progress(out)
    show(bar, 100)
    line = out.getvalue().replace("\r", "").replace("\x1b[K", "")
    assert len(line) <= min(columns - 1, 120)
    assert line.startswith("  3/100")
    assert "eta 3:25:45" in line
    assert ("box" in line) == (columns >= 60)


class _Size:
    def __init__(self, columns: int):
        self.columns = columns


def test_terminal_line_is_painted_in_place():
    out = Terminal()  # has no file number: falls back to 79 columns
    bar = progress(out, seconds=0.01)
    for step in range(1, 241):
        show(bar, step)
    text = out.getvalue()
    assert "\n" not in text
    assert len(text.split("\r")[1:]) <= 26  # ten per second of a 2.4 s epoch, and last
    assert "240/240" in text.split("\r")[-1]
    bar.print("  3/100   row of the table")
    assert out.getvalue().endswith(f"row of the table\n{bar._line}")
    bar.close()
    assert out.getvalue().endswith("\r\x1b[K")
    bar.print("after")
    assert out.getvalue().endswith("\x1b[Kafter\n")


def test_status_in_a_file_comes_every_half_minute():
    for stream, seen in ((Terminal(), 65), (io.StringIO(), 2)):
        bar = progress(stream, seconds=1.0)
        for done in range(65):
            bar.status(f"validating {done}/40" + "x" * 200)
        assert stream.getvalue().count("validating") == seen
        assert max(map(len, re.split(r"[\r\n]", stream.getvalue()))) <= 123
    short = io.StringIO()
    progress(short).status("validating 1/2")
    assert not short.getvalue()


@pytest.mark.parametrize("terminal, pause", [(True, 0.5), (False, 30.0)])
def test_the_live_line_is_due_by_time(terminal, pause):
    now = [100.0]
    stream = Terminal() if terminal else io.StringIO()
    bar = Progress(stream, 100, 240, LOSSES, clock=lambda: now[0])
    assert not bar.due()
    now[0] += pause
    assert bar.due()
    show(bar, 7)
    assert "7/240" in stream.getvalue() and not bar.due()
    now[0] += 0.99 * pause
    show(bar, 8)  # too early, whoever asks for it
    assert "8/240" not in stream.getvalue() and not bar.due()
    now[0] += 0.02 * pause
    assert bar.due()


def test_what_takes_long_is_told_in_a_file_when_it_starts_and_when_it_ends():
    out, seen = io.StringIO(), []
    bar = progress(out, seconds=43.0)
    with bar.phase("compiling the step", "compiled the step"):
        seen.append(out.getvalue())
    assert seen == ["compiling the step\n"]
    assert out.getvalue() == "compiling the step\ncompiled the step, in 43 s\n"
    terminal = Terminal()
    bar = progress(terminal)
    with bar.phase("compiling the step", "compiled the step"):
        assert "compiling" in bar._line
    assert "compiled" not in terminal.getvalue()
    failed = io.StringIO()
    with pytest.raises(OSError), progress(failed).phase("saving", "saved"):
        raise OSError
    assert "saved" not in failed.getvalue()


def test_duration():
    expected = {
        0: "0:00",
        7.4: "0:07",
        754: "12:34",
        5025: "1:23:45",
        3599.6: "1:00:00",
    }
    expected |= {273600: "3d 04h", math.nan: "--:--", math.inf: "--:--", -1: "--:--"}
    assert {
        seconds: duration(seconds) for seconds in expected if seconds == seconds
    } == {seconds: text for seconds, text in expected.items() if seconds == seconds}
    assert duration(math.nan) == "--:--"


def test_epoch_table_is_aligned():
    columns = run_columns(LOSSES, metric_names("B"), 3)
    rows = []
    for epoch in range(1, 5):
        values: dict[str, float | None] = dict.fromkeys(columns, 0.123456)
        rows.append(values | {"epoch": epoch, "time": 70.0 * epoch})
    rows[1]["metrics/mAP50(B)"] = None
    rows[2]["train/cls_loss"] = math.nan
    rows[3]["train/cls_loss"] = 123456.7
    lines = [epoch_header(columns)]
    lines += [epoch_row(row, columns, 300, 70.0) for row in rows]
    assert lines[0].split() == (
        ["epoch", "box", "cls", "dfl", "P", "R", "mAP50", "mAP50-95", "time"]
    )
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[1].split()[0] == "1/300" and lines[1].split()[-1] == "1:10"
    assert lines[2].split()[6] == "-"
    assert lines[3].split()[2] == "nan" and lines[4].split()[2] == "123457"
    best = epoch_row(rows[0], columns, 300, 70, best=True)
    assert best.endswith("1:10 best")


POSE = ("box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss")
SEGMENT = ("box_loss", "seg_loss", "cls_loss", "dfl_loss")


@pytest.mark.parametrize("width", (60, 80, 100, 120))
@pytest.mark.parametrize(
    "losses, letter",
    [(LOSSES, ""), (SEGMENT, "M"), (POSE, "P"), ([f"l{i}" for i in range(9)], "P")],
)
def test_epoch_table_is_aligned_and_fits(losses, letter, width):
    metrics = metric_names("B") + (metric_names(letter) if letter else ())
    columns = run_columns(losses, metrics, 3)
    row: dict[str, float | None] = dict.fromkeys(columns, 0.123456)
    row |= {"epoch": 12, "metrics/mAP50-95(B)": None}
    odd = dict(row) | {columns[2]: 123456.7, columns[3]: math.nan}
    header = epoch_header(columns, width)
    lines = [epoch_row(v, columns, 1000, 5025.0, width=width) for v in (row, odd)]
    assert {len(line) for line in lines} == {len(header)}
    best = epoch_row(row, columns, 1000, 5025.0, best=True, width=width)
    assert best.endswith("best") and len(best) <= width
    cells = header.split()
    assert len(lines[0].split()) == len(lines[1].split()) == len(cells)
    # The best metric of each part is always there; losses if there are not too many.
    assert lines[0].split()[cells.index("mAP50-95")] == "-"
    assert cells[-2] == (f"mAP50-95({letter})" if letter else "mAP50-95")
    if width >= 80 and len(losses) < 9:
        assert len([c for c in cells if c in {n.split("_")[0] for n in losses}]) == len(
            losses
        )
    assert (f"P({letter})" in cells or "P" in cells) == (
        width >= {LOSSES: 80, SEGMENT: 120}.get(tuple(losses), 121)
    )


def test_epoch_table_of_other_tasks():
    columns = ("epoch", "train/loss", "metrics/accuracy_top1", "metrics/mAP50-95(M)")
    assert epoch_header(columns).split()[1:-1] == ["loss", "top1", "mAP50-95(M)"]


def result(names):
    metrics = DetectionMetrics(confusion_conf=0.25)
    box = np.array([[0.0, 0, 10, 10]])
    for class_id in (0, 1, 2):
        metrics.update(box, [class_id], box, [0.9], [min(class_id, 1)])
    return metrics.compute(names)


def test_class_table():
    names = ["cat", "白血球", "platelet with a very long name indeed", "none of these"]
    lines = class_table(result(names)).splitlines()
    assert lines[0].split() == ["class", "images", "instances", "P", "R"] + [
        "mAP50",
        "mAP50-95",
    ]
    assert {cells(line) for line in lines[:-1]} == {cells(lines[0])}
    assert lines[1].split()[:3] == ["all", "3", "3"]
    assert lines[2].split() == ["cat", "1", "1"] + ["1.0000"] * 2 + ["0.9950"] * 2
    assert lines[3].startswith("白血球 ")
    assert lines[4].startswith("platelet with a very lo…  ")
    assert lines[5] == "without targets: none of these"


@pytest.mark.parametrize("width", (40, 60, 80, 120))
def test_class_table_fits(width):
    names = ["cat", "白血球", "platelet with a very long name indeed", "none of these"]
    lines = class_table(result(names), width).splitlines()
    assert max(map(cells, lines)) <= width
    assert {cells(line) for line in lines[:-1]} == {cells(lines[0])}
    assert lines[0].split()[-1] == "mAP50-95" and lines[2].split()[-1] == "0.9950"
    assert ("P" in lines[0].split()) == (width >= 60)
    assert all("." in cell and len(cell) == 6 for cell in lines[1].split()[-1:])


def test_class_table_with_nothing():
    text = class_table(DetectionMetrics(confusion_conf=0.25).compute(["a", "b" * 200]))
    lines = text.splitlines()
    assert lines[1].split() == ["all", "0", "0"] + ["0.0000"] * 4
    assert lines[2].endswith("…") and len(lines[2]) == 80


def two_parts():
    metrics = SegmentMetrics(confusion_conf=0.25)
    for class_id, overlap in ((0, 0.97), (1, 0.72), (1, 0.3)):
        one = [class_id], [0.9], [class_id]
        metrics.boxes.update_similarity(np.array([[0.97]]), *one)
        metrics.masks.update_similarity(np.array([[overlap]]), *one)
    return metrics.compute(["cat", "白血球", "not there"])


def test_class_table_of_two_parts_stands_side_by_side_where_there_is_room():
    lines = class_table(two_parts(), 120).splitlines()
    assert lines[0].split()[3:] == [
        *("P", "R", "mAP50", "mAP50-95"),
        *("P(M)", "R(M)", "mAP50(M)", "mAP50-95(M)"),
    ]
    assert {cells(line) for line in lines[:-1]} == {cells(lines[0])}
    assert cells(lines[0]) <= 120
    assert lines[2].split() == ["cat", "1", "1"] + (["1.0000"] * 2 + ["0.9950"] * 2) * 2
    assert lines[3].split()[:3] == ["白血球", "2", "2"]
    assert lines[3].split()[6] == "0.9950" and lines[3].split()[-1] != "0.9950"
    assert lines[-1] == "without targets: not there"


def test_class_table_of_two_parts_is_stacked_at_80_columns():
    lines = class_table(two_parts(), 80).splitlines()
    assert max(map(cells, lines)) <= 80
    gap = lines.index("")
    assert lines[0].split()[3:] == ["P", "R", "mAP50", "mAP50-95"]
    assert lines[gap + 1].split()[3:] == ["P(M)", "R(M)", "mAP50(M)", "mAP50-95(M)"]
    wide = class_table(two_parts(), 120).splitlines()
    for k in (1, 2, 3):  # the same numbers
        here = lines[k].split() + lines[gap + 1 + k].split()[3:]
        assert here == wide[k].split()
    assert lines[-1] == "without targets: not there"


def test_width_of_the_console(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    out = Terminal()
    assert console_width(io.StringIO()) == console_width(out) == 80
    out.fileno = lambda: 1  # type: ignore[method-assign]
    monkeypatch.setattr("os.get_terminal_size", lambda _: _Size(100))
    assert console_width(out) == 100 and console_width(io.StringIO()) == 80
    monkeypatch.setenv("COLUMNS", "500")
    assert console_width(io.StringIO()) == 120 and console_width(out) == 100


def test_class_table_of_whole_images():
    metrics = ClassifyMetrics()
    host = {"labels": np.array([0, 0, 1]), "example_valid": np.ones(3, bool)}
    guess = np.eye(7)[[0, 1, 1]]
    metrics.update_batch(host, SimpleNamespace(probabilities=guess))
    lines = class_table(metrics.compute("abcdefg")).splitlines()
    assert lines[0].split() == ["class", "images", "top1", "top5"]
    assert lines[1].split() == ["all", "3", "0.6667", "1.0000"]
    assert lines[2].split() == ["a", "2", "0.5000", "1.0000"]
    assert lines[3].split() == ["b", "1", "1.0000", "1.0000"]
    assert lines[4] == "without images: c, d, e, f, g"
    assert {len(line) for line in lines[:4]} == {len(lines[0])}
