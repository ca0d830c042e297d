"""What a caller may want to tell apart from other errors, and what mends one."""

import re
from importlib import metadata
from pathlib import Path


class MissingSplitError(ValueError):
    """A data set has no such split."""


class NonFiniteLoss(Exception):
    """The loss or the gradient stopped being a number."""


class DiskFull(OSError):
    """There is no room for what a run writes."""


class MirrorFailed(OSError):
    """A run's folder could not be mirrored to its bucket; its state is saved here."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status  # exit status


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; its state is saved."""

    def __init__(self, text: str, status: int):
        super().__init__(text)
        self.status = status  # exit status


def install_hint(extra: str) -> str:
    """Returns the command that installs an optional part, such as "coco".

    A clone is named by its folder, as the command is typed anywhere. Elsewhere the
    packages of the part are named: nothing is known of where this one came from.
    """
    root = Path(__file__).parent.parent
    if (root / "pyproject.toml").is_file():
        return f'pip install -e "{root}[{extra}]"'
    needed = [
        requirement.partition(";")[0].strip()
        for requirement in metadata.requires("yolojax") or ()
        if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", requirement)
    ]
    return "pip install " + " ".join(f'"{requirement}"' for requirement in needed)
