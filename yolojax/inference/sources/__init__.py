"""Where pictures to predict on come from: files, videos, streams, addresses, arrays."""

from yolojax.inference.sources.frames import (
    Frame,
    Live,
    Reading,
    Skipped,
    UnreadableError,
    jobs,
)
from yolojax.inference.sources.listing import Item, listed

__all__ = [
    "Frame",
    "Item",
    "Live",
    "Reading",
    "Skipped",
    "UnreadableError",
    "jobs",
    "listed",
]
