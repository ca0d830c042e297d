"""Which compiled program a batch goes to, and having it ready in time.

A step is one function; its programs differ by the shapes of the batch and, in training,
by the input size of multi-scale training and by how many steps one dispatch does.
Training and validation share one compiler, so that both can be made ready beside a run.
"""

from collections.abc import Callable, Hashable
from typing import Any

import jax

from yolojax.program.compiler import Compiler
from yolojax.program.kept.steps import Traceable, compiled
from yolojax.program.step import Hyper, Logs
from yolojax.types import Array, Batch, PyTree, TrainState


class TrainDispatch:
    """The training step, compiled for what it is given."""

    def __init__(
        self,
        traceable: Callable[[int | None, int], Traceable],
        compiler: Compiler,
        images: Array = None,
    ) -> None:
        """Compiles nothing yet.

        Args:
            traceable: (size, steps) -> the step, as of `Program.traceable`.
            compiler: makes and keeps the programs.
            images: those in device memory, if batches hold plans.
        """
        self._traceable = traceable
        self._images = images
        self._newest: Any = None
        self.compiler = compiler

    def text(self) -> str:
        """Returns the text of the program that was used last, "" before the first."""
        return "" if self._newest is None else self._newest.as_text() or ""

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
            state: donated: the new one lies in its memory.
            batch: a batch, or several stacked ones.
            hyper: likewise.
            size: longer side of the input, pixels; None: that of the batch.
            steps: how many batches are stacked; 1: none are.
        """
        arguments = (state, batch, hyper, self._images)
        make = self._maker(arguments, size, steps)
        program = self.compiler.get(("train", *_key(batch), size, steps), make)
        self._newest = program
        return program(*arguments)

    def begin(
        self,
        state: TrainState,
        batch: Batch,
        hyper: Hyper,
        *,
        size: int | None = None,
        steps: int = 1,
    ) -> None:
        """Starts to make the program of the call that comes next; arguments as of it.

        What is prepared after it does not keep Python from tracing this one.
        """
        make = self._maker((state, batch, hyper, self._images), size, steps)
        self.compiler.begin(("train", *_key(batch), size, steps), make)

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
        like = abstract((state, batch, hyper))
        make = self._maker((*like, self._images), size, steps)
        key = ("train", *_key(batch), size, steps)
        self.compiler.prepare(key, make, what, needed=needed)

    def _maker(
        self, arguments: tuple[Any, ...], size: int | None, steps: int
    ) -> Callable[[], Any]:
        return _maker(lambda: self._traceable(size, steps), arguments, self.compiler)


class EvalDispatch:
    """The evaluation step, compiled for what it is given."""

    def __init__(
        self, traceable: Callable[[Batch], Traceable], compiler: Compiler
    ) -> None:
        """Compiles nothing yet.

        Args:
            traceable: batch -> the step, as of `evaluation`.
            compiler: makes and keeps the programs.
        """
        self._traceable = traceable
        self.compiler = compiler

    def __call__(self, variables: PyTree, batch: Batch) -> tuple[jax.Array, Any]:
        """Returns the loss terms [L] and what was found in a batch."""
        make = _maker(lambda: self._traceable(batch), (variables, batch), self.compiler)
        return self.compiler.get(("evaluate", *_key(batch)), make)(variables, batch)

    def prepare(self, variables: PyTree, batch: Batch, *, needed: bool = True) -> None:
        """Lets the program for batches like this one be compiled in the background.

        Nobody is told: a data set of many shapes has many of them.

        Args:
            variables: like those of every call.
            batch: its shapes matter, not its values.
            needed: it is used for sure.
        """
        like = abstract((variables, batch))
        make = _maker(lambda: self._traceable(like[1]), like, self.compiler)
        self.compiler.prepare(("evaluate", *_key(batch)), make, "", needed=needed)


def _maker(
    what: Callable[[], Traceable], arguments: tuple[Any, ...], compiler: Compiler
) -> Callable[[], Any]:
    """Returns what a compiler makes a program with."""

    def make() -> Any:
        return compiled(what(), arguments, traced=compiler.traced, later=compiler.later)

    return make


def abstract(tree: PyTree) -> PyTree:
    """Returns the tree with shapes in the place of arrays, which may be donated."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=getattr(x, "sharding", None)
        ),
        tree,
    )


def _key(batch: Batch) -> tuple[Hashable, Hashable]:
    """Returns what tells programs apart: structure, shapes and dtypes of the batch."""
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((x.shape, x.dtype) for x in leaves)
