"""The record file: never half a one, verified, and done without on a full disk."""

import errno
import io
import json
import logging
import os
import pickle
import re
import signal
import sys
import types

import pytest
from drawn_source import Drawn, build, held, in_folder, record_path, summary

from yolojax.data.store import record_file


def test_file_is_found_again_by_content(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    diary = tmp_path / "diary"
    first = held(Drawn(diary=diary), "disk", tmp_path)
    assert "wrote 24 images, 0.1 MiB, to" in caplog.text
    second = held(Drawn(diary=diary), "disk", tmp_path)
    assert len(diary.read_text().split()) == 24
    assert "24 images, reused from" in caplog.messages[-1]
    assert summary(first) == summary(second)
    held(Drawn(count=23), "disk", tmp_path)
    held(Drawn(seed=1), "disk", tmp_path)
    held(Drawn(), "disk", tmp_path, imgsz=48)
    assert len(in_folder(tmp_path)) == 4


def test_file_belongs_to_a_version_of_opencv(tmp_path, monkeypatch):
    held(Drawn(), "disk", tmp_path)
    index = json.loads((record_path(tmp_path).parent / "index.json").read_text())
    assert index["opencv"] == record_file.cv2.__version__
    monkeypatch.setattr(record_file.cv2, "__version__", "4.0.0")
    held(Drawn(), "disk", tmp_path)
    assert len(in_folder(tmp_path)) == 2


def test_file_lies_in_the_cache_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "mine"))
    assert held(Drawn(), "disk", None).cache == "disk"
    assert record_path(tmp_path / "mine").stat().st_size > 10_000


@pytest.mark.process
@pytest.mark.parametrize(
    "point", ["record", "fsync", "index", "half an index", "rename"]
)
def test_a_killed_build_is_never_taken_for_whole(tmp_path, point):
    killed = build(tmp_path, die_where=point)
    assert killed.communicate()[0] == ""
    assert killed.returncode == -signal.SIGKILL
    (leftover,) = in_folder(tmp_path)
    assert leftover.startswith(".")  # none has the name of a file
    diary = tmp_path / "diary"
    kept = held(Drawn(diary=diary), "disk", tmp_path)
    assert kept.cache == "disk" and len(diary.read_text().split()) == 24
    assert summary(kept) == summary(held(Drawn(), False, tmp_path))
    assert record_path(tmp_path).exists()  # and nothing else lies there


@pytest.mark.process
def test_processes_at_once_build_once(tmp_path):
    diary = tmp_path / "diary"
    builds = [build(tmp_path, diary=str(diary), pause=0.1) for _ in range(2)]
    done = [process.communicate() for process in builds]
    assert done[0][0] == done[1][0]
    assert json.loads(done[0][0])["cache"] == "disk"
    assert sorted(map(int, diary.read_text().split())) == list(range(24))
    texts = sorted(text.splitlines()[-1] for _, text in done)
    assert "reused" in texts[0] and "wrote 24" in texts[1], texts
    assert record_path(tmp_path).exists()


def test_a_damaged_record_is_decoded_from_its_image(tmp_path, caplog):
    diary = tmp_path / "diary"
    want = summary(held(Drawn(), "disk", tmp_path))
    path = record_path(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    kept = held(Drawn(diary=diary), "disk", tmp_path)
    assert summary(kept) == want and summary(kept) == want
    assert len(set(diary.read_text().split())) == 1
    (text,) = caplog.messages
    assert str(path) in text and "is damaged" in text and "delete" in text


@pytest.mark.parametrize("damage", ["short", "gone", "index", "no index", "sums"])
def test_a_damaged_file_is_built_anew(tmp_path, caplog, damage):
    want = summary(held(Drawn(), "disk", tmp_path))
    path = record_path(tmp_path)
    index = path.with_name("index.json")
    if damage == "short":
        os.truncate(path, path.stat().st_size - 1)
    elif damage == "gone":
        path.unlink()
    elif damage == "index":
        index.write_text(index.read_text().replace("0", "1"))
    elif damage == "no index":
        index.unlink()
    else:
        index.write_text(json.dumps(json.loads(index.read_text()) | {"crc32": [-1]}))
    kept = held(Drawn(), "disk", tmp_path)
    assert summary(kept) == want and kept.cache == "disk"
    assert f"{path} is damaged (" in caplog.messages[0]
    caplog.clear()
    held(Drawn(), "disk", tmp_path)
    assert caplog.messages == [] and record_path(tmp_path) == path


def test_a_file_that_vanishes_is_not_missed(tmp_path, caplog):
    kept = held(Drawn(), "disk", tmp_path)
    worker = pickle.loads(pickle.dumps(kept))
    want = summary(kept)
    record_path(tmp_path).unlink()
    assert summary(kept) == want  # still mapped
    assert caplog.messages == []
    assert summary(worker) == want and len(caplog.messages) == 1


def test_an_image_that_cannot_be_read_stops_the_build(tmp_path):
    source = Drawn()

    def load(index, imgsz):
        if index == 11:
            raise ValueError("t11.jpg: cannot be read") from OSError(5, "vanished")
        return Drawn.load(source, index, imgsz)

    source.load = load
    for mode in ("ram", "disk"):
        with pytest.raises(ValueError, match=r"t11\.jpg: cannot be read"):
            held(source, mode, tmp_path)
    assert in_folder(tmp_path) == []


# A full disk


def uncached(folder, caplog):
    """Checks that the file of Drawn() was given up in peace; returns the warning."""
    kept = held(Drawn(), "disk", folder)
    assert kept.cache is False and in_folder(folder) == []
    (text,) = caplog.messages
    assert summary(kept) == summary(held(Drawn(), False, folder))
    for part in (str(folder / "records"), "YOLOJAX_CACHE", "cache='ram'"):
        assert part in text
    return text


def test_a_full_disk_is_said_and_done_without(tmp_path, monkeypatch, caplog):
    usage = types.SimpleNamespace(free=60_000)
    monkeypatch.setattr(record_file.shutil, "disk_usage", lambda path: usage)
    text = uncached(tmp_path, caplog)
    assert "needs 0.1 MiB in" in text and "where 0.1 MiB are free" in text
    assert "No space left" in text and "other images" not in text


def test_a_full_disk_says_what_other_records_take(tmp_path, monkeypatch, caplog):
    held(Drawn(seed=1), "disk", tmp_path)
    caplog.clear()
    usage = types.SimpleNamespace(free=60_000)
    monkeypatch.setattr(record_file.shutil, "disk_usage", lambda path: usage)
    assert held(Drawn(), "disk", tmp_path).cache is False
    assert "(records of other images take 0.1 MiB there; delete" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fills_up_meanwhile(tmp_path, monkeypatch, caplog, number):
    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(record_file.os, "fsync", fsync)
    assert os.strerror(number) in uncached(tmp_path, caplog)


@pytest.mark.process
def test_a_real_limit_of_the_system(tmp_path):
    limited = build(tmp_path, limit=30_000)
    out, text = limited.communicate()
    assert limited.returncode == 0, text
    want = summary(held(Drawn(), False, tmp_path))
    assert json.loads(out) == {"cache": False, "summary": want}
    assert text.count("WARNING") == 1 and os.strerror(errno.EFBIG) in text
    assert in_folder(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    kept = held(Drawn(), "disk", tmp_path / "file")
    assert kept.cache is False and "could not be written" in caplog.text


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_and_a_log_gets_lines(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    held(Drawn(pause=0.02), "ram", tmp_path)
    assert re.search(r"cache='ram' \(0.1 MiB\): .* 1\d/24 \[", stream.getvalue())
    assert stream.getvalue().endswith("\r")  # the line is empty again
    (text,) = caplog.messages
    assert text.startswith("cache='ram': 24 images, 0.1 MiB, decoded in 0.")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(record_file, "PLAIN_SECONDS", 0.0)
    held(Drawn(count=3), "disk", tmp_path)
    assert sys.stdout.getvalue() == ""
    assert "cache='disk' (0.0 MiB): 2 of 3 images" in caplog.messages
