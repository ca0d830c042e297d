"""A run rebuilt from its folder: its program, its batches, and its state at any step.

Batches are a function of the step. The state before a step is that of the nearest kept
one before it, or of the start, trained on with the run's own program. Nothing is
written.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from yolojax.assembly import data as loading
from yolojax.assembly.weights import given_weights
from yolojax.config import changed
from yolojax.data.store.host_cores import usable_cores
from yolojax.devices import mesh as devices
from yolojax.optim import flat
from yolojax.program import batch_size, feed
from yolojax.program.compiler import Compiler
from yolojax.program.dispatch import TrainDispatch
from yolojax.program.step import Logs
from yolojax.program.train_program import Program, make_program, stored_images
from yolojax.runs import checkpoint
from yolojax.runs.journal import RunRecord
from yolojax.training.run import data_identity, weights_hash
from yolojax.types import PyTree, TrainState
from yolojax.weights import transfer

log = logging.getLogger("yolojax")

NEWS = 50  # steps after which is said how far training again has come


class Kept(NamedTuple):
    """A state in the folder of a run."""

    path: Path
    record: RunRecord


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """A run that is there, as far as steps of it need it."""

    folder: Path
    config: Any  # its settings, with a number as batch
    program: Program
    source: loading.Source  # training images
    batches: loading.TrainingBatches
    kept: tuple[Kept, ...]  # states, the newest first
    dispatch: TrainDispatch
    pixels: Any = None  # images in device memory, if batches hold plans

    @property
    def record(self) -> RunRecord:
        """That of the newest state."""
        return self.kept[0].record

    def place(self, step: int) -> tuple[int, int]:
        """Returns epoch and place in it of a step, both from 0."""
        return divmod(step, self.program.schedule.batches_per_epoch)


class Before(NamedTuple):
    """The state before a step, and where it is from."""

    state: TrainState  # on the devices
    origin: str  # in words
    again: int  # steps that were trained again to come there


class Difference(NamedTuple):
    """How a state differs from the one that its run has kept."""

    kept: Path
    leaves: int  # of the state
    others: tuple[str, ...]  # paths of those whose bytes differ
    largest: float  # difference of any value


def rebuild(folder: Path, config: Any, step: int) -> Rebuilt:
    """Returns a run as it was when it did a step.

    Args:
        folder: of the run.
        config: its settings; devices, and where its data are, may be others now.
        step: of it.

    Raises:
        ValueError: it has kept no state, or its data are others now.
    """
    kept = tuple(
        Kept(path, RunRecord.from_json(values))
        for path, values in checkpoint.states(folder)
    )
    if not kept:
        raise ValueError(
            f"{folder} has kept no state that can be read, so no step of it can be done"
            " again. Give the folder of a run that has saved one: one with epochs"
            " finished, or stopped by a loss that was not finite."
        )
    identity = kept[0].record.identity
    if batch_size.is_automatic(config):
        assert identity.batch is not None, "what was trained had a batch"
        config = batch_size.resolved(config, identity.batch)
    (source,) = loading.open_splits(config, ("train",))
    now = data_identity(source)
    identity.check_same_data(now, folder, ("names", "images"))
    if identity.content not in ("", now.content):
        log.warning(
            "pictures or labels changed since %s was started: its batches are replayed"
            " with what they are now",
            folder,
        )
    per_epoch = -(-len(source) // config.batch)
    planned = _planned(kept, config, per_epoch, step)
    epochs: int | None = planned
    if config.time is None:
        config, epochs = changed(config, epochs=planned), None
    mesh = devices.make_mesh(config.device, config.batch, config.spatial)
    program = make_program(
        config, source, mesh, identity.class_width, planned_epochs=epochs
    )
    batches: Any = loading.train_batches(config, source)
    batches = batches.with_epochs(program.schedule.epochs)
    pixels = stored_images(program, batches, threads=usable_cores())
    # Nothing is compiled ahead, so that there is nothing to be closed.
    dispatch = program.dispatch(Compiler(), pixels)
    return Rebuilt(folder, config, program, source, batches, kept, dispatch, pixels)


def _planned(kept: tuple[Kept, ...], config: Any, per_epoch: int, step: int) -> int:
    """Returns the epochs that the run was planned for when it did a step.

    A run that went on for longer, or for as long as its time allowed, had other plans
    before: the plan of a step is in the first state after it.
    """
    later = [k for k in kept if k.record.journal.epoch * per_epoch > step]
    record = (later or kept[:1])[-1].record
    return record.identity.planned_epochs or config.epochs


def check_step(run: Rebuilt, step: int) -> None:
    """Raises ValueError unless a run has done a step, or was about to do it."""
    newest = int(read(run, run.kept[0]).step)
    last = min(newest, run.program.schedule.total_iterations - 1)
    if step > last:
        raise ValueError(
            f"config.step = {step}: {run.folder} has come to step {newest}, of"
            f" {run.program.schedule.total_iterations}. Give one from 0 to {last}."
        )


def read(run: Rebuilt, kept: Kept) -> TrainState:
    """Returns a kept state as host arrays."""
    variables = run.program.initial_variables()
    return checkpoint.read_state(kept.path, run.program.initial_state(variables))


def state_before(run: Rebuilt, step: int) -> Before:
    """Returns the exact state before a step, computed again where it is not kept."""
    state, origin = _nearest(run, step)
    start = int(state.step)
    state = devices.replicate(state, run.program.mesh)
    if start < step:
        epoch = run.place(start)[0]
        if run.config.time is not None and run.place(step)[0] > epoch:
            log.warning(
                "this run was timed: its plan became another at the ends of epochs,"
                " which is not known here, so step %d is not exactly what it computed",
                step,
            )
        log.info("training again from step %d (%s) to step %d", start, origin, step)
        state = _advanced(run, state, start, step)
    return Before(state, origin, step - start)


def newest_state(run: Rebuilt, step: int) -> Before:
    """Returns the newest state, counted as if it were the one before a step."""
    state = read(run, run.kept[0])
    origin = f"the newest state, of step {int(state.step)}"
    state = dataclasses.replace(state, step=np.int32(step))
    return Before(devices.replicate(state, run.program.mesh), origin, 0)


def do_step(
    run: Rebuilt, state: TrainState, step: int, host: list[dict[str, Any]] | None = None
) -> tuple[TrainState, Logs]:
    """Returns state and logs after one or several steps of the run's own program.

    Args:
        run: the run.
        state: before them; donated.
        step: the first of them.
        host: their batches; None: that of the one step.
    """
    program = run.program
    host = [run.batches[step]] if host is None else host
    batch, hyper = feed.put(host, program.schedule, step, program.mesh, program.rows)
    size = program.size_at(step)
    return run.dispatch(state, batch, hyper, size=size, steps=len(host))


def compared(run: Rebuilt, state: TrainState) -> Difference | None:
    """Returns how a state differs from the one kept of that step; None: none is.

    Args:
        run: the run.
        state: after a step.
    """
    step, per_epoch = int(state.step), run.program.schedule.batches_per_epoch
    for kept in run.kept:
        epoch = kept.record.journal.epoch
        if not epoch * per_epoch <= step <= (epoch + 1) * per_epoch:
            continue
        there = read(run, kept)
        if int(there.step) == step:
            return _difference(kept.path, arrays(there), arrays(state))
    return None


def arrays(state: TrainState) -> dict[str, np.ndarray]:
    """Returns the leaves of a state by their paths, on the host."""
    raw = dataclasses.replace(state, rng=jax.random.key_data(state.rng))
    raw = flat.unpacked(jax.device_get(raw))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(raw)
    }


def _difference(
    kept: Path, there: dict[str, np.ndarray], here: dict[str, np.ndarray]
) -> Difference:
    others = [k for k in there if there[k].tobytes() != here[k].tobytes()]
    gaps = [np.abs(there[k].astype(float) - here[k].astype(float)) for k in others]
    largest = max((float(gap.max()) for gap in gaps), default=0.0)
    return Difference(kept, len(there), tuple(others), largest)


def _nearest(run: Rebuilt, step: int) -> tuple[TrainState, str]:
    """Returns the newest state that is not after a step, as host arrays."""
    per_epoch = run.program.schedule.batches_per_epoch
    for kept in run.kept:
        if kept.record.journal.epoch * per_epoch > step:
            continue
        state = read(run, kept)
        if int(state.step) <= step:
            return state, f"state {kept.path.name} of the run, of step {state.step}"
    return _start(run), "the start of the run"


def _start(run: Rebuilt) -> TrainState:
    """Returns the state that a run began with.

    Raises:
        ValueError: the weights that it began with are not there any more.
    """
    config, identity = run.config, run.record.identity
    variables: PyTree = run.program.initial_variables()
    if config.pretrained is not False:
        weights = given_weights(config, "pretrained")
        if identity.start and weights_hash(weights) != identity.start:
            raise ValueError(
                f"config.pretrained = {config.pretrained!r} are not the weights that"
                f" {run.folder} began with, and no state of it before this step is"
                " kept. Give those weights."
            )
        variables, _ = transfer.transfer(
            variables, weights, run.source.names, partial=config.pretrained_partial
        )
    return run.program.initial_state(variables)


def _advanced(run: Rebuilt, state: TrainState, step: int, end: int) -> TrainState:
    """Returns the state before the step `end`, trained on from the one before `step`.

    Raises:
        ValueError: the run does not come so far.
    """
    program, first, told = run.program, step, step
    total = program.schedule.batches_per_epoch
    logs = None
    with loading.loader(run.batches, run.config, start_step=step) as loader:
        while step < end:
            steps = program.steps_at_once(step % total)
            steps = steps if step + steps <= end else 1
            host = [next(loader) for _ in range(steps)]
            state, logs = do_step(run, state, step, host)
            step += steps
            if step - told >= NEWS and step < end:
                told = step
                log.info("%d of %d steps done again", step - first, end - first)
    bad = int(jax.device_get(logs.bad_step)) if logs is not None else -1
    if bad >= 0:
        raise ValueError(
            f"{run.folder}: step {bad} is not finite when it is done again, so step"
            f" {end} is not reached. Replay that one: step={bad}."
        )
    return state
