"""Files written in one step: readers see the old content or the new one."""

import os
import uuid
from pathlib import Path


def replace_bytes(path: str | Path, data: bytes) -> None:
    """Replaces a file, whose folders are made if missing.

    Raises:
        OSError: it cannot be written; an old file is still there then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: str | Path, text: str) -> None:
    """Replaces a UTF-8 text file; see `replace_bytes`."""
    # Names of files need not be UTF-8.
    replace_bytes(path, text.encode("utf-8", "backslashreplace"))
