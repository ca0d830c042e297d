"""Checkpoints: the whole training state for resuming, the best weights for use.

    <workdir>/checkpoints/last/<n>   TrainState and run record, the newest ones kept
    <workdir>/checkpoints/best/<n>   EMA weights of the best epoch: the newer of two
    <workdir>/checkpoints/epochs/<e> EMA weights after epoch e, if they are asked for
    <workdir>/checkpoints/damaged/   what could not be read when the run went on

They are Orbax directories, float32, trees of single tensors, however a step holds them;
n counts the saves of the run. A directory under
its final name is whole: Orbax writes under a temporary name and renames at the end.

A run may be killed at any moment. Weights are on disk before the state that comes after
them, and their predecessor stays until the next ones: whichever state is the newest,
the best weights up to it are there.
"""

import contextlib
import dataclasses
import json
import logging
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from yolojax.optim import flat
from yolojax.runs import whole
from yolojax.types import PyTree, TrainState

LAST, BEST, EPOCHS = "last", "best", "epochs"
DAMAGED = "damaged"  # where a run that goes on puts what cannot be read

_NUMBER = re.compile("0|[1-9][0-9]*")

log = logging.getLogger("yolojax")


@dataclass
class Checkpoints:
    """The Orbax managers of a run; use it in `with`.

    Of several processes, which all hold the whole state, one writes and all read.
    """

    last: ocp.CheckpointManager
    best: ocp.CheckpointManager
    epochs: ocp.CheckpointManager
    writes: bool = True  # otherwise saving and forgetting do nothing

    def save_last(self, number: int, state: TrainState, record: dict[str, Any]) -> None:
        """Starts writing the training state; returns once it is copied to the host."""
        if not self.writes:
            return
        self.best.wait_until_finished()
        self.epochs.wait_until_finished()
        _save(self.last, number, _snapshot(state), record)

    def save_best(self, number: int, ema: PyTree, record: dict[str, Any]) -> None:
        """Starts writing the weights of a new best epoch."""
        if not self.writes:
            return
        self.last.wait_until_finished()
        _save(self.best, number, _copied(ema), record)

    def save_epoch(self, epoch: int, ema: PyTree, record: dict[str, Any]) -> None:
        """Starts writing the weights of an epoch, which are kept for good."""
        if self.writes:
            _save(self.epochs, epoch, _copied(ema), record)

    def newest(self) -> int | None:
        """Returns the number of the newest whole checkpoint, None if there is none."""
        return self.last.latest_step()

    def has_best(self) -> bool:
        """Whether there are weights of a best epoch."""
        return self.best.latest_step() is not None

    def restore(
        self, number: int, like: TrainState
    ) -> tuple[TrainState, dict[str, Any]]:
        """Returns the training state (host arrays, typed key) and the run record.

        Args:
            number: as from `newest`.
            like: a state of the same run, for structure, shapes and dtypes; what it
                has packed is packed in the result.
        """
        abstract = jax.tree.map(np.zeros_like, _snapshot(like))
        found = self.last.restore(
            number,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), record=ocp.args.JsonRestore()
            ),
        )
        state = dataclasses.replace(
            found.state, rng=jax.random.wrap_key_data(found.state.rng)
        )
        return flat.packed_like(state, like), found.record

    def record(self, number: int) -> dict[str, Any]:
        """Returns the run record of a checkpoint alone."""
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        return self.last.restore(number, args=args).record

    def forget_after(self, number: int, epoch: int) -> None:
        """Removes weights newer than a resumed state: they are made again.

        Args:
            number: of the resumed state, 0 for a fresh one.
            epoch: epochs that it has finished.
        """
        if not self.writes:
            return
        for newer in [s for s in self.best.all_steps() if s > number]:
            self.best.delete(newer)
        for newer in [e for e in self.epochs.all_steps() if e > epoch]:
            self.epochs.delete(newer)

    def forget_all(self) -> None:
        """Removes everything: the run starts anew."""
        for manager in (self.last, self.best, self.epochs):
            for number in manager.all_steps():
                manager.delete(number)

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Waits for unfinished writes and frees the managers.

        What could not be written whole is removed: a full disk needs the room.
        """
        failed = True
        try:
            self.wait()
            failed = kind is not None
        finally:
            for manager in (self.last, self.best, self.epochs):
                manager.close()
                if failed and self.writes:
                    _remove_unfinished(Path(manager.directory))

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self.last.wait_until_finished()
        self.best.wait_until_finished()
        self.epochs.wait_until_finished()


def open_checkpoints(
    workdir: Path, states: int = 1, process: int | None = None
) -> Checkpoints:
    """Returns the managers of a run's folder, which is made if missing.

    Args:
        workdir: the folder.
        states: how many of the newest states are kept.
        process: which of several this is, the first of which writes and opens them
            before the others; None: the only one.

    Raises:
        ValueError: it holds a run, but no state of it that can be read.
    """
    root = (workdir / "checkpoints").absolute()
    whole.hush_other_arrays()
    writes = not process
    if writes:
        for kind in (LAST, BEST, EPOCHS):
            _remove_unfinished(root / kind)  # no other run is in the folder
        _check_states_are_left(root)
        _set_damaged_aside(root)
    alone = ocp.options.MultiprocessingOptions()
    if process is not None:  # nobody waits for the others while one of them writes
        alone = ocp.options.MultiprocessingOptions(
            primary_host=process,
            active_processes={process},
            barrier_sync_key_prefix=f"process{process}",
        )

    def manager(name: str, kept: int | None) -> ocp.CheckpointManager:
        policies = ocp.checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            # None keeps everything.
            preservation_policy=None if kept is None else policies.LatestN(n=kept),
            enable_async_checkpointing=True,
            multiprocessing_options=alone,
            read_only=not writes,
            create=process is None,  # among several Orbax would wait for all of them
        )
        return ocp.CheckpointManager(root / name, options=options)

    if writes:
        for kind in (LAST, BEST, EPOCHS):
            (root / kind).mkdir(parents=True, exist_ok=True)
    return Checkpoints(
        last=manager(LAST, states),
        best=manager(BEST, 2),
        epochs=manager(EPOCHS, None),
        writes=writes,
    )


def holds_state(workdir: Path) -> bool:
    """Whether a folder holds a state that a run can go on from."""
    return bool(_numbered(workdir / "checkpoints" / LAST))


def states(workdir: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Returns the folders and records of the states of a run, the newest first.

    Nothing is changed: the run may be going on. What cannot be read is passed over.
    """
    found = []
    for path in _numbered(workdir / "checkpoints" / LAST):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads((path / "record" / "metadata").read_text("utf-8"))
            if all((path / part).is_file() for part in whole.PARTS):
                found.append((path, record))
    return found


def read_state(path: Path, like: TrainState) -> TrainState:
    """Returns a training state as host arrays, with a typed key.

    Args:
        path: its folder.
        like: a state of the same run, for structure, shapes and dtypes.

    Raises:
        ValueError: it cannot be read, or is of another run.
    """
    abstract = jax.tree.map(np.zeros_like, _snapshot(like))
    whole.hush_other_arrays()
    try:
        with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
            found = handler.restore(
                path / "state", args=ocp.args.StandardRestore(abstract)
            )
    except MemoryError:
        raise
    except Exception as error:  # of many kinds, none of them documented
        words = whole.words_of(error)
        raise ValueError(
            f"{path} cannot be read ({words}). Copy the run's folder here once more."
        ) from error
    state = dataclasses.replace(found, rng=jax.random.wrap_key_data(found.rng))
    return flat.packed_like(state, like)


def saved_weights(workdir: Path) -> Path | None:
    """Returns the newest weights of a run that are not a state to go on from."""
    root = workdir / "checkpoints"
    found = [*_numbered(root / BEST), *_numbered(root / EPOCHS)]
    return found[0] if found else None


def state_record(workdir: Path) -> dict[str, Any] | None:
    """Returns the run record of the newest state in a folder, None if it has none."""
    for path in _numbered(workdir / "checkpoints" / LAST):
        if (path / "record" / "metadata").is_file():
            with contextlib.closing(ocp.JsonCheckpointHandler()) as reader:
                return reader.restore(path / "record")
    return None


def best_record(workdir: Path) -> dict[str, Any] | None:
    """Returns the run record of the best weights, None if it cannot be read.

    It is plain JSON: no library is asked, which would also look at the arrays.
    """
    for path in _numbered(workdir / "checkpoints" / BEST):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads((path / "record" / "metadata").read_text("utf-8"))
            if isinstance(record, dict):
                return record
    return None


def load_weights(workdir: Path, which: str) -> tuple[PyTree, dict[str, Any]]:
    """Returns {"params", "batch_stats"} as NumPy arrays and the record of a run.

    Args:
        workdir: folder of a run.
        which: "best", or "last" for the EMA weights of the newest state.

    Raises:
        ValueError: the folder holds no such checkpoint, or only damaged ones.
    """
    paths = _numbered(workdir / "checkpoints" / which)
    if not paths:
        raise ValueError(
            f"{workdir} holds no {which} checkpoint. Give the folder of a training run"
            " that has finished an epoch."
        )
    return _first_whole(paths)


def find_weights(folder: Path) -> tuple[PyTree, dict[str, Any]]:
    """Returns the weights, as `load_weights` does, that a folder means.

    Args:
        folder: of a run (its best weights, else its last ones), the `checkpoints` in
            it, `best` or `last` in that, or one numbered checkpoint.

    Raises:
        ValueError: none of these, or all of them are damaged.
    """
    inner = (folder / "checkpoints", folder)
    places = [root / which for root in inner for which in (BEST, LAST)] + [folder]
    paths = [path for place in places for path in _numbered(place)]
    if not paths and ((folder / "state").is_dir() or (folder / "record").is_dir()):
        paths = [folder.absolute()]
    if not paths:
        raise ValueError(
            f"{folder} holds no checkpoint. Give the folder of a training run that has"
            " finished an epoch, or a checkpoint inside it."
        )
    return _first_whole(paths)


def _numbered(root: Path) -> list[Path]:
    """Returns the numbered checkpoints in a folder, the newest first.

    Copies that somebody keeps beside them have other names.
    """
    found = [p for p in root.absolute().glob("*") if _NUMBER.fullmatch(p.name)]
    return sorted((p for p in found if p.is_dir()), key=lambda p: -int(p.name))


def _first_whole(paths: list[Path]) -> tuple[PyTree, dict[str, Any]]:
    """Returns the weights and the record of the first checkpoint that can be read."""
    damaged: list[tuple[Path, str]] = []
    for path in paths:
        try:
            found = whole.read(path)
        except whole.DamagedError as error:
            damaged.append((path, str(error)))
            continue
        for other, what in damaged:
            log.warning("%s is damaged: %s. %s is used instead", other, what, path)
        return found
    raise ValueError(
        "; ".join(f"{path} is damaged: {what}" for path, what in damaged)
        + ". No other checkpoint is whole. Copy the run's folder here once more, or"
        " give another one."
    )


def _check_states_are_left(root: Path) -> None:
    """Raises ValueError where weights outlived all states: a new start removes them.

    Weights are written just before the state that they belong to, so those of a run's
    first save may be there alone; it is no loss to make them again.
    """
    weights = _numbered(root / BEST)
    if weights and int(weights[0].name) > 1 and not _numbered(root / LAST):
        raise ValueError(
            f"{root / LAST} holds no state to go on from, though {weights[0]} holds"
            " weights of the run. Copy the run's folder here once more; or start from"
            f" these weights, with --config.pretrained={root.parent} and another"
            " --workdir. Nothing was changed."
        )


def _set_damaged_aside(root: Path) -> None:
    """Moves checkpoints that cannot be read out of the way of the run that goes on.

    Args:
        root: the run's folder of checkpoints.

    Raises:
        ValueError: no state is whole, so there is nothing to go on from; nothing is
            moved then.
    """
    damaged: list[tuple[Path, str]] = []
    for kind in (LAST, BEST):
        paths = _numbered(root / kind)
        for path in paths:
            try:
                whole.read(path)
                break
            except whole.DamagedError as error:
                damaged.append((path, str(error)))
        else:
            if paths and kind == LAST:
                path, what = damaged[0]
                raise ValueError(
                    f"{path} is damaged: {what}. No other state is there to go on"
                    " from. Copy the run's folder here once more; or start from its"
                    f" best weights, with --config.pretrained={root.parent} and another"
                    " --workdir."
                )
    for path, what in damaged:
        aside = (
            root / DAMAGED / f"{path.parent.name}-{path.name}-{uuid.uuid4().hex[:6]}"
        )
        aside.parent.mkdir(exist_ok=True)
        path.rename(aside)
        log.warning(
            "%s is damaged: %s. It lies in %s now; the one before it is used, if any",
            path,
            what,
            aside,
        )


def _remove_unfinished(folder: Path) -> None:
    """Removes what a killed or failed write has left of its checkpoint."""
    for leftover in folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(leftover)


def _save(
    manager: ocp.CheckpointManager, number: int, tree: PyTree, record: dict[str, Any]
) -> None:
    saved = manager.save(
        number,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(record)
        ),
        force=True,
    )
    if not saved:
        raise RuntimeError(
            f"Orbax refused to save number {number} in {manager.directory}."
        )


def _snapshot(state: TrainState) -> TrainState:
    """Returns the state as NumPy copies.

    The copy matters: the next step overwrites donated buffers while a background
    thread is still writing.
    """
    raw = dataclasses.replace(state, rng=jax.random.key_data(state.rng))
    return _copied(raw)


def _copied(tree: PyTree) -> PyTree:
    """Returns NumPy copies of a tree's arrays; what is packed becomes a tree."""
    return flat.unpacked(jax.tree.map(lambda x: np.array(x, copy=True), tree))
