"""From settings and sources to results, and to files: what commands and API share."""

import contextlib
import logging
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolojax import visualize
from yolojax.assembly import agreement
from yolojax.devices import hosts
from yolojax.errors import Interrupted
from yolojax.inference.backends.compiled import Compiled
from yolojax.inference.backends.opening import opened
from yolojax.inference.backends.types import Backend, Times
from yolojax.inference.console import Console
from yolojax.inference.outputs import MANIFEST, OutputOptions, Outputs
from yolojax.inference.predictor import Predictor, Seen
from yolojax.inference.results import gathered
from yolojax.inference.results.result import Result
from yolojax.inference.sources import drawn, frames, listing, shares
from yolojax.inference.tracked import tracked
from yolojax.interrupts import CtrlC
from yolojax.runs import folder as run_folder
from yolojax.tracking import Tracker, TrackerOptions, make

log = logging.getLogger("yolojax")

TRACKER_SETTINGS = tuple(TrackerOptions.__dataclass_fields__)


def to_files(config: Any, workdir: Path | None, name: str) -> None:
    """Predicts or tracks, and writes what is found.

    Args:
        config: checked settings.
        workdir: the folder of the files; None: one of config.task's is made.
        name: predict or track, of that one.

    Raises:
        ValueError: sources, weights or settings cannot be used, or not one source can
            be read.
        OSError: a file cannot be written.
    """
    if config.source is None:
        raise ValueError(
            f"{name} needs config.source: pictures, videos, folders, addresses, a"
            f" camera. Write them behind the weights: yolojax {name} WEIGHTS photos."
        )
    run_folder.refuse_two_places(config, workdir)
    source = named(config.source, name, config.task)
    listed = listing.listed(source)
    # How many come in on the standard input, nobody knows before they do.
    endless = "-" in (source if isinstance(source, tuple) else (source,))
    items = None if endless else list(listed)
    share = _share(items)
    with hosts.machine_first("the weights"):
        predictor = Predictor(*opened(config))
    _check_same(items, predictor.backend)
    follow = tracker_of(config) if name == "track" else None
    console, times = Console(sys.stdout, items), Times()
    own: Iterable[listing.Item] = listed if items is None else items
    part = None
    if share is not None:
        own, part, console.here = share.items, hosts.index(), len(share.items)
    with (
        CtrlC(_patience),
        hosts.leaders_folder(folder_for(config, workdir, name)) as folder,
    ):
        with (
            Outputs(folder, output_options(config, name), part) as outputs,
            contextlib.closing(
                look(predictor, own, reading(config), console.told, times)
            ) as stream,
        ):
            found = stream if share is None else share.numbered(stream)
            found = found if follow is None else tracked(found, follow)
            names = predictor.backend.names
            whole = _written(found, outputs, console, names, config.task)
        if not whole and (share is not None or not times.pictures):
            raise KeyboardInterrupt
        seconds, labels = outputs.seconds, outputs.labels
        if share is not None:
            times, seconds, labels = _joined(console, times, outputs)
        if not times.pictures:
            _refuse_nothing(console)
        console.end(times, folder, seconds, labels)
    if not whole:
        raise Interrupted("interrupted: what was found until then is complete", 130)


def _written(
    stream: Iterable[Seen],
    outputs: Outputs,
    console: Console,
    names: Sequence[str],
    task: str,
) -> bool:
    """Writes and tells what is found; returns whether nobody interrupted it.

    Args:
        stream: what is found.
        outputs: its files.
        console: is told of it.
        names: of the classes.
        task: of the network.
    """
    try:
        for seen in stream:
            result = None
            if seen.features is not None:
                outputs.add_features(seen.frame, seen.features)
            else:
                result = result_of(seen, names, task, str(outputs.folder))
                outputs.add(seen.frame, result)
            console.show(seen, result)
    except KeyboardInterrupt:  # the usual end of a camera
        return False
    return True


def _share(items: list[listing.Item] | None) -> shares.Share | None:
    """Returns what this one of several processes looks at, None if it is alone."""
    if not hosts.joined():
        return None
    return shares.share_of(items, hosts.count(), hosts.index())


def _check_same(items: list[listing.Item] | None, backend: Backend) -> None:
    """Raises ValueError unless all processes see the same pictures and weights."""
    agreement.check_names("the pictures", [item.path for item in items or ()])
    agreement.check_names("the classes", backend.names)
    if isinstance(backend, Compiled):
        agreement.check_weights(backend.model.variables)


def _joined(
    console: Console, times: Times, outputs: Outputs
) -> tuple[Times, float, int]:
    """Joins what all processes have found, for the one that tells of it.

    Args:
        console: knows of all of it afterwards.
        times: of this process.
        outputs: of this process, closed.

    Returns:
        Times, seconds of writing and number of label files of all.
    """
    mine = {
        "console": console.told_so_far(),
        "times": gathered.told(times),
        "written": [outputs.seconds, outputs.labels],
    }
    parts = hosts.everyone("found", mine)
    if hosts.leads():
        gathered.join_parts(outputs.folder / MANIFEST, hosts.count())
    console.join([part["console"] for part in parts])
    seconds, labels = zip(*(part["written"] for part in parts), strict=True)
    total = gathered.sum_of([part["times"] for part in parts])
    return total, sum(seconds), sum(labels)


def _patience(pressed: int) -> float:
    """Returns the seconds that a Ctrl-C leaves for completing files."""
    return 10.0 if pressed == 1 else 0.0


def named(source: Any, command: str, task: str) -> Any:
    """Returns a source, with files in the place of the word `shapes`.

    Args:
        source: as of `listing.listed`.
        command: predict or track.
        task: of the network.
    """
    if not drawn.is_meant(source):
        return source
    return drawn.video() if command == "track" else drawn.pictures(task)


def look(
    predictor: Predictor,
    items: Iterable[listing.Item],
    how: frames.Reading,
    told: Callable[[frames.Skipped], None],
    times: Times | None = None,
) -> Generator[Seen]:
    """Yields what is found in every picture and frame of some sources; close it."""
    return predictor(frames.jobs(items, how, told), told, times)


def result_of(
    seen: Seen, names: Sequence[str], task: str, save_dir: str | None = None
) -> Result:
    """Returns what was found in a picture under the names that users know."""
    assert seen.found is not None
    return Result(
        orig_img=seen.frame.picture,
        path=seen.frame.path,
        names=dict(enumerate(names)),
        task=task,
        found=seen.found,
        speed=seen.speed,
        frame=seen.frame.number,
        save_dir=save_dir,
        rgb=seen.frame.rgb,
    )


def reading(config: Any, order: str = "bgr") -> frames.Reading:
    """Returns how sources are read.

    Args:
        config: checked settings.
        order: "bgr" or "rgb", of arrays.
    """
    return frames.Reading(
        vid_stride=config.vid_stride, stream_buffer=config.stream_buffer, order=order
    )


def first_pictures(config: Any, most: int) -> list[np.ndarray]:
    """Returns the first pictures of config.source that can be read, [h, w, 3] BGR.

    Args:
        config: checked settings.
        most: how many are enough.

    Raises:
        ValueError: not one can be read.
    """
    skipped: list[frames.Skipped] = []
    items = listing.listed(named(config.source, "predict", config.task))
    found: list[np.ndarray] = []
    for job in frames.jobs(items, reading(config), skipped.append):
        try:
            found.append(job().picture)
        except frames.UnreadableError as error:
            skipped.append(error.skipped)
        if len(found) == most:
            break
    for one in skipped:
        log.warning("%s is left out: %s", one.path, one.why)
    if not found:
        raise ValueError(f"config.source = {config.source!r}: no picture can be read.")
    return found


def tracker_of(config: Any) -> Callable[[], Tracker]:
    """Returns the maker of trackers that a config asks for.

    Raises:
        ValueError: options that this tracker does not have, or do not fit together.
    """
    options = TrackerOptions(**{name: config[name] for name in TRACKER_SETTINGS})
    make(config.tracker, options)  # or say what is wrong, before anything is read
    return lambda: make(config.tracker, options)


def output_options(config: Any, command: str) -> OutputOptions:
    """Returns what a config wants to be written."""
    return OutputOptions(
        save=config.save,
        txt=config.save_txt,
        conf=config.save_conf,
        crop=config.save_crop,
        frames=config.save_frames,
        trail=config.trail if command == "track" else 0,
        draw=visualize.DrawOptions(
            labels=config.show_labels,
            conf=config.show_conf,
            boxes=config.show_boxes,
            line_width=config.line_width,
        ),
    )


def folder_for(config: Any, workdir: Path | None, name: str) -> Any:
    """Returns the context of the folder of the files.

    One that the user named is used as it is, and must be empty.
    """
    if workdir is None:
        return run_folder.fresh(run_folder.runs_of(config.task), config.name or name)
    return run_folder.given(workdir)


def _refuse_nothing(console: Console) -> None:
    """Raises ValueError since not one source could be read."""
    first = console.skipped[0] if console.skipped else None
    why = f", {first.path}: {first.why}" if first else ""
    count = len(console.skipped) + console.unlisted
    raise ValueError(
        f"no picture could be read: {count} source{'' if count == 1 else 's'}{why}"
    )
