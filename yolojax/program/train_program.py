"""The one place where a training program is put together.

Network, schedule, optimiser, state, shapes of batches and devices meet here, first as
shapes only, then as arrays. Whoever needs the training step (training, the benchmark,
the prediction of memory, the choice of a batch size) asks here for the same `Program`,
so that all of them speak of the same compiled program.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from yolojax import optim
from yolojax.assembly import data, network
from yolojax.assembly.network import Network
from yolojax.assembly.optimizer import make_optimizer, run_schedule
from yolojax.data.batches import input_size
from yolojax.data.batches.labelled import TrainBatches
from yolojax.devices import mesh as devices
from yolojax.devices.groups import Groups, of_mesh
from yolojax.devices.images import ImageLayout, layout_of, put_images
from yolojax.optim import flat
from yolojax.program import feed
from yolojax.program.compiler import Compiler
from yolojax.program.dispatch import TrainDispatch
from yolojax.program.kept.shapes import variable_shapes
from yolojax.program.kept.steps import Traceable
from yolojax.program.step import (
    Hyper,
    TrainStep,
    initial_state,
    make_eval_step,
    make_scan_step,
    make_train_step,
)
from yolojax.tasks.detect import DetectionRules
from yolojax.types import Array, Batch, PyTree, TrainState
from yolojax.weights.freeze import frozen_paths

SCAN_STEPS = 8  # of one dispatch on an accelerator that holds the images


@dataclasses.dataclass(frozen=True)
class InputSizes:
    """The sizes of the network's input, pixels."""

    imgsz: int  # of the batches
    share: float  # how far others may differ from it (multi_scale); 0: there are none
    all: tuple[int, ...]  # ascending

    @property
    def several(self) -> bool:
        """Whether the size changes from step to step."""
        return len(self.all) > 1

    def at(self, seed: int, step: int) -> int | None:
        """Returns the input size of a step, None for that of its images."""
        if self.all == (self.imgsz,):
            return None
        return input_size.size_at(
            seed, step, imgsz=self.imgsz, share=self.share, sizes=self.all
        )

    def largest(self) -> int | None:
        """Returns the largest input size of any step, None for that of its images."""
        return None if self.all == (self.imgsz,) else self.all[-1]


@dataclasses.dataclass(frozen=True)
class Program:
    """What a training run computes; nothing here changes while it goes on.

    Only a timed run, whose number of epochs follows its pace, replaces the schedule.
    """

    net: Network
    schedule: optim.RunSchedule
    tx: Any  # clipping and optimiser
    mesh: Mesh
    frozen: frozenset[str]  # paths of parameters that stay as they are
    padded: bool  # batches may hold rows that are no examples
    sizes: InputSizes
    scan_steps: int  # of one dispatch
    seed: int
    variables: dict[str, PyTree]  # shapes of {"params", "batch_stats"}
    layouts: dict[str, flat.Layout]  # of parameters and of batch statistics
    images: ImageLayout | None = None  # if the devices hold the images
    ema_decay: float = optim.EMA_DECAY  # of the averaged weights
    make_step: Callable[..., TrainStep] = make_train_step

    @property
    def rows(self) -> int:
        """Rows of a batch on the devices, with those of padding that they need."""
        return self.net.groups.rows(self.schedule.batch, devices.shares(self.mesh))

    def size_at(self, step: int) -> int | None:
        """Returns the input size of a step, None for that of its images."""
        return self.sizes.at(self.seed, step)

    def on_one_device(self) -> "Program":
        """Returns the program of a single device, whose step computes the same."""
        groups = self.net.groups.on_one_device()
        return dataclasses.replace(
            self, net=dataclasses.replace(self.net, groups=groups)
        )

    def steps_at_once(self, position: int) -> int:
        """Returns how many steps a dispatch does from a batch of an epoch on."""
        whole = position % self.scan_steps == 0
        enough = position + self.scan_steps <= self.schedule.batches_per_epoch
        return self.scan_steps if whole and enough else 1

    def step(self, size: int | None = None, steps: int = 1) -> TrainStep:
        """Returns the training step as a function, to be jitted.

        Args:
            size: longer side of the input, pixels; None: that of the batch.
            steps: how many stacked batches it takes; 1: one that is not stacked.
        """
        one = self.make_step(
            self.net,
            self.tx,
            padded=self.padded,
            frozen=self.frozen,
            render=None if self.images is None else self.images.renderer(),
            size=size,
            ema_decay=self.ema_decay,
        )
        return one if steps == 1 else make_scan_step(one)

    def traceable(self, size: int | None = None, steps: int = 1) -> Traceable:
        """Returns the training step as it is compiled; arguments as of `step`."""
        return Traceable(
            self.step(size, steps),
            donated=(0,),
            # The state must come out as it went in, or the next call would not take it.
            out=NamedSharding(self.mesh, P()),
            matmul=self.net.policy.matmul,
        )

    def lowered(
        self,
        state: TrainState,
        batch: Batch,
        hyper: Hyper,
        pixels: Array = None,
        *,
        size: int | None = None,
        steps: int = 1,
    ) -> jax.stages.Lowered:
        """Returns the step, lowered for arrays or for shapes with shardings.

        Args:
            state: donated by whoever runs the program.
            batch: a batch, or several stacked ones.
            hyper: likewise.
            pixels: images in device memory, if batches hold plans.
            size: as of `step`.
            steps: as of `step`.
        """
        return self.traceable(size, steps).lower(state, batch, hyper, pixels)

    def initial_variables(self) -> dict[str, PyTree]:
        """Returns {"params", "batch_stats"} of a fresh network, on the host."""
        return network.initial_variables(self.net, self.seed, self.variables)

    def initial_state(self, variables: dict[str, PyTree]) -> TrainState:
        """Returns the state before the first step, given {"params", "batch_stats"}.

        It holds them packed, as the step takes and gives them.
        """
        return initial_state(
            {k: flat.packed(v, self.layouts[k]) for k, v in variables.items()},
            self.tx,
            seed=self.seed,
            num_losses=len(self.net.task.loss_names),
            # Not `accumulate`, which a longer run may raise: its state must fit here.
            accumulates=self.schedule.accumulate_nominal > 1,
            loss_scaling=self.net.policy.loss_scaling,
        )

    def random_state(self) -> TrainState:
        """Returns the state of a fresh network on the devices."""
        state = self.initial_state(self.initial_variables())
        return devices.replicate(state, self.mesh)

    def averaged(self, state: TrainState) -> PyTree:
        """Returns the averaged {"params", "batch_stats"} of a state on the devices.

        By way of the host: there the trees are views, and nothing is compiled.
        """
        average = flat.unpacked(jax.device_get(state.ema))
        return devices.replicate(average, self.mesh)

    def shapes(
        self, like: dict[str, Any], steps: int = 1
    ) -> tuple[TrainState, Batch, Hyper, Any]:
        """Returns what a step takes as shapes with shardings; nothing is allocated.

        Args:
            like: a host batch; only shapes and dtypes are read.
            steps: how many stacked batches it takes; 1: one that is not stacked.
        """
        state = jax.eval_shape(self.initial_state, self.variables)
        batch, hyper = self.like([like] * steps)
        pixels = None if self.images is None else self.images.abstract()
        everywhere = NamedSharding(self.mesh, P())
        return _abstract(state, everywhere), batch, hyper, pixels

    def like(self, host_batches: list[dict[str, Any]]) -> tuple[Batch, Hyper]:
        """Returns the shapes of what `feed.put` makes of one or several host batches.

        Args:
            host_batches: only shapes and dtypes are read.
        """
        steps, everywhere = len(host_batches), NamedSharding(self.mesh, P())
        hyper = _abstract(feed.hyper_at(self.schedule, 0), everywhere)
        fullest = host_batches[0]
        if steps > 1 and "valid" in fullest:  # the others are brought to its slots
            fullest = max(host_batches, key=lambda batch: batch["valid"].shape[1])
        batch = batch_shapes(fullest, self.mesh, self.rows)
        if steps > 1:
            hyper = _stacked(hyper, steps, everywhere)
            batch = _stacked(batch, steps, NamedSharding(self.mesh, P(None, "data")))
        return batch, hyper

    def lowered_shapes(self, batches: data.TrainingBatches) -> jax.stages.Lowered:
        """Returns the largest step of a run, lowered for shapes alone.

        Word for word a program that the run will use, so that a cache of compiled
        programs need not compile it again.

        Args:
            batches: of the run.
        """
        like = batches.like(max(batches.shapes(), key=np.prod))
        steps = self.steps_at_once(0)
        shapes = self.shapes(like, steps)
        return self.lowered(*shapes, size=self.sizes.largest(), steps=steps)

    def dispatch(self, compiler: Compiler, pixels: Array = None) -> TrainDispatch:
        """Returns the step that is compiled for what it is given.

        Args:
            compiler: makes and keeps the programs.
            pixels: images in device memory, if batches hold plans.
        """
        return TrainDispatch(self.traceable, compiler, pixels)


def make_program(
    config: Any,
    source: data.Source,
    mesh: Mesh,
    class_width: int | None = None,
    *,
    planned_epochs: int | None = None,
    image_memory: int | None = None,
) -> Program:
    """Returns the program that trains on a data set; computes and allocates nothing.

    Args:
        config: the run's settings, with a number as batch.
        source: training images.
        mesh: the devices, which may be described only.
        class_width: of the head's class branch, None for the usual one.
        planned_epochs: number of epochs of a timed run, None for that of the config.
        image_memory: bytes of each device that images may take; None: it is asked,
            which a described one cannot be.
    """
    classes = len(source.names)
    net = network.network(
        config,
        classes,
        network.class_weights(data.class_counts(source), config.cls_pw),
        class_width,
        network.keypoints_of(source),
        platform=mesh.devices.flat[0].platform,
    )
    groups = _groups(config, mesh)
    net = dataclasses.replace(net, groups=groups)
    shapes = variable_shapes(net.model)
    frozen = frozen_paths(shapes["params"], config.freeze)
    layouts = {
        "params": flat.layout_of(
            shapes["params"], frozen, outputs_first=net.platform in ("gpu", "cuda")
        ),
        "batch_stats": flat.layout_of(shapes["batch_stats"]),
    }
    params = flat.shapes_of(shapes["params"], layouts["params"])
    schedule = run_schedule(config, len(source), classes)
    if planned_epochs is not None:
        schedule = optim.with_epochs(schedule, planned_epochs, config.warmup_epochs)
    layout = None
    if config.cache == "device":
        sizes = data.cached_sizes(config, source)
        layout = layout_of(sizes, mesh, free=image_memory)
    return Program(
        net=net,
        schedule=schedule,
        tx=make_optimizer(config, schedule, params),
        mesh=mesh,
        frozen=frozen,
        padded=len(source) % config.batch != 0
        or groups.rows(config.batch, devices.shares(mesh)) != config.batch,
        sizes=InputSizes(
            config.imgsz,
            config.multi_scale,
            input_size.sizes(
                config.imgsz, config.multi_scale, config.multi_scale_sizes
            ),
        ),
        scan_steps=_scan_steps(config, mesh),
        seed=config.seed,
        variables=shapes,
        layouts=layouts,
        images=layout,
        ema_decay=config.ema_decay,
    )


def _groups(config: Any, mesh: Mesh) -> Groups:
    """Returns the groups that the rows of a batch make on these devices."""
    # Dropout draws for the whole batch, which a device cannot do for its rows alone.
    mixes = config.dropout > 0
    return of_mesh(config.bn_groups, config.batch, mesh, mixes=mixes)


def stored_images(
    program: Program, batches: data.TrainingBatches, threads: int
) -> jax.Array | None:
    """Returns the images of the batches in device memory, if they are to lie there."""
    if program.images is None or not isinstance(batches, TrainBatches):
        return None
    return put_images(batches.images, program.images, threads=threads)


def evaluation(net: Network, rules: DetectionRules) -> Callable[[Batch], Traceable]:
    """Returns the function batch -> the evaluation step as it is compiled.

    Args:
        net: the network.
        rules: how raw predictions become detections.
    """
    step = make_eval_step(net, rules)

    def traceable(batch: Batch) -> Traceable:
        sharding = getattr(batch.example_valid, "sharding", None)
        out = None
        if isinstance(sharding, NamedSharding) and sharding.mesh.is_multi_process:
            # Every process reads what was found by all of them.
            out = NamedSharding(sharding.mesh, P())
        return Traceable(step, out=out, matmul=net.policy.matmul)

    return traceable


def batch_shapes(like: dict[str, Any], mesh: Mesh, rows: int | None = None) -> Batch:
    """Returns the shapes of a host batch as a batch that the devices share.

    Args:
        like: a host batch; only shapes and dtypes are read.
        mesh: the devices.
        rows: of the batch on the devices, as of `devices.put_batch`.
    """
    fields = {name: like.get(name) for name in Batch.__dataclass_fields__}
    rows = rows or devices.rows_over(len(like["example_valid"]), devices.shares(mesh))
    shapes = {k: _abstract(v, devices.split(k, mesh)) for k, v in fields.items()}
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (rows, *leaf.shape[1:]), leaf.dtype, sharding=leaf.sharding
        ),
        Batch(**shapes),
    )


def _abstract(tree: PyTree, sharding: NamedSharding) -> PyTree:
    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        dtype = leaf.dtype
        if not jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
            dtype = jax.dtypes.canonicalize_dtype(dtype)
        return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=sharding)

    return jax.tree.map(shape, tree)


def _stacked(tree: PyTree, count: int, sharding: NamedSharding) -> PyTree:
    """Returns the shapes of so many trees along a new first axis."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (count, *leaf.shape), leaf.dtype, sharding=sharding
        ),
        tree,
    )


def _scan_steps(config: Any, mesh: Mesh) -> int:
    """Returns how many steps one dispatch does."""
    if config.cache != "device" or config.multi_scale:
        return 1  # the host renders meanwhile, or sizes differ from step to step
    if config.scan_steps is not None:
        return config.scan_steps
    return 1 if mesh.devices.flat[0].platform == "cpu" else SCAN_STEPS
