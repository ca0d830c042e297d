"""Weights of other networks: names, layouts, transfer, files, freezing."""

import functools
import gzip
import json
import logging

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from places import GOLDEN

from yolojax import models
from yolojax.models import heads
from yolojax.weights import freeze, names, sources, transfer
from yolojax.weights.sources import Weights
from yolojax.weights.torch import published

PETS = ("cat", "dog", "bird")


@functools.cache
def variables(classes=3, seed=0, width=None, model="yolo11n"):
    """Returns fresh variables of a detection network."""
    head = functools.partial(heads.Detect, classes, width)
    net = models.build(model, head, dtype=jnp.float32, remat=False)
    biases = heads.initial_biases(classes)
    return models.initial_variables(net, biases=biases, seed=seed)


def weights_of(tree, class_names=PETS, **changes):
    values = {"source": "file", "leaves": names.flatten(tree), "names": class_names}
    values |= {"imgsz": 320, "licence": None, "skipped": {}}
    return Weights(**values | changes)


def is_class_row(path):
    return path.startswith("params/model_23/cv3_") and "_2/" in path


# Names and layouts


@pytest.mark.parametrize(
    "name",
    ["model.0.conv.weight", "model.23.proto.upsample.weight", "model.10.linear.weight"],
)
def test_layouts_round_trip(name):
    axes = 2 if "linear" in name else 4
    tensor = np.arange(120.0).reshape((4, 30) if axes == 2 else (2, 3, 4, 5))
    leaf = names.from_published(name, tensor)
    np.testing.assert_array_equal(names.to_published(name, leaf), tensor)
    # The published output channel comes last here, the input channel before it.
    published_io = (1, 0) if "upsample" not in name else (0, 1)
    assert leaf.shape[-2:] == tuple(tensor.shape[axis] for axis in published_io)


# Transfer


def test_all_weights_of_the_same_network_are_taken():
    given, target = variables(seed=1), variables(seed=2)
    tree, report = transfer.transfer(target, weights_of(given), PETS)
    jax.tree.map(np.testing.assert_array_equal, tree, given)
    assert len(report.taken) == len(jax.tree.leaves(given))
    assert report.missing == {} and "499" not in report.summary()
    count = len(report.taken)
    assert report.summary() == f"file: {count} of {count} tensors taken"


def test_another_class_count_keeps_its_random_rows_and_says_so():
    given, target = variables(5, seed=1), variables(3, seed=2)
    tree, report = transfer.transfer(target, weights_of(given, None), PETS)
    new, old, fresh = map(names.flatten, (tree, given, target))
    for path, leaf in new.items():
        want = fresh if is_class_row(path) else old
        np.testing.assert_array_equal(leaf, want[path], err_msg=path)
    assert len(report.missing) == 6  # kernel and bias of three levels
    why = report.missing["model.23.cv3.0.2.weight"]
    assert why == "(1, 1, 64, 5) there, (1, 1, 64, 3) here"
    assert report.skipped == report.partly == {}
    assert "; new: model.23.cv3.0.2.bias ((5,) there, (3,) here)" in report.summary()
    assert report.summary().endswith(" and 3 more")
    assert f"missing  model.23.cv3.0.2.weight: {why}\n" in report.listing()
    assert "taken    model.0.conv.weight\n" in report.listing()


def test_class_rows_go_by_name():
    there = ("Bus", "  cat", "dog", "cat")  # of two that match the first counts
    given, target = variables(4, seed=1), variables(3, seed=2)
    tree, report = transfer.transfer(target, weights_of(given, there), PETS)
    new, old, fresh = map(names.flatten, (tree, given, target))
    for path in filter(is_class_row, new):
        for row, source in enumerate([1, 2, None]):
            want = fresh[path][..., row] if source is None else old[path][..., source]
            np.testing.assert_array_equal(new[path][..., row], want)
    assert report.partly["model.23.cv3.2.2.bias"] == "2 of 3 classes taken by name"


def test_the_same_names_in_another_order_are_sorted_out():
    given, target = variables(3, seed=1), variables(3, seed=2)
    tree, report = transfer.transfer(target, weights_of(given, PETS[::-1]), PETS)
    path = "params/model_23/cv3_0_2/kernel"
    new, old = names.flatten(tree)[path], names.flatten(given)[path]
    np.testing.assert_array_equal(new, old[..., ::-1])
    assert report.missing == {}


def test_rows_of_classes_that_mean_something_else_are_not_taken():
    given, target = variables(3, seed=1), variables(3, seed=2)
    cells = ("RBC", "WBC", "platelets")
    tree, report = transfer.transfer(target, weights_of(given, cells), PETS)
    new, fresh = names.flatten(tree), names.flatten(target)
    for path in filter(is_class_row, new):
        np.testing.assert_array_equal(new[path], fresh[path])
    assert "no class here has the name" in report.missing["model.23.cv3.0.2.weight"]


@pytest.mark.parametrize("there", [("0", "1", "2"), None])
def test_numbers_are_no_names(there):
    given, target = variables(3, seed=1), variables(3, seed=2)
    tree, report = transfer.transfer(target, weights_of(given, there), PETS)
    jax.tree.map(np.testing.assert_array_equal, tree, given)
    assert report.missing == {}


def test_another_number_of_input_channels_takes_the_common_ones():
    target = variables(3, seed=2)
    leaves = names.flatten(variables(3, seed=1))
    path = "params/model_0/conv/kernel"
    leaves[path] = leaves[path][:, :, :1]
    given = weights_of({}, leaves=leaves)
    tree, report = transfer.transfer(target, given, PETS)
    kernel = names.flatten(tree)[path]
    np.testing.assert_array_equal(kernel[:, :, :1], leaves[path])
    np.testing.assert_array_equal(
        kernel[:, :, 1:], names.flatten(target)[path][:, :, 1:]
    )
    assert report.partly == {"model.0.conv.weight": "1 of 3 input channels taken"}


def test_what_the_network_does_not_have_is_listed():
    leaves = names.flatten(variables(3, seed=1))
    leaves["params/model_23/cv4_0_0/conv/kernel"] = np.zeros((3, 3, 4, 4), np.float32)
    del leaves["batch_stats/model_1/bn/var"]
    given = weights_of({}, leaves=leaves, skipped={"x.num_batches_tracked": "counter"})
    _, report = transfer.transfer(variables(3, seed=2), given, PETS)
    assert report.skipped == {
        "model.23.cv4.0.0.conv.weight": "not in this network",
        "x.num_batches_tracked": "counter",
    }
    assert report.missing == {"model.1.bn.running_var": "not in the file"}


def test_the_class_branch_has_the_width_it_was_trained_with():
    given = weights_of(variables(80, seed=1), tuple(map(str, range(80))))
    assert transfer.class_width(given) == 80
    narrow, wide = variables(3, seed=2), variables(3, seed=2, width=80)
    _, few = transfer.transfer(narrow, given, PETS)
    _, many = transfer.transfer(wide, given, PETS)
    assert len(many.missing) == 6 < len(few.missing)
    assert transfer.same_head_inputs(wide, given)
    larger = weights_of(variables(3, model="yolo11s"))
    assert not transfer.same_head_inputs(wide, larger)
    assert transfer.class_width(None) is None


def test_fitting_demands_every_tensor():
    tree = variables(3, seed=1)
    shapes = jax.eval_shape(lambda: tree)
    found, report = transfer.fit(shapes, weights_of(tree))
    jax.tree.map(np.testing.assert_array_equal, found, tree)
    assert len(report.taken) == len(jax.tree.leaves(tree))
    leaves = names.flatten(tree)
    del leaves["params/model_0/bn/bias"]
    with pytest.raises(ValueError, match=r"1 tensors differ.*0\.bn\.bias is missing"):
        transfer.fit(shapes, weights_of({}, leaves=leaves))


# Files


def write(path, tree, **changes):
    said = {"source": "", "skipped": {}, "names": PETS, "imgsz": 320, "licence": None}
    given = Weights(leaves=names.flatten(tree), **said | changes)
    return sources.write_safetensors(path, given, task="detect", model="yolo11n")


def test_safetensors_round_trip_is_exact(tmp_path):
    tree, path = variables(80, seed=1), tmp_path / "a.safetensors"
    class_names = tuple(f"class {i}" for i in range(80))
    count = write(path, tree, names=class_names, licence="AGPL-3.0", batch=7)
    found = sources.read_weights(path)
    assert found.batch == 7  # --mode val pads its batches as the run did
    assert (found.names, found.imgsz, found.licence) == (class_names, 320, "AGPL-3.0")
    want = names.flatten(tree)
    assert found.leaves.keys() == want.keys()
    for name, leaf in want.items():
        assert found.leaves[name].tobytes() == leaf.tobytes(), name
    stored = json.loads(gzip.decompress((GOLDEN / "state_dicts.json.gz").read_bytes()))
    raw = safetensors.numpy.load_file(path)
    # Everything that a published file holds, in its shapes.
    assert {n: list(t.shape) for n, t in raw.items()} == stored["n"]["detect"]
    assert count == 499
    assert raw["model.23.dfl.conv.weight"].ravel().tolist() == list(range(16))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    tensor = np.linspace(-2, 2, 54).reshape(2, 3, 3, 3).astype(dtype)
    safetensors.numpy.save_file({"model.0.conv.weight": tensor}, path)
    leaf = sources.read_weights(path).leaves["params/model_0/conv/kernel"]
    assert leaf.dtype == np.float32 and leaf.flags.c_contiguous
    want = tensor.transpose(2, 3, 1, 0).astype(np.float32)
    np.testing.assert_array_equal(leaf, want)


@pytest.mark.parametrize(
    ("metadata", "want"),
    [
        ({}, None),
        ({"names": '["a", "b"]'}, ("a", "b")),
        ({"names": '{"0": "a", "1": "b"}'}, ("a", "b")),
        ({"names": '{"0": "a", "2": "b"}'}, None),
        ({"names": "a, b"}, None),
        ({"names": "[" * 5000}, None),
        ({"names": "[1, 2]"}, None),
    ],
)
def test_class_names_of_a_header(tmp_path, metadata, want):
    path = tmp_path / "a.safetensors"
    tensors = {"model.0.bn.bias": np.zeros(2, np.float32)}
    safetensors.numpy.save_file(tensors, path, metadata)
    assert sources.read_weights(path).names == want


@pytest.mark.parametrize("count", [2, 4])
def test_names_that_do_not_fit_the_outputs_are_not_used(tmp_path, caplog, count):
    path = tmp_path / "a.safetensors"
    write(path, variables(3), names=PETS[:1] * count)
    with caplog.at_level(logging.WARNING, "yolojax"):
        assert sources.read_weights(path).names is None
    assert f"names {count} classes, but its outputs tell 3 apart" in caplog.text


@pytest.mark.parametrize("size", ["0", "\u00b2", "-1", "9" * 5000, "", "64.5"])
def test_a_size_that_is_none_is_left_out(tmp_path, size):
    path = tmp_path / "a.safetensors"
    tensors = {"model.0.bn.bias": np.zeros(2, np.float32)}
    safetensors.numpy.save_file(tensors, path, {"imgsz": size, "batch": size})
    found = sources.read_weights(path)
    assert found.imgsz is None and found.batch is None


def test_texts_of_a_file_cannot_pretend_to_be_ours(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"model.0.bn.bias": np.zeros(2, np.float32)}
    tensors["a\nb.bias"] = tensors["model.0.bn.bias"]
    tensors["weight"] = np.zeros((2, 2, 1, 1), np.float32)  # of a single layer
    metadata = {"license": "x\x1b[31m\nerror: y", "names": json.dumps(["a\a", "b"])}
    safetensors.numpy.save_file(tensors, path, metadata)
    found = sources.read_weights(path)
    assert found.licence == "x?[31m?error: y"
    assert found.names == ("a?", "b")
    assert "a?b.bias" in found.skipped


def test_unusable_files_are_explained(tmp_path):
    def refused(path):
        with pytest.raises(ValueError) as caught:
            sources.read_weights(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "no such file or folder" in refused(tmp_path / "none.pt")
    (tmp_path / "a.onnx").write_bytes(b"x")
    assert "ends in .pt, .pth or .safetensors" in refused(tmp_path / "a.onnx")
    (tmp_path / "empty").mkdir()
    assert "holds no checkpoint" in refused(tmp_path / "empty")
    whole = tmp_path / "whole.safetensors"
    write(whole, variables(3))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1])
    assert "not a usable safetensors file" in refused(cut)
    cut.write_bytes(whole.read_bytes()[:100])
    assert "not a usable safetensors file" in refused(cut)
    cut.write_bytes(b"")
    assert "not a usable safetensors file" in refused(cut)
    tensors = {"other": np.zeros(3, np.float32)}
    safetensors.numpy.save_file(tensors, cut)
    assert "holds no weights" in refused(cut)
    safetensors.numpy.save_file({"model.0.bn.weight": np.array([np.nan])}, cut)
    assert "model.0.bn.weight holds values that are not finite" in refused(cut)
    bins = np.arange(1, 17, dtype=np.float32).reshape(1, 16, 1, 1)
    safetensors.numpy.save_file({"model.23.dfl.conv.weight": bins}, cut)
    assert "is not 0, 1, ... 15" in refused(cut)
    safetensors.numpy.save_file(
        {"a_0.bn.bias": np.zeros(1), "a.0.bn.bias": np.zeros(1)}, cut
    )
    assert "a.0.bn.bias twice" in refused(cut) or "a_0.bn.bias twice" in refused(cut)


def test_the_modules_of_a_file_must_compute_the_same(tmp_path, monkeypatch, caplog):
    tensors = {"model.0.bn.weight": np.ones(2, np.float32)}

    def load(**changes):
        values = {"tensors": tensors, "norms": {}, "activations": {}, "names": None}
        values |= {"architecture": {}, "strides": None, "task": "detect"}
        values |= {"train_args": {}, "licence": None, "notes": ()}
        values |= {"date": None, "version": None}
        found = published.Published(**values | changes)
        monkeypatch.setattr(sources.torch_file, "read_checkpoint", lambda path: None)
        monkeypatch.setattr(published, "read", lambda root, path: found)
        (tmp_path / "a.pt").touch()
        return sources.read_weights(tmp_path / "a.pt")

    assert load(norms={"model.0.bn": (0.001, 0.03)}).leaves
    assert load(norms={"model.0.bn": (1e-5, 0.1)}, task="classify").leaves
    with pytest.raises(ValueError, match=r"model\.0\.bn has epsilon 1e-05.*0\.001"):
        load(norms={"model.0.bn": (1e-5, 0.03)})
    with caplog.at_level(logging.WARNING, "yolojax"):
        load(norms={"model.0.bn": (1e-3, 0.1)})
    assert "model.0.bn has momentum 0.1; training here goes on with 0.03" in caplog.text
    right = {"model.9.cv1": "SiLU", "model.10.m.0.attn.qkv": "Identity"}
    assert load(activations=right).leaves
    with pytest.raises(ValueError, match=r"model\.9\.cv1 ends with Identity"):
        load(activations={"model.9.cv1": "Identity"})
    assert load(train_args={"imgsz": 640}).imgsz == 640
    assert load(train_args={"imgsz": [640, 480]}).imgsz is None


# Freezing


def frozen(what):
    params = variables(3)["params"]
    return freeze.frozen_paths(params, what)


def test_freezing_counts_layers_or_names_them():
    all_paths = names.flatten({"params": variables(3)["params"]})
    whole = {path.removeprefix("params/") for path in all_paths}
    assert frozen(None) == frozen(0) == frozenset()
    assert frozen(1) == {f"model_0/{x}" for x in ("conv/kernel", "bn/scale", "bn/bias")}
    first = {p for p in whole if int(p.split("/")[0].removeprefix("model_")) < 10}
    assert frozen(10) == first
    assert frozen(23) == {p for p in whole if not p.startswith("model_23/")}
    assert frozen((0, 1)) == frozen(2)
    branch = {p for p in whole if p.startswith("model_23/cv2_")}
    assert frozen(("23.cv2",)) == frozen("model.23.cv2") == frozen("23.cv2.") == branch
    assert frozen(("23.cv2", 0)) == branch | frozen(1)
    assert frozen("2") == frozen((2,)) and not any("model_23" in p for p in frozen("2"))
    assert frozen((11,)) == frozenset()  # upsampling: nothing to freeze, but a layer


@pytest.mark.parametrize("what", [25, (24,), "24", "23.cv9", (0, "head"), (99,)])
def test_freezing_what_is_not_there(what):
    with pytest.raises(ValueError, match=r"config\.freeze = .* is not there.*23"):
        frozen(what)


@pytest.mark.parametrize("what", [24, tuple(range(24))])
def test_freezing_everything(what):
    with pytest.raises(ValueError, match="nothing is left to train"):
        frozen(what)
