"""Reads a folder of hostile checkpoints in a process of its own.

    python hostile_run.py read <folder>      as the package does
    python hostile_run.py unpickle <folder>  with `pickle`, which runs what they ask for

Both print one JSON line per file.
"""

import io
import json
import pickle
import resource
import sys
import time
import zipfile
from pathlib import Path

from yolojax.weights.torch import published, torch_file

LIMIT = 3 << 30  # bytes of address space of a child; beyond it allocations fail


def peak():
    """Returns the largest memory this process has had so far, in MB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def read(path):
    published.read(torch_file.read_checkpoint(path), path)


class Anything:
    """Stands for the classes and functions of packages that are not installed."""

    def __new__(cls, *args):
        return super().__new__(cls)

    def __init__(self, *args):
        pass


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if module.split(".")[0] in ("torch", "somewhere"):
            return Anything
        return super().find_class(module, name)

    def persistent_load(self, what):
        return None


def unpickle(path):
    with zipfile.ZipFile(path) as file:
        Unpickler(io.BytesIO(file.read("top/data.pkl"))).load()


def run(function, folder):
    """Prints what happens to each file of a folder."""
    for path in sorted(folder.glob("*.pt")):
        start = time.process_time()  # others use the machine too
        error, message = None, ""
        try:
            function(path)
        except BaseException as problem:  # all of them are what is looked for
            error, message = type(problem).__name__, str(problem)[:2000]
        seconds = time.process_time() - start
        result = {"case": path.stem, "error": error, "message": message}
        print(json.dumps(result | {"seconds": seconds, "peak": peak()}), flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    run({"read": read, "unpickle": unpickle}[sys.argv[1]], Path(sys.argv[2]))
