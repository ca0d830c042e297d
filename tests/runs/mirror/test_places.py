"""What --workdir can name, and what is wrong with a bucket: told before training."""

import shutil
import sys
from pathlib import Path

import fsspec  # noqa: F401  its registry is changed
import pytest
from buckets import Bucket, content, mirror_of, place_of, write_save

from yolojax import main
from yolojax.runs.mirror.address import Address, workdir_of
from yolojax.runs.mirror.manifest import Entry, Manifest
from yolojax.runs.mirror.mirror import mirrored
from yolojax.runs.mirror.scratch import Scratch, settled


@pytest.fixture
def bucket():
    """A bucket with a run that was saved twice."""
    bucket = Bucket()
    mirror = mirror_of(bucket)
    for number in (1, 2):
        write_save(mirror.folder, number, best=1)
        mirror.saved(number)
        mirror.turn()
    return bucket


def refusal(bucket):
    with pytest.raises(ValueError) as error:
        mirror_of(bucket)
    return str(error.value)


def test_folders_and_addresses(tmp_path):
    assert workdir_of(None) is None
    assert workdir_of("runs/x").parts == ("runs", "x")
    assert workdir_of(tmp_path) == tmp_path
    assert workdir_of("s3://bucket/run") == Address("s3://bucket/run")
    assert str(Address("ftp://me:secret@host/run")) == "ftp://host/run"


@pytest.mark.parametrize("mode", [mode for mode in main.MODES if mode != "train"])
def test_an_address_is_for_training(mode):
    with pytest.raises(ValueError, match=f"only train works on; {mode} writes"):
        main._workdir("s3://bucket/run", mode)
    assert main._workdir("s3://bucket/run", "train") == Address("s3://bucket/run")


def test_a_scheme_nobody_knows_or_whose_library_is_missing(monkeypatch):
    with pytest.raises(ValueError, match="nonesuch.*Known schemes are those of fsspec"):
        Address("nonesuch://bucket/run").opened()
    with pytest.raises(ValueError, match="leads through another one"):
        Address("simplecache::s3://bucket/run").opened()
    registry = sys.modules["fsspec.registry"]
    monkeypatch.delitem(registry._registry, "gs", raising=False)
    lacking = {"class": "no_such_module.FS", "err": "Please install gcsfs"}
    monkeypatch.setitem(registry.known_implementations, "gs", lacking)
    with pytest.raises(ValueError, match=r"Please install gcsfs.*\[gcs\]"):
        Address("gs://bucket/run").opened()


def test_a_disk_as_a_bucket(tmp_path, machine):
    address = Address(f"file://{tmp_path}/shared/run")
    with mirrored(address, 30, print) as mirror:
        write_save(mirror.folder, 1, best=1)
        mirror.saved(1)
    was = content(mirror.folder)
    machine("second")
    with mirrored(address, 30, print) as mirror:
        assert content(mirror.folder) == was
        write_save(mirror.folder, 2)
        mirror.saved(2)
        with pytest.raises(ValueError, match="another process is training"):
            mirrored(address, 30, print).__enter__()
    files = list((tmp_path / "shared/run/files").iterdir())
    assert len(files) == len(content(mirror.folder))


def test_a_place_that_cannot_be_written_to(bucket, tmp_path):
    bucket.error = PermissionError("Access Denied")
    text = refusal(bucket)
    assert "Access Denied" in text and "must exist" in text and text.count("\n") == 0
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ValueError, match="cannot be written to"):
        mirrored(Address(f"file://{tmp_path}/file/run"), 30, print).__enter__()


def test_a_place_that_holds_something_else():
    bucket = Bucket()
    bucket.pipe_file(f"{bucket.root}/photos/1.jpg", b"")
    assert "is not empty and holds no run: photos" in refusal(bucket)
    assert bucket.keys("") == ["photos/1.jpg"]


def test_a_mirror_of_another_run(bucket, machine):
    other = Bucket()
    other.root = bucket.root  # the same address
    machine("second")
    before = dict(bucket.store)
    bucket.store.clear()
    mirror = mirror_of(bucket)
    write_save(mirror.folder, 1)
    mirror.saved(1)
    mirror.turn()
    bucket.store.clear()
    bucket.store.update(before)
    text = refusal(bucket)
    assert "holds another run than" in text and str(mirror.folder) in text
    assert bucket.store == before and (mirror.folder / "checkpoints/last/1").is_dir()


def test_half_a_mirror(bucket, machine):
    machine("second")
    key = next(key for key in bucket.keys() if key.endswith("values"))
    path = f"{bucket.root}/{key}"
    good = bucket.cat_file(path)
    bucket.pipe_file(path, b"x" * len(good))
    assert f"damaged: {key}, which is checkpoints/" in refusal(bucket)
    bucket.pipe_file(path, good[1:])
    assert "half a mirror" in refusal(bucket)
    bucket.store.pop(path)
    text = refusal(bucket)
    assert f"{key}, which is" in text and "is missing" in text
    assert not any(Scratch(place_of(bucket).address).folder.glob("run*"))
    bucket.pipe_file(path, good)
    assert mirror_of(bucket).upload.saves == 2


def test_the_machine_that_has_the_run_mends_half_a_mirror(bucket, machine, caplog):
    whole = set(bucket.keys())
    lost = next(key for key in bucket.keys() if key.endswith("values"))
    bucket.store.pop(f"{bucket.root}/{lost}")
    mirror = mirror_of(bucket)
    assert "half a mirror" in caplog.text and "mirrors it anew" in caplog.text
    mirror.saved(2)
    assert mirror.turn() is None
    assert set(bucket.keys()) == whole
    machine("second")
    assert content(mirror_of(bucket).folder) == content(mirror.folder)


def test_a_manifest_that_was_cut_off_is_not_taken(bucket, machine, caplog):
    machine("second")
    [name] = bucket.keys("manifests")
    data = bucket.cat_file(f"{bucket.root}/{name}")
    newer = f"{bucket.root}/manifests/00000009-abcdefabcdef.json"
    bucket.pipe_file(newer, data[:-9])
    assert mirror_of(bucket).upload.saves == 2
    assert "no whole list of files" in caplog.text
    bucket.store.pop(f"{bucket.root}/{name}")
    machine("third")
    assert "half a mirror" in refusal(bucket)


def test_a_disk_that_is_too_small(bucket, machine, monkeypatch):
    machine("second")
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    text = refusal(bucket)
    assert "MiB are free" in text and "YOLOJAX_CACHE" in text


def test_what_a_machine_holds_is_not_replaced_by_an_empty_bucket(bucket, caplog):
    bucket.store.clear()
    mirror = mirror_of(bucket)
    assert "holds no state, but" in caplog.text
    mirror.saved(2)
    mirror.turn()
    assert mirror.upload.saves == 2 and bucket.keys()


def test_a_state_that_is_replaced_while_it_is_fetched(bucket, machine):
    machine("third")
    running = mirror_of(bucket)
    machine("second")
    place, scratch = place_of(bucket), Scratch(place_of(bucket).address)
    get = place.get

    def late(key, target):
        place.get = get
        write_save(running.folder, 3)
        running.saved(3)
        running.turn()
        get(key, target)

    place.get = late
    assert settled(place, scratch).saves == 3
    assert content(scratch.run) == content(running.folder)


@pytest.mark.parametrize("path", ["/etc/passwd", "../run2/x", "a/../../x", ""])
def test_a_manifest_names_files_of_a_run_alone(path):
    entry = Entry(path, 1, "0" * 64, 0)
    manifest = Manifest("run", 1, "abcdefabcdef", "host", 1, (entry,))
    with pytest.raises(ValueError, match="not in a run"):
        Manifest.from_bytes(manifest.to_bytes())


def test_a_run_is_named_by_its_address_alone(tmp_path, machine, monkeypatch, capsys):
    address = f"file://{tmp_path}/shared/run"
    with mirrored(Address(address), 30, print) as mirror:
        write_save(mirror.folder, 1)
        mirror.saved(1)
    machine("second")
    words = main._with_settings(["yolojax", "train", address, "epochs=9"])
    config, workdir = words[2:4]
    assert workdir == f"--workdir={address}" and words[4:] == ["epochs=9"]
    folder = config.partition("recorded.py:")[2]
    assert content(Path(folder))["config.json"][0] == b'{"task": "detect"}'
    plain = ["yolojax", "val", address]
    assert main._with_settings(plain) == plain
    with pytest.raises(SystemExit):
        main._with_settings(["yolojax", "train", f"{address}-2"])
    assert "holds no run to go on with" in capsys.readouterr().err
