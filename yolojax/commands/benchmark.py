"""Speed and memory of the parts of a run, or of many networks: `--mode benchmark`.

Figures are medians over repetitions on the machine at hand. The host pipeline is
always measured at 640 px on one thread, so that its figures compare; the network at
`config.imgsz` and `config.batch`. With `models`, `tasks` or `against` it is a table of
networks instead, in a file that another one can be compared with.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from yolojax import files, writers
from yolojax.assembly import data as loading
from yolojax.config import KEYS
from yolojax.data.store.host_cores import usable_cores
from yolojax.devices import mesh as devices
from yolojax.program import batch_size
from yolojax.program.kept.folder import programs_kept_in
from yolojax.runs import folder as run_folder
from yolojax.speed import many, network, pipeline, record
from yolojax.studies import formats

log = logging.getLogger("yolojax")


def run(config: Any, workdir: Path | None) -> None:
    """Measures and prints one line per figure; also written to a run's folder.

    With config.format the exported files of a network are compared instead, with
    config.models, tasks or against many networks.
    """
    if many.is_asked(config):
        _table(config, workdir)
        return
    if config.format != KEYS["format"].default:
        formats.compare(config, workdir)
        return
    ready = time.time() - psutil.Process().create_time()
    automatic = batch_size.is_automatic(config)
    mesh = devices.make_mesh(
        config.device, None if automatic else config.batch, config.spatial
    )
    source = loading.open_split(config, "train")
    log.info(
        "%s on %s, %d cores; %d images of %s",
        config.model,
        mesh.devices.flat[0].device_kind,
        usable_cores(),
        len(source),
        config.data,
    )
    if automatic:
        config = batch_size.resolve(config, [source], mesh)
    records: list[dict[str, Any]] = []
    for name, value, unit in _figures(config, source, mesh, ready):
        print(f"{name:<58}{value:>10.4g} {unit}", flush=True)
        records.append({"name": name, "value": value, "unit": unit})
    if workdir is not None:
        folder = run_folder.make_unused(workdir, config.name or "benchmark")
        lines = writers.JsonLines(folder / "benchmark.jsonl")
        for record in records:
            lines.write(record)
        log.info("written to %s", folder)


def _figures(
    config: Any, source: loading.Source, mesh: Any, ready: float
) -> Iterator[tuple[str, float, str]]:
    yield "process start to benchmark start (imports, data scan)", ready, "s"
    yield from pipeline.figures(config, source)
    yield from network.figures(config, source, mesh)
    if network.has_assigner(config):
        yield from network.assigner_figures(len(source.names))


def _table(config: Any, workdir: Path | None) -> None:
    """Measures networks one after the other, prints a line for each, and keeps all."""
    asked = many.asked(config)
    before = None if config.against is None else record.read(config.against)
    mesh = devices.make_mesh(config.device, config.batch, config.spatial)
    about = record.about(config, mesh)
    sizes = " and ".join(map(str, sorted({one.imgsz for one in asked})))
    log.info(
        "%d x %s, %s px, batch %d", mesh.size, about["device"], sizes, config.batch
    )
    for text in record.differences(about, before.about) if before else ():
        log.warning("not the same: %s", text)
    print(*record.heading(before is not None), sep="\n", flush=True)
    rows = []
    for settings in asked:
        with programs_kept_in(None):
            rows.append(many.measured(settings, mesh))
        print(record.line(rows[-1], before.rows if before else None), flush=True)
    parent = workdir or Path("runs")
    folder = run_folder.make_unused(parent, config.name or "benchmark")
    files.replace_text(folder / record.FILE, record.Record(about, tuple(rows)).text())
    log.info("written to %s", folder)
