"""Data sets and weights at addresses: copied once, whole or not at all."""

import io
import uuid
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from buckets import write_save
from safetensors.numpy import save

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.assembly import fetching
from yolojax.assembly.weights import given_weights
from yolojax.data.shapes import folder as shapes
from yolojax.runs.mirror.address import Address
from yolojax.runs.mirror.mirror import mirrored


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A data set of a few pictures."""
    folder = tmp_path_factory.mktemp("drawn") / "set"
    shapes.write_yolo_folder(
        folder, task="detect", size=64, counts={"train": 3, "val": 2}, seed=1
    )
    return folder


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Returns the address of a name, in a place of its own."""
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    place = uuid.uuid4().hex
    yield f"memory://{place}/{{}}".format
    fsspec.filesystem("memory").rm(f"/{place}", recursive=True)


def put(address, data):
    system, path = Address(address).opened()
    system.pipe_file(path, data)


def put_folder(address, folder):
    for path in folder.rglob("*"):
        if path.is_file():
            put(f"{address}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def names(data):
    config = config_lib.default("detect")
    config.data = str(data)
    sources = loading.open_splits(config_lib.check(config), ("train", "val"))
    return [[Path(path).name for path in source.paths] for source in sources]


@pytest.mark.parametrize("kind", ["folder", "yaml", "zip"])
def test_a_data_set_is_copied_once(drawn, bucket, kind, caplog):
    caplog.set_level("INFO", "yolojax")
    address = bucket("set")
    if kind == "zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path in drawn.rglob("*"):
                archive.write(path, path.relative_to(drawn.parent))
        address += ".zip"
        put(address, packed.getvalue())
    else:
        put_folder(address, drawn)
    if kind == "yaml":
        address += "/data.yaml"
    assert names(address) == names(drawn)
    put(f"{address}.gone", b"")
    assert names(address) == names(drawn)
    assert caplog.text.count("copying memory://") == 1
    [root] = (fetching.cache_root() / "fetched").iterdir()
    assert len((root / "SHA256SUMS").read_text().splitlines()) >= 10


def test_a_set_that_is_not_there_leaves_no_copy(bucket):
    put(bucket("other"), b"")
    with pytest.raises(ValueError, match="config.data = .*cannot be fetched"):
        names(bucket("set"))
    assert not list((fetching.cache_root() / "fetched").iterdir())


def weights(address):
    config = config_lib.default("detect", "val")
    config.weights = address
    return given_weights(config_lib.check(config, "val"), "weights")


def test_weights_are_copied_and_verified(bucket):
    address = bucket("x.safetensors")
    name = "model.0.conv.weight"
    put(address, save({name: np.ones((4, 3, 3, 3), np.float32)}))
    assert len(weights(address).leaves) == 1
    put(address, b"another file by now")
    assert len(weights(address).leaves) == 1  # as it was copied
    [copy] = fetching.cache_root().rglob("x.safetensors")
    copy.write_bytes(copy.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="is not what was fetched.*Remove"):
        weights(address)


def test_a_run_in_a_bucket_is_a_source_of_weights(bucket):
    address = bucket("run")
    with pytest.raises(ValueError, match="holds no run"):
        fetching.weights_at(address, "weights")
    for number in (1, 2):
        with mirrored(Address(address), 30, print) as mirror:
            write_save(mirror.folder, number, best=number)
            mirror.saved(number)
        run = fetching.weights_at(address, "weights")
        best = run / "checkpoints/best" / str(number) / "state/d/values"
        assert best.read_text().startswith(f"best {number}")
