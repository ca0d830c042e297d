"""Published checkpoints: weights, settings and names, and the forms they come in."""

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoint_bytes import (
    CLASSES,
    FOUR,
    GOOD,
    STORAGES,
    WEIGHT,
    called,
    checkpoint,
    group,
    integer,
    listed,
    mapped,
    model,
    module,
    named,
    plain,
    text,
    whole,
)
from places import GOLDEN

from yolojax.weights.torch import published, torch_file

TINY = GOLDEN / "ckpt_tiny_detect.pt"
NAMES = [
    "model.0.conv.weight",
    *(
        f"model.0.bn.{name}"
        for name in ("weight", "bias", "running_mean", "running_var")
    ),
]


@pytest.fixture
def read(tmp_path):
    """Returns a reader of the piece of a checkpoint."""

    def reader(piece):
        path = tmp_path / "file.pt"
        path.write_bytes(checkpoint(piece, STORAGES))
        return published.read(torch_file.read_checkpoint(path), path)

    return reader


# Real files


def test_a_finished_checkpoint():
    found = published.read(torch_file.read_checkpoint(TINY), TINY)
    told = json.loads(TINY.with_suffix(".json").read_text())
    assert len(found.tensors) == len(told["tensors"]) == 499
    assert found.names == tuple(told["names"].values()) == ("cat", "dog", "bird")
    assert found.strides == tuple(told["stride"]) == (8.0, 16.0, 32.0)
    assert found.task == "detect"
    assert found.architecture["nc"] == told["nc"]
    assert found.train_args == {"imgsz": 640, "task": "detect"}
    assert found.licence == "synthetic test fixture"
    assert (found.date, found.version) == ("2026-01-01T00:00:00", "8.4.190")
    assert found.notes == ()
    norms = {name.removesuffix(".weight") for name in found.tensors if ".bn.w" in name}
    assert found.norms == dict.fromkeys(norms, (1e-3, 0.03))
    convs = {name.removesuffix(".bn") for name in norms}
    assert found.activations.keys() == convs
    assert set(found.activations.values()) == {"SiLU", "Identity"}
    assert found.activations["model.9.cv1"] == "SiLU"
    assert found.activations["model.9.cv2"] == "SiLU"
    assert found.activations["model.10.m.0.attn.pe"] == "Identity"


@pytest.mark.parametrize(
    ("name", "task", "tensors"),
    [("yolo11n-coco", "detect", 499), ("yolo11n-seg-coco", "segment", 561)],
)
def test_real_weights(assets, name, task, tensors):
    path = assets / "weights" / f"{name}.pt"
    found = published.read(torch_file.read_checkpoint(path), path)
    assert len(found.tensors) == tensors
    assert found.task == task
    assert len(found.names) == 80
    assert (found.names[0], found.names[-1]) == ("person", "toothbrush")
    assert found.strides == (8.0, 16.0, 32.0)
    assert set(found.norms.values()) == {(1e-3, 0.03)}
    assert found.licence.startswith("AGPL-3.0")
    assert found.notes == ()
    for key, tensor in found.tensors.items():
        counter = key.endswith("num_batches_tracked")
        assert tensor.dtype == (np.int64 if counter else np.float16), key
        assert np.isfinite(tensor).all(), key


# Where the weights are


def test_the_small_model(read):
    found = read(whole())
    assert [*found.tensors] == NAMES
    assert found.tensors[NAMES[0]].shape == (4, 1, 3, 3)
    assert found.norms == {"model.0.bn": (1e-3, 0.03)}
    assert found.activations == {"model.0": "SiLU"}
    assert (found.names, found.task) == (("cat", "dog"), "detect")
    assert (found.architecture, found.train_args) == ({"nc": 2}, {"imgsz": 64})
    assert (found.licence, found.date, found.strides) == (None, None, None)


def test_a_bare_model(read):
    assert [*read(model()).tensors] == NAMES


def test_averaged_weights_come_first(read):
    other = model(names=plain({0: "averaged"}))
    assert read(mapped({"model": model(), "ema": other})).names == ("averaged",)
    assert read(mapped({"model": b"N", "ema": other})).names == ("averaged",)


def test_a_model_in_a_wrapper_for_several_devices(read):
    wrapped = module("torch.nn.DataParallel", children={"module": model()})
    found = read(mapped({"model": wrapped}))
    assert [*found.tensors] == NAMES
    assert found.names == ("cat", "dog")


STATE = {"model.0.conv.weight": WEIGHT, "model.0.bn.weight": FOUR}


@pytest.mark.parametrize("key", ["", "model", "state_dict", "ema"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_plain_state_dict(read, key, prefix):
    piece = mapped({prefix + name: value for name, value in STATE.items()})
    found = read(mapped({key: piece}) if key else piece)
    assert [*found.tensors] == [*STATE]
    assert (found.norms, found.activations, found.task) == ({}, {}, None)


def test_a_prefix_of_some_names_stays(read):
    found = read(mapped({"module.a": WEIGHT, "b": FOUR}))
    assert [*found.tensors] == ["module.a", "b"]


def test_entries_beside_the_tensors_are_noted(read):
    found = read(mapped(STATE | {"epoch": integer(3)}))
    assert [*found.tensors] == [*STATE]
    assert any("1 entries beside" in note for note in found.notes)


# Modules


def test_shared_modules_have_each_of_their_names(read):
    shared = module("a.B", {"w": FOUR}) + b"q\0"
    found = read(module("a.C", children={"x": shared, "y": b"h\0"}))
    assert [*found.tensors] == ["x.w", "y.w"]
    assert found.tensors["x.w"] is found.tensors["y.w"]


def test_own_tensors_come_before_those_of_children(read):
    child = module("a.B", {"w": FOUR})
    parent = module(
        "a.C", {"p": FOUR, "none": b"N"}, {"b": FOUR}, {"m": child, "n": b"N"}
    )
    assert [*read(parent).tensors] == ["p", "b", "m.w"]


def test_buffers_that_are_not_kept_are_left_out(read):
    hidden = called(named("builtins", "set"), listed(text("b")))
    piece = module(
        "a.B", {}, {"a": FOUR, "b": FOUR}, _non_persistent_buffers_set=hidden
    )
    assert [*read(piece).tensors] == ["a"]


@pytest.mark.parametrize(
    ("head", "task"),
    [*published.TASKS.items(), ("Detector", None)],
)
def test_the_task_is_that_of_the_last_layer(read, head, task):
    layers = {"0": module("a.Conv", {"w": FOUR}), "1": module(f"{CLASSES}head.{head}")}
    found = read(module("a.M", children={"model": module("a.S", children=layers)}))
    assert found.task == task
    assert any("its task is not known" in note for note in found.notes) == (
        task is None
    )


# Settings


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({0: "a", 1: "b"}, ("a", "b")),
        ({1: "b", 0: "a"}, ("a", "b")),
        (["a", "b"], ("a", "b")),
        ({0: "a", 2: "b"}, None),
        ({1: "a"}, None),
        ({"0": "a"}, None),
        ({0: 5}, None),
        ([], None),
    ],
)
def test_class_names(read, value, names):
    found = read(whole(names=plain(value)))
    assert found.names == names
    assert any("class names" in note for note in found.notes) == (names is None)


@pytest.mark.parametrize(
    ("piece", "strides"),
    [
        (plain([8, 16.0]), (8.0, 16.0)),
        (plain([8, 0]), None),
        (plain([8, float("inf")]), None),
        (plain(["8"]), None),
        (plain(8), None),
        (plain([8] * 17), None),
        (FOUR, None),  # zeros
    ],
)
def test_strides(read, piece, strides):
    assert read(whole(stride=piece)).strides == strides


def test_arguments_in_a_namespace(read):
    space = named("types", "SimpleNamespace") + b")\x81" + plain({"imgsz": 32}) + b"b"
    assert read(whole(train_args=space)).train_args == {"imgsz": 32}


def test_arguments_are_copied_as_plain_values(read):
    path = called(named("pathlib", "PosixPath"), text("runs"))
    piece = mapped({"a": path, "b": FOUR, "c": group(integer(1), listed(b"\x88"))})
    assert read(whole(train_args=piece)).train_args == {
        "a": "<pathlib.PosixPath>",
        "b": "<ndarray>",
        "c": (1, [True]),
    }


def test_unknown_classes_are_noted_with_their_number(read):
    made = named("other.package", "Thing") + b")\x81"
    found = read(whole(train_args=mapped({"a": listed(made, made), "b": made})))
    assert found.notes == ("other.package.Thing (3): not known",)


def test_many_unknown_classes_give_a_short_list(read):
    made = [named("a", f"B{i}") + b")\x81" for i in range(100)]
    found = read(whole(train_args=mapped({"a": listed(*made)})))
    assert len(found.notes) == published.MAX_NOTES + 1
    assert found.notes[-1] == "and 80 more unknown classes"


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "good.pt"
    path.write_bytes(GOOD)
    root = torch_file.read_checkpoint(path)
    with pytest.raises(ValueError, match=r"^some\.pt: holds no weights"):
        published.read({**root, "model": None}, Path("some.pt"))
