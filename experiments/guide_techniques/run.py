"""What each technique of the training guide costs and brings, one run each per seed.

    python experiments/guide_techniques/run.py --out runs/guide

trains the drawn shapes once per row and seed, each run by itself in a fresh process,
and writes results.csv, table.md and plot.png into the output folder. Runs that are
there already are not done again, so that it can be stopped and continued.
"""

import argparse
import concurrent.futures
import csv
import json
import os
import queue
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import psutil

ROOT = Path(__file__).parents[2]

# Small pictures, few of them and few epochs: a run in less than a minute.
BASE = {
    **{"imgsz": 96, "epochs": 8, "batch": 8, "nbs": 8, "fraction": 256, "scale": 0.2},
    **{"optimizer": "adamw", "lr0": 0.002, "mosaic": 0.0, "plots": False},
    **{"save": False, "workers": 0},
}
# Real pictures: larger, and as many as there are.
REAL = {"imgsz": 192, "epochs": 20, "batch": 16, "nbs": 16, "fraction": 1.0}

TECHNIQUES: dict[str, dict[str, Any]] = {  # name -> what differs from the base
    "base": {},
    "batch=32": {"batch": 32, "nbs": 32},
    "batch=-1": {"batch": -1},
    "fraction=0.25": {"fraction": 128},
    "fraction=0.25, head": {"fraction": 128, "fraction_mode": "head"},
    "scale=0": {"scale": 0.0},
    "scale=0.5": {"scale": 0.5},
    "multi_scale=0.3": {"multi_scale": 0.3},
    "rect": {"rect": True},
    "cache=ram": {"cache": "ram"},
    "cache=disk": {"cache": "disk"},
    "cache=device": {"cache": "device"},
    "amp=bf16": {"amp": "bf16"},
    "amp=fp16": {"amp": "fp16"},
    "optimizer=auto": {"optimizer": "auto", "lr0": 0.01},
    "optimizer=sgd": {"optimizer": "sgd", "lr0": 0.01},
    "optimizer=adam, lr0=0.01": {"optimizer": "adam", "lr0": 0.01},
    "cos_lr": {"cos_lr": True},
    "lrf=1 (no decay)": {"lrf": 1.0},
    "mosaic=1, close_mosaic=3": {"mosaic": 1.0, "close_mosaic": 3},
    "mixup=0.5": {"mixup": 0.5, "close_mosaic": 3},
    "cutmix=0.5": {"cutmix": 0.5, "close_mosaic": 3},
    "degrees=15": {"degrees": 15.0},
    "perspective=0.0005": {"perspective": 0.0005},
    "no colour jitter": {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0},
    "filters 0.1": {"blur": 0.1, "median_blur": 0.1, "to_gray": 0.1, "clahe": 0.1},
    "cls_pw=0.5": {"cls_pw": 0.5},
    "epochs=24": {"epochs": 24},
    "epochs=24, patience=3": {"epochs": 24, "patience": 3},
    "time=0.005 h": {"time": 0.005, "epochs": 24},
    "two devices": {"device": "cpu:2"},
}
COLUMNS = ("technique", "seed", "seconds", "memory_mib", "images_per_second",
           "data_wait", "epochs", "mAP50", "mAP50-95", "command")  # fmt: skip


def main() -> None:
    """Runs what is missing and writes table and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--data", default=None, help="a data.yaml instead of shapes")
    parser.add_argument("--weights", default=None, help="adds a run that starts there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--only", nargs="+", default=list(TECHNIQUES), metavar="NAME")
    options = parser.parse_args()
    unknown = set(options.only) - set(TECHNIQUES)
    if unknown:
        parser.error(f"--only {sorted(unknown)}: known are {list(TECHNIQUES)}")
    chosen = {name: TECHNIQUES[name] for name in options.only}
    if options.weights:
        chosen["pretrained"] = {"pretrained": options.weights}
    base = BASE if options.data is None else BASE | REAL
    options.out.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))
    shares: queue.Queue[list[int]] = queue.Queue()
    for job in range(options.jobs):
        shares.put(cores[job :: options.jobs])

    def run(todo: tuple[int, str]) -> dict[str, Any]:
        seed, name = todo
        settings = base | _scaled(chosen[name], options.data) | {"seed": seed}
        mine = shares.get()  # each run has its own cores, so that times compare
        try:
            return one_run(name, settings, options.data, options.out, mine)
        finally:
            shares.put(mine)

    todo = [(seed, name) for name in chosen for seed in options.seeds]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        write(list(pool.map(run, todo)), options.out)


def _scaled(changes: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    """Returns the changes; a quarter of real pictures is a share, not a number."""
    if data is not None and "fraction" in changes:
        return dict(changes) | {"fraction": 0.25}
    return dict(changes)


def one_run(
    name: str,
    settings: Mapping[str, Any],
    data: str | None,
    out: Path,
    cores: Sequence[int],
) -> dict[str, Any]:
    """Returns the figures of one run, which is done unless it is there."""
    label = "".join(c if c.isalnum() else "-" for c in name) + f"-{settings['seed']}"
    stored = out / f"{label}.json"
    if stored.exists():
        return json.loads(stored.read_text())
    config = "configs/yolo11n.py" + (f":{data}" if data else "")
    arguments = [
        *("-m", "yolojax.main", "--config", config, "--workdir", str(out / label)),
        *(f"--config.{key}={value}" for key, value in settings.items()),
    ]
    print(shlex.join(["python", *arguments]), flush=True)
    started = time.monotonic()
    with open(out / f"{label}.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=log, stderr=log
        )
        os.sched_setaffinity(process.pid, cores)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(0.2)
    if process.returncode:
        sys.exit(f"{label} failed, see {log.name}")
    seconds = time.monotonic() - started
    lines = (out / label / "log.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    validated = [row for row in epochs if row["metrics/mAP50-95(B)"] is not None]
    best = max(validated, key=lambda row: row["metrics/mAP50-95(B)"])
    row = {
        "technique": name,
        "seed": settings["seed"],
        "seconds": round(seconds, 1),
        "memory_mib": round(peak / 2**20),
        "images_per_second": statistics.median(r["images_per_second"] for r in epochs),
        "data_wait": statistics.median(r["data_wait"] for r in epochs),
        "epochs": len(epochs),
        "mAP50": round(best["metrics/mAP50(B)"], 4),
        "mAP50-95": round(best["metrics/mAP50-95(B)"], 4),
        "command": shlex.join(["python", *arguments]),
    }
    stored.write_text(json.dumps(row, indent=1) + "\n")
    print(f"  {row['seconds']} s, mAP50-95 {row['mAP50-95']}", flush=True)
    return row


def _memory(pid: int) -> int:
    """Returns the memory of a process and its children, bytes."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        return sum(process.memory_info().rss for process in family)
    except psutil.NoSuchProcess:
        return 0


def write(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes results.csv, table.md and plot.png."""
    with open(out / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    names = list(dict.fromkeys(row["technique"] for row in rows))
    found = {name: [r for r in rows if r["technique"] == name] for name in names}
    lines = [
        "| technique | mAP50-95 | mAP50 | images/s | waiting | seconds | memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():

        def mean(key: str, runs: Any = runs) -> float:
            return statistics.mean(run[key] for run in runs)

        each = " ".join(f"{run['mAP50-95']:.3f}" for run in runs)
        lines.append(
            f"| {name} | {mean('mAP50-95'):.3f} ({each}) | {mean('mAP50'):.3f} |"
            f" {mean('images_per_second'):.0f} | {100 * mean('data_wait'):.0f} % |"
            f" {mean('seconds'):.0f} | {mean('memory_mib'):.0f} |"
        )
    (out / "table.md").write_text("\n".join(lines) + "\n")
    _plot(found, out / "plot.png")
    print("\n".join(lines))


def _plot(found: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draws mAP50-95 and time of every technique against the base."""
    names = list(found)[::-1]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 0.3 * len(names) + 1.2), sharey=True, layout="constrained"
    )
    panels = ((left, "mAP50-95", "mAP50-95"), (right, "seconds", "seconds, all told"))
    for axes, key, title in panels:
        values = [[run[key] for run in found[name]] for name in names]
        means = [statistics.mean(v) for v in values]
        axes.barh(names, means, color=["#1f6f8b" if n == "base" else "#9fc5d1"
                                       for n in names])  # fmt: skip
        for row, points in enumerate(values):
            axes.plot(points, [row] * len(points), "k.", markersize=5)
        if "base" in found:
            base = statistics.mean(run[key] for run in found["base"])
            axes.axvline(base, color="#1f6f8b", linewidth=1, linestyle="--")
        axes.set_title(title, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.01)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
