"""Trains, or goes on with, the run of a folder: `--mode train`."""

import contextlib
import gc
import itertools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from yolojax import models, optim, writers
from yolojax.assembly import agreement, network
from yolojax.assembly import data as loading
from yolojax.assembly.weights import given_weights, weights_hash
from yolojax.config import KEYS
from yolojax.data.batches import input_size
from yolojax.devices import hosts
from yolojax.devices import mesh as devices
from yolojax.program import batch_size
from yolojax.program.compiler import Compiler
from yolojax.program.train_program import Program, make_program
from yolojax.runs import checkpoint, data_notes
from yolojax.runs import folder as run_folder
from yolojax.runs.checkpoint import Checkpoints
from yolojax.runs.journal import Journal, RunRecord
from yolojax.runs.mirror.address import Address
from yolojax.runs.mirror.mirror import Mirror, mirrored
from yolojax.runs.notices import warnings_kept
from yolojax.training.loop import train
from yolojax.training.run import Means, Opened, make_run
from yolojax.weights.sources import Weights

log = logging.getLogger("yolojax")

_SHARED_CACHE = (
    "A run in a bucket is worked on in the cache folder of process 0: let"
    " YOLOJAX_CACHE name a folder on a disk that all machines share, under the same"
    " path."
)


def run(
    config: Any, workdir: Path | Address | None, means: Means | None = None
) -> None:
    """Trains until the run of the folder is complete; arguments as of `trained`."""
    trained(config, workdir, means)


def trained(
    config: Any, workdir: Path | Address | None, means: Means | None = None
) -> Path:
    """Returns the folder of a run, once that is complete.

    What can be wrong without looking at the data is found before them, and a start
    that is refused leaves no folder behind.

    Args:
        config: checked settings.
        workdir: the folder of the run, or its address in a bucket; it goes on if it
            holds one; None: a new one below runs/.
        means: what the run is done with; None: the usual clock and steps.
    """
    _check_settings(config)
    models.builder_of(config.model)
    if config.optimizer != "auto":
        optim.maker_of(config.optimizer)
    automatic = batch_size.is_automatic(config)
    mesh = devices.make_mesh(
        config.device, None if automatic else config.batch, config.spatial
    )
    with contextlib.ExitStack() as stack:
        folder, mirror = stack.enter_context(_folder(config, workdir))
        saved = checkpoint.holds_state(folder)
        hosts.goes_on_by(workdir if isinstance(workdir, Address) else folder, saved)
        start = None
        if config.pretrained is not False and not saved:
            with hosts.machine_first("the weights"):
                start = given_weights(config, "pretrained")
        with hosts.machine_first("the data"):
            sources = _sources(config)
        _check_moved(config, folder, sources[0])
        agreement.check_data(dict(zip(("train", "val"), sources, strict=False)))
        if hosts.leads():
            run_folder.claim(folder, config)
            log.info("run folder: %s", folder)
            stack.enter_context(warnings_kept(folder))
            _note_data(config, folder, sources)
        job = _Job(config, folder, sources, mesh, start, means or Means(), mirror)
        smaller = None
        for halvings in itertools.count():
            smaller = _attempt(job, smaller, halvings)
            if smaller is None:
                return folder
            gc.collect()  # what ran out of memory must be gone before the next one
    raise AssertionError("numbers do not end")


@contextlib.contextmanager
def _folder(
    config: Any, workdir: Path | Address | None
) -> Iterator[tuple[Path, Mirror | None]]:
    """Yields the run's folder, which process 0 makes and locks for all of them.

    With an address it also yields the mirror there, which process 0 alone has.
    """
    bucket = isinstance(workdir, Address)
    mend = _SHARED_CACHE if bucket else hosts.SHARED_FOLDER
    if not hosts.leads():
        yield hosts.shared_folder(None, mend), None
        return
    run_folder.refuse_two_places(config, workdir)
    with contextlib.ExitStack() as stack:
        mirror, place = None, None
        if isinstance(workdir, Address):
            line = writers.Progress(sys.stdout, 1, 1, ())
            stack.callback(line.close)
            mirror = stack.enter_context(
                mirrored(workdir, config.mirror_grace, line.status, config.keep_states)
            )
            place = mirror.folder
        else:
            place = workdir
        made = run_folder.occupied(config, place, "train", mirror)
        yield hosts.shared_folder(stack.enter_context(made), mend), mirror


def _note_data(config: Any, folder: Path, sources: list[loading.Source]) -> None:
    """Writes into the run's folder, and says, what the data are like."""
    data_notes.report_problems(sources, folder)
    named = dict(zip(("train", "val"), sources, strict=False))
    data_notes.warn_of_shared(named)
    data_notes.record_subset(config, named, folder)


def _sources(config: Any) -> list[loading.Source]:
    """Returns the training images and those to validate on.

    Without the latter a run goes on if nothing but its end would be validated.
    """
    try:
        return loading.open_splits(config, ("train", "val"))
    except (ValueError, OSError) as error:
        try:
            sources = loading.open_splits(config, ("train",))
        except (ValueError, OSError):
            raise error from None  # it is not the validation split that is missing
        if config.val:
            raise ValueError(
                f"{error} To train without validation set --config.val=false."
            ) from error
        log.warning("nothing will be validated, not even the last epoch: %s", error)
        return sources


def _check_moved(config: Any, folder: Path, source: loading.Source) -> None:
    """Raises ValueError unless what lies elsewhere now is what the run began with."""
    moved = run_folder.moved(folder, config)
    values = checkpoint.state_record(folder) if moved else None
    if values is None:
        return
    began = RunRecord.from_json(values).identity
    if "data" in moved:
        fields = ("names", "images", "content")
        began.check_same_data(data_notes.data_identity(source), folder, fields)
    if "pretrained" not in moved:
        return
    was, now, same = moved["pretrained"], config.pretrained, False
    if was is not False and now is not False:
        if began.start:
            same = weights_hash(given_weights(config, "pretrained")) == began.start
        else:  # a record of an older version: no more than the name is known
            same = Path(str(was)).name == Path(str(now)).name
    if not same:
        raise ValueError(
            f"{folder} holds a run that began with pretrained = {was!r}, which"
            f" {now!r} is not. Give those weights to go on, or another --workdir to"
            " start anew. Nothing was changed."
        )


class _Job(NamedTuple):
    """What every attempt of a run has in common."""

    config: Any  # as the user gave it
    folder: Path
    sources: list[loading.Source]  # training images, and validation images if any
    mesh: Any
    start: Weights | None  # that a fresh run starts from, None for random ones
    means: Means
    mirror: Mirror | None  # of the folder


def _attempt(job: _Job, smaller: Any, halvings: int) -> Any:
    """Trains to the end, or returns settings with a smaller batch to try next.

    Args:
        job: what is to be done.
        smaller: the settings with what is left of an automatic batch; None if none was
            tried yet.
        halvings: how often it has been halved.
    """
    states = job.config.keep_states
    process = hosts.index() if hosts.joined() else None
    with hosts.leader_first("checkpoints"):
        opened = checkpoint.open_checkpoints(job.folder, states, process)
    with opened as checkpoints:
        if smaller is not None:
            checkpoints.forget_all()  # of the first epoch, with the larger batch
        settled = smaller or _with_batch(job, _record(checkpoints))
        journal = Journal()
        try:
            program = _program(job, settled, _record(checkpoints))
            with Compiler() as compiler:
                run, state = make_run(
                    program,
                    settled,
                    job.folder,
                    job.sources,
                    Opened(checkpoints, compiler, job.mirror),
                    job.start,
                    job.means,
                )
                journal = run.journal
                train(run, state)
        except Exception as error:
            if hosts.joined():  # another batch would have to be agreed upon
                raise
            smaller = batch_size.halved(
                settled,
                error,
                asked=job.config.batch,
                epoch=journal.epoch + journal.ended,
                halvings=halvings,
                devices=job.mesh.size,
            )
            if smaller is None:
                raise
            log.warning(
                "out of memory with batch = %d: the first epoch starts anew with %d",
                settled.batch,
                smaller.batch,
            )
            return smaller
    return None


def _record(checkpoints: Checkpoints) -> RunRecord | None:
    """Returns the record that a run goes on from, None for a fresh one."""
    newest = checkpoints.newest()
    if newest is None:
        return None
    return RunRecord.from_json(checkpoints.record(newest))


def _with_batch(job: _Job, record: RunRecord | None) -> Any:
    """Returns the settings with a batch size that is a number."""
    config, mesh = job.config, job.mesh
    if not batch_size.is_automatic(config):
        return config
    if record is not None:  # a run keeps the size that it began with
        batch = record.identity.batch
        assert batch is not None, "what was trained had a batch"
        return batch_size.resolved(config, batch)
    return batch_size.resolve(config, job.sources, mesh, _width(job))


def _width(job: _Job) -> int | None:
    """Returns the width of the class branch that suits the weights to start from."""
    if job.start is None:
        return None
    source = job.sources[0]
    keypoints = network.keypoints_of(source)
    return network.width_for(job.config, len(source.names), job.start, keypoints)


def _program(job: _Job, config: Any, record: RunRecord | None) -> Program:
    """Returns the program of a run, and says what its makers chose.

    Args:
        job: what is to be done.
        config: its settings with a number as batch.
        record: that the run goes on from, None for a fresh one.
    """
    source = job.sources[0]
    _check_sizes(config, source)
    width = _width(job) if record is None else record.identity.class_width
    epochs = None if record is None else _planned(config, record)
    program = make_program(config, source, job.mesh, width, planned_epochs=epochs)
    for note in (program.net.policy.note, *program.schedule.notes):
        if note:
            log.info(note)
    return program


def _planned(config: Any, record: RunRecord) -> int | None:
    """Returns the epochs of a timed run that goes on: as many as it had planned."""
    if config.time is None:
        return None
    journal, budget = record.journal, 3600 * config.time
    planned = record.identity.planned_epochs or config.epochs
    if planned <= journal.epoch and journal.seconds < budget:  # given more time
        planned = optim.epochs_in(budget, journal.epoch, journal.seconds)
    return planned


def _check_settings(config: Any) -> None:
    """Warns of settings that have no meaning while training."""
    patience = config.patience
    if not config.val and patience != KEYS["patience"].default and patience:
        log.warning(
            "patience = %d is not used: val = False validates the last epoch only.",
            patience,
        )
    if config.optimizer != "auto":
        return
    given = [
        f"{name}={config[name]:g}"
        for name in ("lr0", "momentum", "warmup_bias_lr")
        if config[name] != KEYS[name].default
    ]
    if given:
        log.warning(
            "%s: not used, as optimizer=auto chooses these itself. Name an optimizer,"
            " such as --config.optimizer=sgd, to set them.",
            ", ".join(given),
        )


def _check_sizes(config: Any, source: loading.Source) -> None:
    """Batch norm needs more than one value per channel."""
    smallest = min(
        input_size.sizes(config.imgsz, config.multi_scale, config.multi_scale_sizes)
    )
    if smallest >= 64:
        return
    # Groups are filled one after the other, the last batch ends in the middle of one.
    rows = config.batch // config.bn_groups
    if (len(source) - 1) % rows == 0:
        what = "the last batch" if config.bn_groups == 1 else "a group of a batch"
        raise ValueError(
            f"{what} of {len(source)} images would hold a single one, and at"
            f" {smallest} pixels it has a single cell on the coarsest level, too"
            " little for batch norm. Change config.batch or raise config.imgsz."
        )
