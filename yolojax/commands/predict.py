"""Finds things in pictures and videos: `--mode predict`, and `--mode track`."""

from pathlib import Path
from typing import Any

from yolojax.inference import session


def run(config: Any, workdir: Path | None) -> None:
    """Looks at config.source and writes what is found into a folder."""
    session.to_files(config, workdir, "predict")


def track(config: Any, workdir: Path | None) -> None:
    """Does the same and keeps identities from frame to frame."""
    session.to_files(config, workdir, "track")
