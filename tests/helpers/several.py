"""Processes that work on one run, over loopback."""

import contextlib
import csv
import os
import socket
import subprocess
import sys

from places import HELPERS, ROOT
from quick_compiler import set_flags

from yolojax.files import is_address

SETTINGS = {
    "model": "tiny_model:bare",
    "imgsz": 64,
    "batch": 8,
    "nbs": 8,
    "epochs": 3,
    "optimizer": "adamw",
    "mosaic": 1.0,
    "close_mosaic": 1,
    "workers": 0,
    "cache": "ram",
    "plots": False,
    "save_minutes": 1e-6,
    "hosts_timeout": 60,
    "compile_cache": "off",
}


def free_port():
    """Returns a port of this machine that is free."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


def started(place, name, count, port, data=("data", "data"), caches="cache", **values):
    """Starts the processes of a run, which have four devices in all.

    Args:
        place: folder of data sets and runs.
        name: of the run's folder, or its address.
        count: of processes.
        port: where they meet.
        data: names of the data set of each.
        caches: name of the folder of what is cached, as each machine has one.
        values: settings other than the usual ones.
    """
    environment = os.environ | {
        "PYTHONPATH": f"{HELPERS}{os.pathsep}{ROOT}",
        "YOLOJAX_CACHE": str(place / caches),
    }
    set_flags(environment)
    workdir = name if is_address(name) else place / name
    settings = SETTINGS | {"device": f"cpu:{4 // count}"} | values
    processes = []
    for index in range(count):
        if count > 1:
            settings["hosts"] = f"127.0.0.1:{port},{count},{index}"
        words = [f"--config.{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "yolojax.main", f"--workdir={workdir}"]
        command += [f"--config=configs/yolo11n.py:{place / data[index]}", *words]
        processes.append(
            subprocess.Popen(
                command,
                env=environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return processes


def ended(processes, seconds=600):
    """Returns (status, output) of each."""
    found = []
    try:
        for process in processes:
            output, _ = process.communicate(timeout=seconds)
            found.append((process.returncode, output))
    finally:
        for process in processes:
            process.kill()
    return found


def rows(folder):
    """Returns the rows of the table of a run."""
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def closest(here, there):
    """Returns the largest difference of losses, and the names of other figures."""
    most, other = 0.0, set()
    for one, two in zip(here, there, strict=True):
        for name in one.keys() - {"time"}:
            if one[name] == two[name]:
                continue
            if "loss" in name:
                most = max(most, abs(float(one[name]) - float(two[name])))
            else:
                other.add(name)
    return most, other
