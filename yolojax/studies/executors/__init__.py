"""Executors: what starts the runs of a study, each in its own module."""

import importlib

from yolojax.errors import install_hint
from yolojax.registry import lookup
from yolojax.studies.jobs import Executor

# Name -> module with make(jobs, device) -> Executor. The name is also that of the extra
# that installs what the module needs, if it needs anything.
EXECUTORS = {
    "local": "yolojax.studies.executors.local",
    "ray": "yolojax.studies.executors.ray",
    "slurm": "yolojax.studies.executors.slurm",
}


def make(name: str, jobs: int | None, device: str | None) -> Executor:
    """Returns an executor; close it.

    Args:
        name: of EXECUTORS.
        jobs: how many runs may be at work at once; None: as many as fit.
        device: what a run computes on, as the setting `device`.

    Raises:
        ValueError: there is none of this name, or what it needs is not installed or
            not there.
    """
    module = lookup(EXECUTORS, name, "executor")
    try:
        maker = importlib.import_module(module).make
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "yolojax":
            raise
        raise ValueError(
            f"executor = {name!r} needs the package {error.name}, which is not"
            f" installed: {install_hint(name)}."
        ) from error
    return maker(jobs, device)
