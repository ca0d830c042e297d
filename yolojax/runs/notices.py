"""The warnings of a run, kept in its folder: who reads it later was not there."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

WARNINGS_FILE = "warnings.txt"


@contextlib.contextmanager
def warnings_kept(folder: Path) -> Iterator[None]:
    """Appends every warning of the body to warnings.txt in a folder, each once."""
    handler = _Appending(folder / WARNINGS_FILE)
    log = logging.getLogger("yolojax")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Appending(logging.Handler):
    """Writes warnings as lines of a file, which is made by the first of them."""

    def __init__(self, path: Path):
        super().__init__(logging.WARNING)
        self._path = path
        self._said: set[str] = set()
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            self._said.update(text.splitlines())

    def emit(self, record: logging.LogRecord) -> None:
        """Appends a line; what cannot be written was still said on the screen."""
        line = " ".join(record.getMessage().split())
        if line in self._said:
            return
        self._said.add(line)
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as f:
                f.write(f"{line}\n")
        except OSError:
            self.handleError(record)
