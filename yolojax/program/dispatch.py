"""Which compiled program a training batch goes to, and having it ready in time.

The step is one function; its programs differ by the shapes of the batch, by the input
size of multi-scale training and by how many steps one dispatch does.
"""

import functools
import logging
from collections.abc import Callable, Hashable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from yolojax.program.compiler import Programs
from yolojax.program.step import Hyper, Logs, TrainStep, make_scan_step
from yolojax.types import Array, Batch, PyTree, TrainState

log = logging.getLogger("yolojax")


class Dispatch:
    """The training step, compiled for what it is given; close it, or use `with`."""

    def __init__(
        self,
        make_step: Callable[[int | None], TrainStep],
        mesh: Mesh,
        records: Array = None,
    ) -> None:
        """Compiles nothing yet.

        Args:
            make_step: input size -> the step; None: the size that batches have.
            mesh: the devices.
            records: images in device memory, if batches hold plans.
        """
        self._make_step = make_step
        self._records = records
        self._replicated = NamedSharding(mesh, P())
        self.programs = Programs()

    def __call__(
        self,
        state: TrainState,
        batch: Batch,
        hyper: Hyper,
        *,
        size: int | None = None,
        steps: int = 1,
    ) -> tuple[TrainState, Logs]:
        """Returns the state and the logs after one step, or after several.

        Args:
            state: given up: its memory is used again.
            batch: a batch, or several stacked ones.
            hyper: likewise.
            size: longer side of the input, pixels; None: that of the batch.
            steps: how many batches are stacked; 1: none are.
        """
        program = self.programs.get(
            _key(batch, size, steps),
            lambda: self._compiled(state, batch, hyper, size=size, steps=steps),
        )
        return program(state, batch, hyper, self._records)

    def prepare(
        self,
        state: TrainState,
        batch: Batch,
        hyper: Hyper,
        *,
        size: int | None = None,
        steps: int = 1,
        what: str,
        needed: bool = True,
    ) -> None:
        """Lets the program for batches like this one be compiled in the background.

        Args:
            state: like that of every step.
            batch: as for a call; its shapes matter, not its values.
            hyper: likewise.
            size: longer side of the input, pixels; None: that of the batch.
            steps: how many batches are stacked; 1: none are.
            what: what it is, in words.
            needed: it is used for sure.
        """
        like = _abstract((state, batch, hyper))
        make = functools.partial(self._compiled, *like, size=size, steps=steps)
        key = _key(batch, size, steps)
        self.programs.prepare(key, make, what, needed=needed)

    def __enter__(self) -> "Dispatch":
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Waits for what is being compiled, unless on Ctrl-C."""
        self.programs.__exit__(kind, *error)

    def _compiled(
        self,
        state: PyTree,
        batch: PyTree,
        hyper: PyTree,
        *,
        size: int | None,
        steps: int,
    ) -> Any:
        step = self._make_step(size)
        step = step if steps == 1 else make_scan_step(step)
        # The state must come out as it went in, or the next call would not take it.
        jitted = jax.jit(step, donate_argnums=0, out_shardings=self._replicated)
        return jitted.lower(state, batch, hyper, self._records).compile()


def _key(batch: Batch, size: int | None, steps: int) -> Hashable:
    """Returns what tells programs apart: shapes and dtypes, input size and steps."""
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((x.shape, x.dtype) for x in leaves), size, steps


def _abstract(tree: PyTree) -> PyTree:
    """Returns the tree with shapes in the place of values, which may be given up."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=getattr(x, "sharding", None)
        ),
        tree,
    )
