"""What is seen of a setting: programs, batches, the schedule, what a command leaves.

Each observation takes checked settings and returns something that can be compared. How
the package is asked stands here alone.
"""

import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import queue
from unittest import mock

import buckets
import exports
import forked_runs
import jax
import numpy as np
import onnx
import safetensors.numpy
import study_files

from yolojax import config as config_lib
from yolojax import models, optim
from yolojax.assembly import data as loading
from yolojax.assembly import network as build
from yolojax.assembly.export import export_of
from yolojax.assembly.export import export_options as options_of
from yolojax.assembly.optimizer import run_schedule
from yolojax.assembly.weights import given_weights
from yolojax.commands import (
    check,
    evaluate,
    export,
    plan,
    search,
    study,
    train,
)
from yolojax.commands.afterwards import replay, report
from yolojax.data.batches import prefetch
from yolojax.devices import hosts, meeting
from yolojax.devices import mesh as sharding
from yolojax.export import EXPORTERS
from yolojax.models.blocks import Pass
from yolojax.program import start
from yolojax.program.train_program import (
    batch_shapes,
    evaluation,
    make_program,
)
from yolojax.speed import many, record
from yolojax.training import preemption
from yolojax.training.stop import StopRequest

SMALL = forked_runs.TINY | {
    "model": "tiny_model:build",  # for every task
    "nbs": 4,
    "optimizer": "sgd",
    "warmup_epochs": 1.0,
    "device": "cpu:1",
    "compile_cache": "off",
}


def settings(place, task, values):
    """Returns settings of a small run, not checked.

    Args:
        place: folder in which data sets are drawn when they are first asked for.
        task: of which there is a data set.
        values: other settings.
    """
    data = place / forked_runs.CONFIGS[task][1]
    if not data.exists():
        forked_runs.write_data(place, task)
    config = config_lib.default(task)
    config.update({k: v for k, v in SMALL.items() if "mosaic" not in k})
    if task == "classify":
        config.update(auto_augment="none", erasing=0.0)
    else:
        config.update(mosaic=0.0, close_mosaic=1)
    config.update({"data": str(data)} | values)
    return config


# Programs


def step_text(config):
    """Returns the training step as it is handed to the compiler."""
    lowered = _program(config).lowered_shapes(_batches(config))
    return _hash(lowered.as_text().encode())


def eval_text(config):
    """Returns the evaluation step as it is handed to the compiler."""
    net = _network(config)
    batch = batch_shapes(val_rows(config)[0], _mesh(config))
    step = evaluation(net, build.detection_rules(config, 0))(batch)
    lowered = step.lower(models.variable_shapes(net.model), batch)
    return _hash(lowered.as_text().encode())


def network_text(config):
    """Returns what the network computes for training, and its parameters."""
    net = _network(config)
    shapes = models.variable_shapes(net.model)
    image = jax.ShapeDtypeStruct((2, 64, 64, 3), np.float32)

    def train(variables, image):
        mode = Pass(train=True)
        return net.model.apply(variables, image, mode=mode, mutable=["batch_stats"])

    return str(jax.make_jaxpr(train)(shapes, image))


def first_weights(config):
    """Returns a hash of the weights that a run begins with."""
    return _digest(build.initial_variables(_network(config), config.seed))


# Data


def train_rows(config):
    """Returns the first batch, one of the last epoch, and the order of all images."""
    batches = _batches(config)
    last = len(batches) - batches.batches_per_epoch
    order = [batches.indices(step) for step in range(len(batches))]
    return _digest([batches[0], batches[last]]), order


def val_rows(config):
    """Returns the validation batches."""
    source = _source(config, "val")
    batches = loading.eval_batches(config, source)
    return [batches[step] for step in range(len(batches))]


def val_digest(config):
    """Returns a hash of the validation batches."""
    return _digest(val_rows(config))


def decoded_again(config):
    """Returns how often pictures are decoded when they are read a second time."""
    kind = type(_source(config))
    with mock.patch.object(kind, "load", autospec=True, side_effect=kind.load) as load:
        images = _batches(config).images
        images.image(0)
        before = load.call_count
        images.image(0)
    return load.call_count - before


def loader_processes(config):
    """Returns how many processes make batches."""
    with mock.patch.object(prefetch, "prefetched") as load:
        loading.loader(_batches(config), config, start_step=0)
    return load.call_args.kwargs["workers"]


# The run


def schedule(config):
    """Returns the schedule of every iteration, and which of them update."""
    source = _source(config)
    plan = run_schedule(config, len(source), len(source.names))
    return [
        (str(optim.rates_at(plan, i)), optim.is_update(plan, i))
        for i in range(plan.total_iterations)
    ]


def steps_of_a_dispatch(config):
    """Returns how many steps one dispatch does."""
    return _program(config).scan_steps


def class_branch(config, folder):
    """Returns how wide the class branch is with weights of more classes."""
    del folder
    weights = exports.weights_by_rule("detect")
    config = config_lib.changed(config, model="yolo11n")
    return build.width_for(config, 1, weights, None)


def devices(config):
    """Returns how many devices share a batch."""
    return _mesh(config).size


def set_up(config, folder):
    """Returns what is asked of JAX before anything is computed."""
    with contextlib.chdir(folder), mock.patch.object(jax.config, "update") as update:
        start.set_up_jax(config)
    return update.call_args_list


def met(config, folder):
    """Returns how the processes of a run would meet, None if it is one process."""
    with mock.patch.object(meeting, "meet", side_effect=ValueError) as meet:
        with contextlib.suppress(ValueError):
            hosts.join(config, "train")
    return meet.call_args and (meet.call_args.args[0], meet.call_args.args[2])


def download(config):
    """Returns why published weights cannot be had from where nobody answers."""
    try:
        return str(
            given_weights(config_lib.changed(config, weights="no.pt"), "weights")
        )
    except ValueError as error:
        return str(error)


def checked(config, folder):
    """Returns what `--mode check` leaves, by path."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        check.run(config, None)
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def reported(config, folder):
    """Returns why `--mode report` leaves nothing."""
    try:
        report.run(config, None)
    except ValueError as error:
        return str(error)
    raise AssertionError("a page of nothing was written")


def studied(config, folder):
    """Returns what `--mode study` asks for when it is about to start its runs."""

    def make(name, jobs, device):
        raise ValueError(f"{name}, {jobs} at once")

    if config.study:
        study_files.write_data(folder / "data")
        study_files.write_study(folder, settings="{'data': 'data/data.yaml'}")
        config = config_lib.changed(config, study=str(folder))
    try:
        study.run(config, folder / "runs", make)
    except ValueError as error:
        return str(error)
    return "nothing is started"


def planned(config, folder):
    """Returns what `--mode plan` tells of costs, or why it tells nothing."""
    try:
        plan.run(config, folder, lambda platform: True, lambda *given: 100.0)
    except ValueError as error:
        return str(error)
    told = json.loads((folder / "plan" / "plan.json").read_text())
    return [device["cost"] is None for device in told["devices"]]


def searched(config, folder):
    """Returns why `--mode search` finds nothing."""
    try:
        search.run(config, folder / "runs")
    except ValueError as error:
        return str(error)
    raise AssertionError("something was searched")


def networks(config, folder):
    """Returns the networks of the table that `--mode benchmark` makes."""
    del folder
    config = config_lib.changed(config, data="shapes")  # a table draws its own
    return [(one.task, one.model) for one in many.asked(config)]


def compared(config, folder):
    """Returns why there is nothing to compare a table with."""
    del folder
    try:
        return config.against and record.read(config.against)
    except ValueError as error:
        return str(error)


def exported(config, folder):
    """Returns what `--mode export` leaves, or why it leaves nothing."""
    try:
        with contextlib.chdir(folder):
            export.run(config, None)
    except ValueError as error:
        return str(error)
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def export_options(config, folder):
    """Returns what the writers of exported files are asked for."""
    del folder
    return options_of(config)


def onnx_file(config, folder):
    """Returns what `--mode export` writes into ONNX, without the constants."""
    weights = exports.weights_by_rule("detect")
    config = config_lib.changed(config, format="onnx", model="yolo11n", imgsz=64)
    path = folder / "network.onnx"
    EXPORTERS["onnx"].write(path, export_of(config, weights))
    model = onnx.load(path)
    graph = model.graph
    return [str(x) for x in (*graph.input, *graph.output, *model.opset_import)]


@functools.cache
def run_of(place, mode, values):
    """Returns the folder of a command's run, and what it printed.

    In training every epoch is worse than the one before, as early stopping sees it.

    Args:
        place: folder of data sets and runs.
        mode: "train", or "val" or "replay" of the usual training run.
        values: settings as pairs.
    """
    name = hashlib.sha256(repr((mode, values)).encode()).hexdigest()[:8]
    first = {"fraction": (8, 1.0)} | ({"step": 0} if mode == "replay" else {})
    config = settings(place, "detect", first | dict(values))
    config = config_lib.check(config, mode)
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        _worse_and_worse(),
        forked_runs.steps_kept(),
    ):
        if mode == "train":
            train.run(config, place / name)
            return place / name, printed.getvalue()
        usual, _ = run_of(place, "train", ())
        if mode == "replay":
            replay.run(config_lib.changed(config, runs=str(usual)), place / name)
            return place / name, printed.getvalue()
        config = config_lib.changed(config, weights=str(usual))
        evaluate.run(config, place / name)
        return place / name, printed.getvalue()


@contextlib.contextmanager
def _worse_and_worse():
    rule = optim.stopper_update

    def told(state, fitness, epoch, patience):
        return rule(state, None if fitness is None else 1 / epoch, epoch, patience)

    with mock.patch.object(optim, "stopper_update", told):
        yield


# What a run leaves


def states_kept(run):
    """Returns how many states there are to go on from."""
    return len(list((run[0] / "checkpoints" / "last").iterdir()))


def replayed(run):
    """Returns what replaying a step printed, and the files that it wrote."""
    folder, printed = run
    return printed, sorted(path.name for path in folder.iterdir())


def saves(run):
    """Returns how many times the state was saved."""
    folder, _ = run
    return max(int(p.name) for p in (folder / "checkpoints" / "last").iterdir())


def kept_epochs(run):
    """Returns the epochs whose weights are kept."""
    return sorted(os.listdir(run[0] / "checkpoints" / "epochs"))


def notices_asked(config, folder):
    """Returns the first address at which a training run asks for notices, if any."""
    asked = queue.SimpleQueue()

    def ask(url, *_, **__):
        asked.put(url)
        raise OSError("nobody is there")

    with (
        mock.patch.object(preemption, "_asked", ask),
        preemption.watching(config, StopRequest()),
        contextlib.suppress(queue.Empty),
    ):
        return asked.get(timeout=5 if config.preemption_notices else 0.01)
    return None


def mirrored(config, folder):
    """Returns whether a run goes on while its bucket fails."""
    bucket = buckets.Bucket()
    with mock.patch.dict(os.environ, {"YOLOJAX_CACHE": str(folder)}):
        mirror = buckets.mirror_of(bucket, grace=60 * config.mirror_grace)
    buckets.write_save(mirror.folder, 1)
    mirror.saved(1)
    bucket.error = OSError("away")
    mirror.turn()
    return mirror.broken is None


def epochs_done(run):
    """Returns the number of epochs in results.csv."""
    return len(_table(run))


def first_validation(run):
    """Returns what results.csv says of the first epoch's validation."""
    return _table(run)[0]["val/box_loss"]


def first_news(run):
    """Returns the first batch after which losses are shown."""
    return next(line for line in run[1].splitlines() if " img/s" in line).split("/")[1]


def has(name):
    """Returns an observation: whether a run leaves a file or a folder of a name."""

    def observe(run):
        return name in {p.name for p in run[0].rglob("*")}

    return observe


def usual_run(place):
    """Returns the folder of the training run with the usual settings."""
    return str(run_of(place, "train", ())[0])


def little_weights(place):
    """Returns a file of weights of which only one tensor fits the network."""
    path = place / "little.safetensors"
    kernel = {"model.0.conv.weight": np.ones((8, 3, 3, 3), np.float32)}
    path.write_bytes(safetensors.numpy.save(kernel))
    return str(path)


def other_data(place):
    """Returns the folder of another data set with labelled objects."""
    return settings(place, "segment", {}).data


def _table(run):
    with open(run[0] / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def _source(config, split="train"):
    return loading.open_split(config, split)


def _mesh(config):
    return sharding.make_mesh(config.device, config.batch, config.spatial)


def _program(config):
    return make_program(config, _source(config), _mesh(config))


def _network(config):
    source = _source(config)
    keypoints = build.keypoints_of(source)
    return build.network(config, len(source.names), None, None, keypoints)


def _batches(config):
    return loading.train_batches(config, _source(config))


def _hash(data):
    return hashlib.sha256(data).hexdigest()


def _digest(batches):
    """Returns shapes, and a hash of all values."""
    leaves = jax.tree.leaves(batches)
    data = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in leaves)
    return [np.shape(leaf) for leaf in leaves], _hash(data)
