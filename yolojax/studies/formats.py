"""A network in all formats that can be run here, side by side.

The files are written to a folder that goes away again; each is opened, shown the same
pictures, timed in turn with the others, and validated where there are data.
"""

import dataclasses
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from yolojax.assembly.export import Export, export_of
from yolojax.assembly.weights import weights_of
from yolojax.config import KEYS, changed
from yolojax.data.store.host_cores import usable_cores
from yolojax.export import EXPORTERS, metadata, parity, runners, samples
from yolojax.files import replace_text
from yolojax.inference.backends import agreement, runtimes
from yolojax.inference.backends.exported import Exported, described
from yolojax.runs import folder as run_folder
from yolojax.weights import sources
from yolojax.writers import formats as table

ROUNDS = 20  # in each of which every file looks at one picture
NETWORK = "jax"  # name of the row that the others are compared with

log = logging.getLogger("yolojax")


class Variant(NamedTuple):
    """A kind of file."""

    name: str
    format: str  # of EXPORTERS
    half: bool = False
    int8: bool = False


VARIANTS = (  # in the order of the table
    Variant(NETWORK, "safetensors"),
    Variant("stablehlo", "stablehlo"),
    Variant("onnx", "onnx"),
    Variant("onnx half", "onnx", half=True),
    Variant("openvino", "openvino"),
    Variant("openvino half", "openvino", half=True),
    Variant("openvino int8", "openvino", int8=True),
    Variant("litert", "litert"),
    Variant("litert half", "litert", half=True),
)


class Opened(NamedTuple):
    """A file that can be asked."""

    exported: Exported
    run: runners.Runner
    size: int  # bytes
    first: float  # seconds from opening it to its first answer


def compare(config: Any, workdir: Path | None) -> None:
    """Compares the formats that config.format names, prints a table and keeps it.

    Args:
        config: checked settings of the benchmark.
        workdir: the folder of a run, or where the file goes; None: one of config.task's
            is made.

    Raises:
        ValueError: the weights cannot be read, or no format can be had.
    """
    run_folder.refuse_two_places(config, workdir)
    given = weights_of(config, workdir)
    of_run = workdir is not None and config.weights is None  # with data of its own
    validated = of_run or config.data != KEYS["data"].default
    config = changed(config, batch=1, rect=False)
    export = export_of(config, given)
    if validated:
        agreement.opened(config, export.trained.names)  # or it fails at once
    wanted = [v for v in VARIANTS if config.format in ("all", v.format)]
    if wanted[0].name != NETWORK:
        wanted.insert(0, VARIANTS[0])
    with tempfile.TemporaryDirectory() as place:
        found, left = _written(config, export, wanted, Path(place), validated)
        if len(found) == 1:
            raise ValueError(
                f"config.format = {config.format!r}: there is nothing to compare the"
                f" network with. {next(iter(left.values()), '')}"
            )
        rows = _rows(config, export, found, validated)
    report = {
        "weights": given.source,
        "task": config.task,
        "model": config.model,
        "imgsz": config.imgsz,
        "data": config.data if validated else None,
        "device": jax.devices()[0].device_kind,
        "cores": usable_cores(),
        "rounds": ROUNDS,
        "rows": rows,
        "left_out": left,
    }
    print(table.text(rows, left), flush=True)
    name = config.name or "benchmark"
    folder = (
        run_folder.make_unused(workdir, name)
        if workdir
        else run_folder.default_folder(config.task, name)
    )
    replace_text(folder / "formats.json", json.dumps(report, indent=2) + "\n")
    log.info("written to %s", folder)


def _written(
    config: Any,
    export: Export,
    wanted: Sequence[Variant],
    place: Path,
    has_data: bool,
) -> tuple[dict[str, Opened], dict[str, str]]:
    """Returns the files by name, and why the others are left out."""
    found: dict[str, Opened] = {}
    left: dict[str, str] = {}
    for number, variant in enumerate(wanted):
        if variant.int8 and not has_data:
            left[variant.name] = (
                "int8 is fitted to training pictures: give the data that the network"
                " was trained on, with data=DATA."
            )
            continue
        folder = place / str(number)
        folder.mkdir()
        try:
            found[variant.name] = _opened(config, export, variant, folder)
        except ValueError as error:  # a missing runtime, or what a format cannot hold
            if variant.name == NETWORK:
                raise
            left[variant.name] = str(error)
        else:
            log.info("%s: %.1f MB", variant.name, found[variant.name].size / 1e6)
    return found, left


def _opened(config: Any, export: Export, variant: Variant, folder: Path) -> Opened:
    """Returns a file of a kind, written and asked for the first time.

    Raises:
        ValueError: it cannot be written or run.
    """
    exporter = EXPORTERS[variant.format]
    options = dataclasses.replace(export.options, half=variant.half, int8=variant.int8)
    own = dataclasses.replace(export, options=options)
    exporter.check(own)
    if options.int8:
        pictures = samples.calibration(config, own)
        own = dataclasses.replace(own, calibration=pictures)
    path = folder / f"network{exporter.suffix}"
    if exporter.is_folder:
        path.mkdir()
    exporter.write(path, own)
    files = path.iterdir() if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    image = samples.floats(np.zeros((1, *options.hw, 3), np.uint8))
    started = time.perf_counter()
    exported, run = _asked(config, own, variant.format, path)
    run(image)
    return Opened(exported, run, size, time.perf_counter() - started)


def _asked(
    config: Any, export: Export, kind: str, path: Path
) -> tuple[Exported, runners.Runner]:
    """Returns what a file says of itself and what runs it, as prediction does."""
    if kind in runtimes.NAMES:
        exported, runtime = runtimes.opened(path, kind)
        dtype = np.float16 if exported.half else np.float32
        return exported, _as_float32(lambda images: runtime(images.astype(dtype)))
    exported = described(path, metadata.texts(export))
    if kind == "stablehlo":
        runner = EXPORTERS[kind].runner
        assert runner is not None
        run = runner(path)
        assert run is not None
        return exported, run
    # The weights alone: the network is built anew and compiled.
    return exported, runners.network(export_of(config, sources.read_weights(path)))


def _as_float32(runtime: Callable[[np.ndarray], Any]) -> runners.Runner:
    return lambda images: [np.asarray(x, np.float32) for x in runtime(images)]


def _rows(
    config: Any, export: Export, found: Mapping[str, Opened], validated: bool
) -> list[dict[str, Any]]:
    """Returns a row of the table for each file."""
    pictures = samples.validated(config, export) if validated else samples.usual()
    whole = config.task == "classify"
    fitted = samples.fitted(pictures, export.options.hw, whole=whole)
    inputs = [image[None] for image in fitted]
    times = in_turns({name: one.run for name, one in found.items()}, inputs)
    ours = [found[NETWORK].run(image) for image in inputs]
    rows: list[dict[str, Any]] = []
    for name, one in found.items():
        row = {
            "name": name,
            "bytes": one.size,
            "first_answer_s": round(one.first, 3),
            "ms": round(times[name], 2),
        }
        if name != NETWORK:
            pairs = [
                parity.pair(export, mine, one.run(image))
                for mine, image in zip(ours, inputs, strict=True)
            ]
            row["differences"] = parity.differences(pairs)
        if validated:
            log.info("validating %s", name)
            plain = dataclasses.replace(one.exported, half=False)
            task = export.trained.net.task
            row["figures"] = agreement.figures_of(
                config, plain, one.run, task, chosen=False
            )
        rows.append(row)
    return rows


def in_turns(
    runs: Mapping[str, runners.Runner],
    inputs: Sequence[np.ndarray],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Returns the median milliseconds of each for one input; all take turns.

    What else the machine does, and how warm it is, meets all of them alike. Each looks
    twice and the second time counts: threads of the one before may still wait for work
    of theirs, with all their strength.

    Args:
        runs: by name; each ran before.
        inputs: [1, 3, H, W], looked at one after another.
        clock: tells seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(ROUNDS):
        for name, run in runs.items():
            image = inputs[turn % len(inputs)]
            run(image)
            started = clock()
            run(image)
            times[name].append(clock() - started)
    return {name: 1e3 * float(np.median(taken)) for name, taken in times.items()}
