"""Checkpoints of PyTorch: tensors exact, hostile files refused, nothing ever run."""

import json
import os
import pickle
import subprocess
import sys
import time
import zlib

import hostile_files
import ml_dtypes
import numpy as np
import pytest
from checkpoint_bytes import (
    GOOD,
    NO_HOOKS,
    PROTO,
    STORAGES,
    WEIGHT,
    archive,
    called,
    checkpoint,
    group,
    integer,
    listed,
    mapped,
    named,
    packed,
    plain,
    storage,
    tensor,
    text,
    whole,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from places import GOLDEN, HELPERS, ROOT

from yolojax.weights.torch import pickle_machine, published, torch_file
from yolojax.weights.torch.archive import open_archive
from yolojax.weights.torch.torch_file import Inert

TINY = GOLDEN / "ckpt_tiny_detect.pt"
TYPES = {
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "ByteStorage": np.uint8,
    "CharStorage": np.int8,
    "ShortStorage": np.int16,
    "IntStorage": np.int32,
    "LongStorage": np.int64,
    "BoolStorage": np.bool_,
}


@pytest.fixture
def load(tmp_path):
    """Returns a reader of the bytes of a file."""

    def reader(data):
        path = tmp_path / "file.pt"
        path.write_bytes(data)
        return torch_file.read_checkpoint(path)

    return reader


# Tensors


def test_tensors_of_a_checkpoint_are_exact():
    found = published.read(torch_file.read_checkpoint(TINY), TINY).tensors
    listed = json.loads(TINY.with_suffix(".json").read_text())["tensors"]
    assert [*found] == [name for name, *_ in listed]
    for name, shape, dtype, crc in listed:
        array = found[name]
        assert (list(array.shape), str(array.dtype)) == (shape, dtype), name
        assert zlib.crc32(array.tobytes()) == crc, name


@pytest.mark.parametrize("kind", TYPES)
def test_every_element_type(load, kind):
    values = np.array([0, 1, 1, 0, 1, 1]).astype(TYPES[kind])
    piece = tensor(storage(kind, "0", 6), (2, 3), (3, 1))
    got = load(checkpoint(piece, {"0": values.tobytes()}))
    assert got.dtype == TYPES[kind]
    np.testing.assert_array_equal(got, values.reshape(2, 3))
    assert not got.flags.writeable


def test_types_here_are_all_that_are_read():
    assert {f"torch.{kind}" for kind in TYPES} == torch_file.STORAGES.keys()


VIEWS = {
    "transposed": ((3, 4), (1, 3), 0, lambda flat: flat[:12].reshape(4, 3).T),
    "offset": ((2, 3), (3, 1), 5, lambda flat: flat[5:11].reshape(2, 3)),
    "every-second": ((4,), (2,), 1, lambda flat: flat[1:9:2]),
    "to-the-last": ((5,), (1,), 15, lambda flat: flat[15:]),
    "channels-last": (
        (1, 2, 3, 3), (18, 1, 6, 2), 0,
        lambda flat: flat[:18].reshape(1, 3, 3, 2).transpose(0, 3, 1, 2),
    ),
    "scalar": ((), (), 7, lambda flat: flat[7]),
    "one": ((1, 1), (99, 1 << 30), 19, lambda flat: flat[19:].reshape(1, 1)),
    "empty": ((0, 5), (5, 1), 20, lambda flat: np.zeros((0, 5), flat.dtype)),
}  # fmt: skip


@pytest.mark.parametrize("case", VIEWS)
@pytest.mark.parametrize("kind", ["HalfStorage", "BFloat16Storage", "LongStorage"])
def test_views(load, case, kind):
    size, stride, offset, expected = VIEWS[case]
    flat = np.arange(20).astype(TYPES[kind])
    piece = tensor(storage(kind, "0", 20), size, stride, offset=offset)
    got = load(checkpoint(piece, {"0": flat.tobytes()}))
    assert got.shape == size
    np.testing.assert_array_equal(got, expected(flat))


def test_an_empty_storage(load):
    piece = tensor(storage("FloatStorage", "0", 0), (0,), (1,))
    assert load(checkpoint(piece, {"0": b""})).shape == (0,)


def test_tensors_share_their_storage(load):
    half = storage("HalfStorage", "0", 36)
    pieces = tensor(half, (4,), (1,)), tensor(half, (4,), (1,), offset=2)
    first, second = load(checkpoint(listed(*pieces), STORAGES))
    assert np.shares_memory(first, second)
    np.testing.assert_array_equal(first[2:], second[:2])


# Other objects


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
        | st.text(max_size=9) | st.binary(max_size=9),
        lambda part: st.lists(part, max_size=4) | st.tuples(part, part)
        | st.dictionaries(st.text(max_size=4) | st.integers(), part, max_size=4)
        | st.sets(st.text(max_size=4)),
        max_leaves=20,
    )
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_plain_values_of_every_protocol(value, protocol):
    machine = pickle_machine.Machine(torch_file._check_name, torch_file.CALLS, None)
    assert machine.run(pickle.dumps(value, protocol)) == value


RARE_KEYS = {1.5: 1, (1, "a"): 2, 1 << 40: 3, None: 4}
PLAIN = {  # piece, value
    "size": (called(named("torch", "Size"), group(*map(integer, (2, 3)))), (2, 3)),
    "ordered": (
        called(named("collections", "OrderedDict"), listed(plain(["a", 1]))),
        {"a": 1},
    ),
    "ordered-with-attributes": (NO_HOOKS + mapped({"_metadata": plain({})}) + b"b", {}),
    "set": (called(named("__builtin__", "set"), plain(["a", "b"])), {"a", "b"}),
    "bytes": (
        called(named("_codecs", "encode"), text("a\xff"), text("latin1")),
        b"a\xff",
    ),
    "rare-keys": (plain(RARE_KEYS), RARE_KEYS),
}


@pytest.mark.parametrize("case", PLAIN)
def test_values_that_are_built(load, case):
    piece, value = PLAIN[case]
    assert load(checkpoint(piece)) == value


RECORDS = {  # piece, kind, args, state
    "object": (named("a.b", "C") + b")\x81" + plain({"x": 1}) + b"b", "a.b.C", (),
        {"x": 1}),
    "device": (called(named("torch", "device"), text("cuda"), integer(0)),
        "torch.device", ("cuda", 0), None),
    "dtype": (named("torch", "float16"), "torch.float16", (), None),
    "namespace": (named("argparse", "Namespace") + b")\x81" + plain({"lr": 1}) + b"b",
        "argparse.Namespace", (), {"lr": 1}),
    "path": (called(named("pathlib", "PosixPath"), text("a"), text("b")),
        "pathlib.PosixPath", ("a", "b"), None),
    "reconstructed": (called(named("copy_reg", "_reconstructor"), named("a", "B"),
        named("__builtin__", "object"), b"N"), "a.B", (None,), None),
    "new-with-keywords": (named("a", "B") + plain((1,)) + plain({"k": 2}) + b"\x92",
        "a.B", (1, {"k": 2}), None),
}  # fmt: skip


@pytest.mark.parametrize("case", RECORDS)
def test_objects_become_records(load, case):
    piece, kind, args, state = RECORDS[case]
    got = load(checkpoint(piece))
    assert isinstance(got, Inert)
    assert (got.kind, got.args, got.state, got.items) == (kind, args, state, [])


def test_an_attribute_of_a_class_is_only_noted(load):
    piece = called(named("builtins", "getattr"), named("a", "Detect"), text("forward"))
    got = load(checkpoint(piece))
    assert got.kind == "builtins.getattr"
    assert (got.args[0].kind, got.args[1]) == ("a.Detect", "forward")


def test_records_keep_what_containers_hold(load):
    made = named("a", "Names") + b")\x81"
    assert load(checkpoint(made + b"](K\1K\2e0K\5a")).items == [5]
    assert load(checkpoint(made + b"(K\1K\2u")).items == [(1, 2)]


def test_what_contains_itself_is_read(load):
    got = load(checkpoint(b"]q\0h\0a"))
    assert got[0] is got


def test_a_named_module_is_not_imported(tmp_path, monkeypatch, load):
    (tmp_path / "trap_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    made = named("trap_module", "Trap") + b")\x81" + plain({"a": 1}) + b"b"
    assert load(checkpoint(made)).kind == "trap_module.Trap"
    assert "trap_module" not in sys.modules


# Hostile files


def child(mode, folder, tmp_path_factory):
    """Returns the results of a folder's files by id, from a process of its own."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",  # its threads would reserve the address space
    }
    done = subprocess.run(
        [sys.executable, HELPERS / "hostile_run.py", mode, folder],
        env=environment,
        cwd=tmp_path_factory.mktemp("cwd"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {result["case"]: result for result in results}


def write_files(folder, ids):
    files = hostile_files.whole_files(lambda case: folder / f"{case}.canary")
    for case in ids:
        (folder / f"{case}.pt").write_bytes(files[case]())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Returns what reading each hostile file did, and their folder."""
    folder = tmp_path_factory.mktemp("hostile")
    write_files(folder, hostile_files.IDS)
    (folder / "good-itself.pt").write_bytes(GOOD)
    with open(folder / "too-large.pt", "wb") as file:
        file.write(GOOD)
        file.truncate((4 << 30) + 1)  # sparse, takes no space
    results = child("read", folder, tmp_path_factory)
    return results, folder


@pytest.mark.process
@pytest.mark.parametrize("case", [*hostile_files.IDS, "too-large"])
def test_a_hostile_file_is_refused(outcome, case):
    results, folder = outcome
    result = results[case]
    assert result["error"] == "ValueError", result
    assert result["message"].startswith(f"{folder / case}.pt: ")
    assert len(result["message"]) < 600 + len(str(folder))
    assert result["seconds"] < 2
    assert result["peak"] < 500
    assert not (folder / f"{case}.canary").exists()


@pytest.mark.process
def test_the_good_file_among_them_is_read(outcome):
    results, folder = outcome
    assert results["good-itself"]["error"] is None
    assert len(results) == len(hostile_files.IDS) + 2
    assert [*folder.glob("*.canary")] == []


MESSAGES = {  # what a user can act on
    "os-reduce": "asks to run os.system, which no weights file needs. Do not use this",
    "lfs": "git lfs pull",
    "html": "web page",
    "old-format": "before 1.6",
    "torchscript": "torch.jit",
    "cut-50-percent": "download it again",
    "big-endian": "little",
    "sparse": "_rebuild_sparse_tensor",
    "storage-quantised": "QInt8Storage",
    "expanded": "contiguous",
    "deflated": "is compressed",
    "fused-model": "batch norm was folded",
    "no-weights-dict": "'epoch', 'optimizer'",
    "self-module": "contains itself",
    "overlapping": "overlaps",
    "name-twice": "two members",
}


@pytest.mark.process
@pytest.mark.parametrize("case", MESSAGES)
def test_the_message_says_what_is_wrong(outcome, case):
    assert MESSAGES[case] in outcome[0][case]["message"]


@pytest.fixture(scope="module")
def unpickled(tmp_path_factory):
    """Returns the folder of the armed files after `pickle` has read them."""
    folder = tmp_path_factory.mktemp("armed")
    write_files(folder, hostile_files.ARMED)
    results = child("unpickle", folder, tmp_path_factory)
    assert results.keys() == hostile_files.ARMED.keys()
    return folder


@pytest.mark.process
@pytest.mark.parametrize("case", hostile_files.ARMED)
def test_the_payload_works_where_nothing_stops_it(unpickled, case):
    canary = unpickled / f"{case}.canary"
    for _ in range(100):  # some payloads start a process of their own
        if canary.exists():
            return
        time.sleep(0.05)
    raise AssertionError("this payload is harmless, so its refusal shows nothing")


@pytest.fixture(scope="module")
def tiny():
    """Returns the members of a real checkpoint, and the name of its pickle."""
    with open_archive(TINY) as opened:
        members = {name: opened.read(name) for name in opened.members}
    return members, next(name for name in members if name.endswith("/data.pkl"))


def test_a_payload_before_a_whole_checkpoint_is_refused(tiny, tmp_path, load):
    members, name = tiny
    payload = hostile_files.system(tmp_path / "canary") + b"0"
    for extra in (b"N0", payload):  # the first shows that the rest is in order
        data = PROTO + extra + members[name][2:]
        written = packed([*(members | {name: data}).items()])
        if extra == payload:
            with pytest.raises(ValueError, match=r"asks to run os\.system"):
                load(written)
        else:
            assert load(written)["model"].kind.endswith("DetectionModel")
    assert not (tmp_path / "canary").exists()


# Files that are no files


def test_a_folder_a_pipe_and_nothing(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        torch_file.read_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(ValueError, match="not a regular file"):
        torch_file.read_checkpoint(tmp_path / "pipe.pt")
    with pytest.raises(FileNotFoundError):
        torch_file.read_checkpoint(tmp_path / "missing.pt")


# Random damage


def survives(path):
    """Returns whether a file is read; any error but ValueError fails the test."""
    try:
        published.read(torch_file.read_checkpoint(path), path)
    except ValueError as error:
        assert str(error).startswith(str(path))
        return False
    return True


def damaged(data, rng):
    """Returns bytes with a few of them changed, inserted, removed or repeated."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        place, length = rng.integers(len(data)), rng.integers(1, 9)
        kind = rng.integers(4)
        if kind == 0:
            data[place] = rng.integers(256)
        elif kind == 1:
            data[place:place] = rng.bytes(length)
        elif kind == 2:
            del data[place : place + length]
        else:
            data[place:place] = data[place : place + length]
    return bytes(data)


@pytest.mark.parametrize("what", ["archive", "pickle", "tiny"])
def test_random_damage_is_an_error_or_harmless(tiny, tmp_path, what):
    members, name = tiny
    rng = np.random.default_rng(5)
    path = tmp_path / "file.pt"
    small = PROTO + whole() + b"."
    fine = 0
    rounds = {"archive": 600, "pickle": 600, "tiny": 25}[what]
    for _ in range(rounds):
        if what == "archive":
            data = damaged(GOOD, rng)
        elif what == "pickle":
            data = archive(damaged(small, rng), STORAGES)
        else:
            data = packed([*(members | {name: damaged(members[name], rng)}).items()])
        path.write_bytes(data)
        fine += survives(path)
    assert fine < rounds  # damage is noticed


STEPS = st.one_of(
    st.sampled_from([bytes([code[0]]) for code in pickle_machine.STEPS]),
    st.sampled_from([WEIGHT, storage("HalfStorage", "0", 36), plain({"a": [1]})]),
    st.sampled_from(
        [named("a", "B"), text("a"), integer(3), b"h\0", b"q\0", b"(", b")"]
    ),
    st.sampled_from(
        [named(*name.rsplit(".", 1)) for name in (*torch_file.CALLS, "torch.Size")]
    ),
)


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=400, deadline=None)
def test_random_programs_are_an_error_or_harmless(tmp_path_factory, steps):
    path = tmp_path_factory.getbasetemp() / "program.pt"
    path.write_bytes(checkpoint(b"".join(steps), STORAGES))
    survives(path)


def test_the_small_file_holds_its_weight(load):
    model = load(GOOD)["model"]
    conv = model.state["_modules"]["model"].state["_modules"]["0"]
    weight = conv.state["_modules"]["conv"].state["_parameters"]["weight"]
    assert weight.tobytes() == STORAGES["0"]
