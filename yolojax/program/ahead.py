"""The programs that later steps of a run will need, compiled beside its first ones."""

from collections.abc import Iterable
from typing import Any

from yolojax.assembly.data import EvaluationBatches, TrainingBatches
from yolojax.data.batches.labelled import TrainBatches
from yolojax.data.batches.stack import with_slots
from yolojax.program import feed
from yolojax.program.dispatch import EvalDispatch, TrainDispatch
from yolojax.program.step import Hyper
from yolojax.program.train_program import Program, batch_shapes
from yolojax.types import Batch, PyTree, TrainState

LOOK_AHEAD = 100  # steps whose input sizes are compiled first


class Ahead:
    """Has the programs of later steps compiled, in the order in which they come."""

    def __init__(
        self, program: Program, batches: TrainingBatches, dispatch: TrainDispatch
    ) -> None:
        """Compiles nothing yet.

        Args:
            program: of the run.
            batches: of the run.
            dispatch: of the program.
        """
        self._program = program
        self._batches = batches
        self._dispatch = dispatch

    def prepare(
        self, state: TrainState, host_batches: list[dict[str, Any]], iteration: int
    ) -> None:
        """Queues what will be needed for sure, then what may be.

        Args:
            state: that of every step.
            host_batches: of the first dispatch.
            iteration: of the first of them.
        """
        batch, hyper = self._put(host_batches, iteration)
        self._sizes(state, batch, hyper, iteration)
        self._plans(state, iteration)
        self._shapes(state, iteration)

    def prepare_rare(
        self, state: TrainState, host_batches: list[dict[str, Any]], iteration: int
    ) -> None:
        """Queues programs for batches with more objects.

        They may never come, so nothing waits for these programs; arguments as of
        `prepare`.
        """
        spare = getattr(self._batches, "spare_slots", None)
        if spare is None:
            return
        slots = max(spare, *(host["valid"].shape[1] for host in host_batches))
        fuller = [with_slots(host, slots) for host in host_batches]
        batch, hyper = self._put(fuller, iteration)
        for size in self._sizes_at(iteration):
            what = f"the training step for {slots} objects per image"
            if self._program.sizes.several:
                what += f" at {size} pixels"
            self._dispatch.prepare(
                state,
                batch,
                hyper,
                size=size,
                steps=len(host_batches),
                what=what,
                needed=False,
            )

    def _put(
        self, host_batches: list[dict[str, Any]], iteration: int
    ) -> tuple[Batch, Hyper]:
        program = self._program
        return feed.put(
            host_batches, program.schedule, iteration, program.mesh, program.rows
        )

    def _sizes_at(self, iteration: int) -> Iterable[int | None]:
        """Returns the input sizes that a batch of a step may be brought to."""
        if self._program.sizes.several:
            return self._program.sizes.all
        return (self._program.size_at(iteration),)

    def _sizes(
        self, state: TrainState, batch: Batch, hyper: Hyper, iteration: int
    ) -> None:
        """Queues the other input sizes, as they will come."""
        program = self._program
        if not program.sizes.several:
            return
        coming = map(program.size_at, range(iteration, iteration + LOOK_AHEAD))
        _, *later = dict.fromkeys((*coming, *program.sizes.all))
        for size in later:
            what = f"the training step for {size} pixels"
            self._dispatch.prepare(state, batch, hyper, size=size, what=what)

    def _plans(self, state: TrainState, iteration: int) -> None:
        """Queues the programs for other shapes of plans that the device renders.

        Of the last batches of an epoch, too few for a whole dispatch, and of epochs
        without mosaic.
        """
        program, batches = self._program, self._batches
        if not isinstance(batches, TrainBatches) or not batches.on_device:
            return
        total, epochs = program.schedule.batches_per_epoch, program.schedule.epochs
        starts = {"": iteration // total, " without mosaic": batches.plain_from}
        for which, epoch in starts.items():
            if not iteration // total <= epoch < epochs:
                continue
            rest = total % program.scan_steps  # batches that make no whole dispatch
            for position in (0, total - 1) if rest else (0,):
                steps, first = program.steps_at_once(position), epoch * total + position
                batch, hyper = self._put(
                    [batches[first + k] for k in range(steps)], first
                )
                what = "the training step" if steps == 1 else f"{steps} steps"
                for size in self._sizes_at(first):
                    told = f"{what}{which}"
                    if program.sizes.several:
                        told += f" for {size} pixels"
                    self._dispatch.prepare(
                        state, batch, hyper, size=size, steps=steps, what=told
                    )

    def _shapes(self, state: TrainState, iteration: int) -> None:
        """Queues the other shapes of rectangular batches."""
        batches, total = self._batches, self._program.schedule.batches_per_epoch
        if not isinstance(batches, TrainBatches) or len(batches.shapes()) == 1:
            return
        start = iteration // total * total
        seen = {batches.shape(iteration)}
        for step in [*range(iteration, start + total), *range(start, iteration)]:
            height, width = shape = batches.shape(step)
            if shape in seen:
                continue
            seen.add(shape)
            batch, hyper = self._put([batches[step]], step)
            what = f"the training step for {width} x {height} pixels"
            self._dispatch.prepare(state, batch, hyper, what=what)


def prepare_evaluation(
    dispatch: EvalDispatch,
    variables: PyTree,
    batches: EvaluationBatches,
    mesh: Any,
    *,
    needed: bool,
) -> None:
    """Queues the evaluation step for every shape of batches, in the order of use.

    Args:
        dispatch: of the evaluation step.
        variables: like those that will be evaluated, on the devices.
        batches: of the validation.
        mesh: the devices.
        needed: they are used for sure, and soon.
    """
    for hw in batches.shapes():
        like = batch_shapes(batches.like(hw), mesh)
        dispatch.prepare(variables, like, needed=needed)
