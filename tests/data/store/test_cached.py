"""Caches: the same bytes in every mode, and one copy in memory."""

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn_source import Drawn, DrawnClasses, child, held, in_folder, loader, summary
from recipes import USUAL

from yolojax.data.batches import prefetch
from yolojax.data.batches import whole as classify
from yolojax.data.batches.whole import ClassImages
from yolojax.data.store import host_memory
from yolojax.data.store.cached import Images

MODES = (False, "ram", "disk")
MIXED = dataclasses.replace(USUAL, mosaic=0.7, mixup=0.3, cutmix=0.3)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def everything(found):
    """Returns the bytes of all batches."""
    with found:
        return [
            {key: (value.shape, value.tobytes()) for key, value in batch.items()}
            for batch in found
        ]


# The same bytes


def test_first_200_batches_are_the_same_with_every_cache(tmp_path):
    found = [everything(loader(held(Drawn(), mode, tmp_path))) for mode in MODES]
    assert len(found[0]) == 200
    assert found[1] == found[0] and found[2] == found[0]
    assert len({batch["image"] for batch in found[0]}) == 200


SLOW = pytest.mark.slow  # processes take seconds to start


@pytest.mark.process
@pytest.mark.parametrize(
    ("workers", "mode"),
    [
        (1, "ram"),
        *(pytest.param(4, mode, marks=SLOW) for mode in MODES),
        *(pytest.param(1, mode, marks=SLOW) for mode in (False, "disk")),
    ],
)
def test_worker_processes_change_nothing(tmp_path, workers, mode):
    want = everything(loader(held(Drawn(), False, tmp_path)))
    assert everything(loader(held(Drawn(), mode, tmp_path), workers=workers)) == want


@pytest.mark.parametrize("mode", [*MODES, True, "device"])
def test_images_are_read_only_and_in_order(tmp_path, mode):
    source = Drawn(count=9)
    kept = held(source, mode, tmp_path)
    assert kept.cache == {True: "ram"}.get(mode, mode)
    again = list(kept.all_images())
    assert [index for index, _ in again] == list(range(9))
    for index, image in again:
        np.testing.assert_array_equal(image, source.load(index, 32))
        np.testing.assert_array_equal(kept.image(index), image)
        assert image.shape[:2] == tuple(kept.sizes[index])
        with pytest.raises(ValueError, match="read-only"):
            image[0] = 0
    if mode:
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            image.flags.writeable = True


@pytest.mark.parametrize("mode", ["ram", "disk"])
def test_a_filled_cache_decodes_nothing(tmp_path, mode):
    diary = tmp_path / "diary"
    kept = held(Drawn(diary=diary), mode, tmp_path)
    assert sorted(map(int, diary.read_text().split())) == list(range(24))
    everything(loader(kept, epochs=2))
    summary(pickle.loads(pickle.dumps(kept)))
    assert len(diary.read_text().split()) == 24


def test_an_image_of_another_size_than_promised_is_an_error(tmp_path):
    source = Drawn()
    source.original_hw = source.original_hw + 2
    source.original_hw[3] = (64, 10)
    source.load = lambda index, imgsz: np.zeros((32, 6, 3), np.uint8)
    for mode in MODES:
        with pytest.raises(ValueError, match=r"image \d+ is \(32, 6, 3\), but its"):
            held(source, mode, tmp_path).image(0)
    assert in_folder(tmp_path) == []


def test_unknown_cache_is_refused(tmp_path):
    for kept in (Images, ClassImages):
        options = {"imgsz": 32} if kept is Images else {}
        source = Drawn() if kept is Images else DrawnClasses()
        with pytest.raises(ValueError, match="cache = 'tape' is unknown"):
            kept(source, cache="tape", threads=1, **options)


# Memory


READER = """
import pickle, sys
from pathlib import Path
from yolojax.data.store import cached
kept = pickle.loads(Path(sys.argv[1]).read_bytes())
own = Path("/proc/self/smaps_rollup").read_text()
print(own.split("Pss:")[1].split()[0], flush=True)
sum(kept.image(index).sum() for index in range(len(kept)))
print("read", flush=True)
sys.stdin.read()
"""


@pytest.mark.process
@LINUX
def test_memory_of_four_workers_is_one_copy(tmp_path):
    source = Drawn(count=100, side=512)
    before = pss("self")
    kept = held(source, "ram", tmp_path, imgsz=512)
    size = sum(kept.image(index).nbytes for index in range(len(kept)))
    assert size > 48 << 20
    (tmp_path / "records.pkl").write_bytes(pickle.dumps(kept))
    (tmp_path / "reader.py").write_text(READER)
    readers = [
        child(tmp_path / "reader.py", tmp_path / "records.pkl", stdin=subprocess.PIPE)
        for _ in range(4)
    ]
    started = [int(reader.stdout.readline()) << 10 for reader in readers]
    assert [reader.stdout.readline() for reader in readers] == ["read\n"] * 4
    grown, shared = pss("self") - before, pss_of_block("self")
    for reader, own in zip(readers, started, strict=True):
        grown += pss(reader.pid) - own
        shared += pss_of_block(reader.pid)
        assert rss_of_shared_memory(reader.pid) > 0.95 * size
    for reader in readers:
        assert reader.communicate()[1] == ""
    # Less than it, if this process has given back memory of earlier tests meanwhile.
    assert grown < 1.3 * size
    assert 0.95 * size < shared < 1.05 * size


def pss(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("Pss:")[1].split()[0]) << 10


def pss_of_block(pid):
    """Returns the share of a process in the block of the images, bytes."""
    total, ours = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:  # the first line of a mapping
            ours = "memfd:yolojax" in line
        elif ours and line.startswith("Pss:"):
            total += int(line.split()[1]) << 10
    return total


def rss_of_shared_memory(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("RssShmem:")[1].split()[0]) << 10


@LINUX
def test_memory_is_given_back_with_the_records(tmp_path):
    def blocks():
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        found = {os.readlink(link) for link in links if os.path.islink(link)}
        return {link for link in found if "memfd:yolojax" in link}

    before = blocks()
    kept = held(Drawn(), "ram", tmp_path)
    image = kept.image(3)
    assert len(blocks() - before) == 1
    del kept
    np.testing.assert_array_equal(image, Drawn().load(3, 32))  # still mapped
    del image
    assert blocks() <= before


def test_memory_of_a_process_that_has_gone_is_not_missed(tmp_path, caplog):
    kept = held(Drawn(), "ram", tmp_path)
    stored = pickle.dumps(kept)
    del kept
    left = pickle.loads(stored)
    assert summary(left) == summary(held(Drawn(), False, tmp_path))
    assert len(caplog.messages) == 1 and "decoded from the images" in caplog.text


def test_systems_without_anonymous_files_use_a_temporary_one(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = held(Drawn(), "ram", tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    want = summary(held(Drawn(), False, tmp_path))
    assert summary(kept) == want and summary(pickle.loads(pickle.dumps(kept))) == want
    del kept
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_said_and_done_without(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(host_memory, "available", lambda: 10_000)
    for mode in ("ram", "device"):
        caplog.clear()
        kept = held(Drawn(), mode, tmp_path)
        assert kept.cache is False
        (text,) = caplog.messages
        assert f"cache='{mode}' needs 0.1 MiB for 24 images, but 0.0 MiB" in text
        assert "Use cache='disk', a smaller imgsz or" in text
        assert summary(kept) == summary(held(Drawn(), False, tmp_path))


def test_batches_pickle_without_pixels_and_with_labels_once(tmp_path):
    source = Drawn(count=120)
    for mode in MODES:
        batches = loader(held(source, mode, tmp_path), epochs=6).batches
        size = len(pickle.dumps(batches))
        assert size < len(pickle.dumps(source)) + 40 * len(source) + 4000


LEAVE_OPEN = """
import sys
from pathlib import Path
import drawn_source
from drawn_source import Drawn
if __name__ == "__main__":
    kept = drawn_source.held(Drawn(), sys.argv[1], Path(sys.argv[2]))
    batch = next(drawn_source.loader(kept, workers=1))
"""


@pytest.mark.process
@pytest.mark.parametrize("mode", ["ram", pytest.param("disk", marks=SLOW)])
def test_a_process_that_leaves_its_loader_open_ends_in_silence(tmp_path, mode):
    (tmp_path / "leave_open.py").write_text(LEAVE_OPEN)
    done = child(tmp_path / "leave_open.py", mode, tmp_path)
    assert done.communicate()[1] == "" and done.returncode == 0


# Classification


def classes(cache, folder):
    return ClassImages(DrawnClasses(), cache=cache, threads=2, cache_dir=folder)


def class_loader(kept, workers=0):
    batches = classify.ClassifyTrainBatches(
        kept, imgsz=16, batch=5, epochs=3, seed=2,
        augment=classify.ClassifyOptions(0.5, 0.5, 0.0, "randaugment", 0, 0, 0, 0.4),
    )  # fmt: skip
    return prefetch.prefetched(
        batches, start_step=0, workers=workers, num_threads=2, prefetch=2
    )


def test_caches_of_classification_change_nothing(tmp_path, caplog, monkeypatch):
    want = everything(class_loader(classes(False, tmp_path)))
    for mode in ("ram", "disk"):
        kept = classes(mode, tmp_path)
        assert kept.cache == mode
        assert everything(class_loader(kept)) == want
        assert not kept.image(0).flags.writeable
        assert summary(kept) == summary(classes(False, tmp_path))
    # Pictures of original size and resized ones are kept apart.
    held(DrawnClassesAsObjects(), "disk", tmp_path)
    assert len(in_folder(tmp_path)) == 2
    monkeypatch.setattr(host_memory, "available", lambda: 1)
    assert classes("ram", tmp_path).cache is False and "memory are free" in caplog.text


@pytest.mark.process
def test_worker_processes_of_classification_change_nothing(tmp_path):
    want = everything(class_loader(classes(False, tmp_path)))
    kept = classes("disk", tmp_path)
    assert everything(class_loader(kept, workers=1)) == want


class DrawnClassesAsObjects(Drawn):
    """The files of DrawnClasses, as data with labelled objects."""
