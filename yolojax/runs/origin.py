"""Which code a run was made with."""

import subprocess
from pathlib import Path

import yolojax


def commit() -> str | None:
    """Returns the commit of the package's own code; None where it is not known."""
    folder = Path(yolojax.__file__).parent
    words = ("git", "-C", str(folder))
    try:
        # Installed packages may lie in somebody else's repository.
        ours = subprocess.run(
            [*words, "ls-files", "--error-unmatch", "__init__.py"],
            capture_output=True,
            timeout=10,
        )
        told = subprocess.run(
            [*words, "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    done = ours.returncode == 0 and told.returncode == 0
    return told.stdout.strip() if done else None
