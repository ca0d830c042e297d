"""Paths of the user's, whole files and the one lock."""

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from places import ROOT

from yolojax import cache, files
from yolojax.data import description_of
from yolojax.data.formats import tfds
from yolojax.data.formats.class_folder import open_class_folder
from yolojax.data.formats.description import read_data_yaml
from yolojax.weights import hub

ADDRESS = "gs://bucket/run"


@pytest.mark.parametrize(
    "text", [ADDRESS, "s3://a", "https://x.org/y.yaml", "file:///tmp/x", "GS://a"]
)
def test_addresses_are_no_paths(text):
    with pytest.raises(ValueError, match=r"--workdir = .* is an address, but only"):
        files.local_path(text, "--workdir")


def test_paths_are_taken_as_they_are():
    for text in ("runs/a", "/a/b", "a:b", "C:/x", "a//b", "gs:/bucket", Path("x/y")):
        assert files.local_path(text, "--workdir") == Path(text)
    assert files.local_path("~/x", "--workdir") == Path.home() / "x"


def test_parents_are_those_of_where_links_lead(tmp_path, monkeypatch):
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/away")
    for text, want in {
        "link/../a": "far/a",
        "link/b/../a": "link/a",
        "far/../link/./a": "link/a",
        "link/../../a": "a",
        "none/../a": "a",
    }.items():
        assert files.plain_path(tmp_path / text) == str(tmp_path / want)
        monkeypatch.chdir(tmp_path)
        assert files.plain_path(text) == str(tmp_path / want)
    assert files.plain_path("/../a//b/.") == "/a/b"


@pytest.mark.process
@pytest.mark.parametrize(
    ("flag", "address", "told"),
    [
        ("--workdir", "nonesuch://bucket/run", "--workdir {} cannot be opened"),
        ("--config.compile_cache", ADDRESS, "compile_cache = '{}' is an"),
    ],
)
def test_the_command_refuses_an_address(tmp_path, flag, address, told):
    words = ["--config", str(ROOT / "configs/yolo11n.py"), flag, address]
    result = subprocess.run(
        [sys.executable, "-m", "yolojax.main", *words, "--config.device=cpu"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert told.format(address) in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_data_at_an_address_is_refused(monkeypatch, tmp_path):
    subset = {"fraction": 1.0, "fraction_mode": "stratified", "seed": 0}
    how = {"classes": None, "cache_dir": None, "threads": 1}
    for opened in (
        lambda: read_data_yaml(f"{ADDRESS}/data.yaml"),
        lambda: description_of(ADDRESS),
        lambda: open_class_folder(ADDRESS, "train", **subset, **how),
    ):
        with pytest.raises(ValueError, match="config.data = .* is an address"):
            opened()
    for line in (f"path: {ADDRESS}", f"train: {ADDRESS}", f"image_root: {ADDRESS}"):
        text = {"path": ".", "train": ".", "val": ".", "names": "[a]"}
        key, _, value = line.partition(": ")
        content = "\n".join(f"{k}: {v}" for k, v in (text | {key: value}).items())
        (tmp_path / "data.yaml").write_text(content)
        with pytest.raises(ValueError, match=f"{key} = .* is an address"):
            read_data_yaml(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", ADDRESS)
    with pytest.raises(ValueError, match="TFDS_DATA_DIR = .* is an address"):
        tfds._prepared("tfds:voc")


def test_caches_at_an_address_are_refused(monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", ADDRESS)
    with pytest.raises(ValueError, match="YOLOJAX_CACHE = .* is an address"):
        cache.cache_root()
    monkeypatch.setenv("YOLOJAX_WEIGHTS", ADDRESS)
    with pytest.raises(ValueError, match="YOLOJAX_WEIGHTS = .* is an address"):
        hub._own_folder()


# The lock


def test_a_lock_keeps_others_out_and_leaves_nothing(tmp_path):
    lock = tmp_path / "lock"
    with files.locked(lock, waiting=None):
        with pytest.raises(files.LockedError):
            with files.locked(lock, waiting=None):
                raise AssertionError("two hold it")
        assert lock.exists()
    assert not lock.exists()


def test_who_waits_says_so_and_goes_on(tmp_path, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    lock, entered, order = tmp_path / "lock", threading.Event(), []

    def hold():
        with files.locked(lock, waiting="never"):
            entered.set()
            while "waiting for another process that counts" not in caplog.text:
                pass
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    with files.locked(lock, waiting="counts"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"] and not lock.exists()


def test_the_file_stays_for_those_who_wait_if_the_body_fails(tmp_path):
    lock = tmp_path / "lock"
    with pytest.raises(KeyError), files.locked(lock, waiting="waits"):
        raise KeyError
    assert lock.exists()  # and is free
    with files.locked(lock, waiting=None):
        pass


def test_nothing_else_makes_locks():
    users = [
        path.name
        for path in sorted((ROOT / "yolojax").rglob("*.py"))
        if "import filelock" in path.read_text()
    ]
    assert users == ["files.py"]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: OSError(28, "No space left on device", str(path)),
        lambda path: OSError(122, "Disk quota exceeded", str(path)),
        lambda path: ValueError(
            f'RESOURCE_EXHAUSTED: Error writing "p/0" in OCDBT database at local file'
            f' "{path}": Failed to write 5 bytes to file 8: No space left on device'
            " [os_error_code='28']"
        ),
        lambda path: ExceptionGroup("two", [KeyError("x"), OSError(28, "", str(path))]),
    ],
)
def test_a_full_disk_is_told_from_everything_else(tmp_path, make):
    path = tmp_path / "run" / "state"
    text = files.full_disk(make(path))
    assert text.startswith("no space left on disk /") and f"holds {path}: " in text
    outer = RuntimeError("the library gave up")
    outer.__cause__ = make(path)
    assert files.full_disk(outer) == text


def test_an_error_that_names_no_file_is_about_what_is_written(tmp_path):
    bare = OSError(28, "No space left on device")
    assert f"holds {tmp_path}: " in files.full_disk(bare, tmp_path)
    assert files.full_disk(bare) == "no space left on the disk that is written to"
    assert files.full_disk(MemoryError()) is None
    assert files.full_disk(RuntimeError("RESOURCE_EXHAUSTED: out of memory")) is None
    assert files.full_disk(OSError(2, "No such file", "x")) is None
