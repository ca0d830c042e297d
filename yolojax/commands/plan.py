"""What a run takes on devices that are not here: `--mode plan`."""

import functools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from yolojax import files
from yolojax.devices.known import DEVICES
from yolojax.planning import asked as asking
from yolojax.planning import compiled, loading, picture, plan, told
from yolojax.planning.asked import Asked
from yolojax.planning.plan import Context, Failed, Row
from yolojax.planning.subject import COUNTED_AT, Subject
from yolojax.program.absent.targets import Platform
from yolojax.runs import folder as run_folder

log = logging.getLogger("yolojax")


def run(
    config: Any,
    workdir: Path | None,
    is_missing: Callable[[Platform], bool] = compiled.missing,
    rate: Callable[[Any, Any], float] = loading.per_core,
) -> int:
    """Prints a table of what the run takes, and writes it with a picture.

    Args:
        config: checked settings.
        workdir: folder that the plan's own is made in; None: that of the task's runs.
        is_missing: whether the compiler of a platform is not installed.
        rate: measures how many images a core loads in a second.

    Returns:
        An exit status: 1 if there are devices that nothing could be said of.

    Raises:
        ValueError: a device is unknown, or the data cannot be read.
    """
    asked = asking.devices_of(config.plan_for)
    prices = asking.prices_of(config.price, asked)
    jax.config.update("jax_platforms", "cpu")  # what is here does not matter
    subject = Subject(config)
    log.info("%s on %d images of %s", config.model, subject.images, config.data)
    context = Context(subject, prices, _operations(subject), _rate(subject, rate))
    rows = []
    with compiled.workers(config) as workers:
        for devices in asked:
            platform = DEVICES[devices.name].platform
            compile_ = functools.partial(_found, subject, workers)
            absent = is_missing(platform)
            rows.append(plan.row(context, devices, None if absent else compile_))
    print(told.headline(context, config), end="\n\n")
    print(told.table(rows), end="\n\n")
    print("\n".join(told.sentences(context, row) for row in rows), flush=True)
    for text in told.missing(rows):
        log.info("%s", text)
    _write(context, rows, workdir)
    return int(any(isinstance(row, Failed) for row in rows))


def _operations(subject: Subject) -> float:
    """Returns the arithmetic of a step for each image, counted once."""

    def find() -> dict[str, Any]:
        log.info("  counting the arithmetic of a training step ...")
        return {"operations": subject.arithmetic()}

    batch = min(COUNTED_AT, subject.images)
    return compiled.kept(subject.fingerprint(None, 1, batch), find)["operations"]


def _rate(subject: Subject, rate: Callable[[Any, Any], float]) -> float:
    """Returns how many images a core loads in a second, measured once."""

    def find() -> dict[str, Any]:
        return {"rate": rate(subject.config, subject.source)}

    name = subject.loading_fingerprint(loading.IMAGES)
    return compiled.kept(name, find)["rate"]


def _found(
    subject: Subject, workers: compiled.Workers, name: str, count: int, batch: int
) -> compiled.Found:
    """Returns what a program for devices is like, compiling it once."""
    what = f"{Asked(name, name, count).named}, batch {batch}"

    def find() -> dict[str, Any]:
        log.info("  %s: compiling the training step ...", what)
        request = {"device": name, "count": count, "batch": batch}
        found = workers.ask(DEVICES[name].platform, request, what)
        log.info("  %s: compiled in %.0f s", what, found.get("seconds", 0))
        return found

    return compiled.Found(
        **compiled.kept(subject.fingerprint(name, count, batch), find)
    )


def _write(context: Context, rows: list[Row | Failed], workdir: Path | None) -> None:
    """Writes plan.json and plan.png into a new folder."""
    config = context.subject.config
    parent = workdir or run_folder.runs_of(config.task)
    folder = run_folder.make_unused(parent, config.name or "plan")
    record = json.dumps(told.record(context, rows), indent=1)
    files.replace_text(folder / "plan.json", record + "\n")
    drawn = [told.bars(row) for row in rows if isinstance(row, Row)]
    if drawn:
        picture.plan_png(folder / "plan.png", drawn)
    log.info("written to %s", folder)
