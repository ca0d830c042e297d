"""The scan of a data set: kept, renewed with its files, and done without."""

import os

import numpy as np
import pytest
from yolo_files import opened, write_small

from yolojax.data.formats import yolo_folder


@pytest.fixture
def folder(tmp_path):
    return write_small(tmp_path)


def test_scan_is_kept_and_renewed(folder, tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    (folder / "images/train/t3.jpg").write_bytes(b"")
    first = opened(folder, cache_dir=cache)
    calls = []
    real = yolo_folder.verify_labelled
    monkeypatch.setattr(
        yolo_folder, "verify_labelled", lambda *a: calls.append(a) or real(*a)
    )
    second = opened(folder, cache_dir=cache)
    assert not calls
    assert second.paths == first.paths and second.problems == first.problems
    np.testing.assert_array_equal(second.original_hw, first.original_hw)
    for a, b in zip(first.labels, second.labels, strict=True):
        np.testing.assert_array_equal(a, b)
    label = folder / "labels/train/t0.txt"
    changed = label.read_text().replace("0 ", "2 ", 1)  # of the same length
    later = label.stat().st_mtime_ns + 10**9
    label.write_text(changed)
    os.utime(label, ns=(later, later))
    assert opened(folder, cache_dir=cache).labels[0][0, 0] == 2
    assert len(calls) == 4
    opened(folder, cache_dir=cache, single_cls=True)
    assert len(calls) == 8


def test_damaged_scan_cache_is_ignored(folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    first = opened(folder, cache_dir=cache)
    (stored,) = cache.glob("scan-*.npz")
    whole = stored.read_bytes()
    for content in (b"", b"PK\x03\x04broken", whole[:-40]):
        stored.write_bytes(content)
        assert opened(folder, cache_dir=cache).paths == first.paths
        assert stored.read_bytes() == whole  # written anew


def test_cache_that_cannot_be_written_is_done_without(folder, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert len(opened(folder, cache_dir=blocked / "cache")) == 4
    assert len(opened(folder, "val", cache_dir=blocked / "cache")) == 1
    # Once, and naming what to mend: not a temporary file.
    assert caplog.text.count("the scan of the data set is not kept") == 1
    assert f"{blocked / 'cache'} cannot be written to" in caplog.text
