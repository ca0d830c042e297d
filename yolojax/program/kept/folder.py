"""The folder of compiled programs: another one for a while; what is damaged is removed.

JAX writes an entry straight to its name, so a killed run or a full disk leaves a part
of one. JAX only warns of it then, at every run, and never writes it anew.
"""

import contextlib
import logging
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_READING = re.compile(
    "Error reading persistent compilation cache entry for '(.*?)': (.*)", re.DOTALL
)
_WRITING = re.compile(
    "Error writing persistent compilation cache entry for '(.*?)': (.*)", re.DOTALL
)
_ZSTD = b"\x28\xb5\x2f\xfd"  # how data of that form begin
_SECONDS = 4  # bytes before a program that say how long it was compiled

log = logging.getLogger("yolojax")


@contextlib.contextmanager
def programs_kept_in(folder: Path | None) -> Iterator[None]:
    """Has compiled programs kept in another folder, or not at all, for a while.

    JAX looks at its settings once: they are of no effect without a reset.

    Args:
        folder: where they are looked for and kept; None: each is compiled anew.
    """
    names = ("jax_enable_compilation_cache", "jax_compilation_cache_dir")
    values = jax.config.values
    before = {name: values[name] for name in names}
    _set({names[0]: folder is not None, names[1]: folder and str(folder)})
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, Any]) -> None:
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def mend_entries(folder: Path) -> None:
    """Has JAX's warnings of damaged entries answered, by removing these.

    JAX warns before it compiles and writes the entry anew.

    Args:
        folder: of the compiled programs.
    """
    usual, told = warnings.showwarning, set[str]()

    def show(message: Any, *rest: Any, **options: Any) -> None:
        if found := _READING.match(str(message)):
            removed = remove_damaged(folder, found[1])
            log.info(
                "a compiled program in %s was damaged and is made anew (%d removed)",
                folder,
                removed,
            )
        elif found := _WRITING.match(str(message)):
            if "writing" not in told:  # once is enough: the disk stays full
                log.warning("compiled programs cannot be kept: %s", found[2])
            told.add("writing")
        else:
            usual(message, *rest, **options)

    warnings.showwarning = show
    # Python would show one text only once, and there may be several of a name.
    warnings.filterwarnings("always", "Error (reading|writing) persistent compilation")


def remove_damaged(folder: Path, name: str) -> int:
    """Removes the entries of a program that cannot be read; returns how many.

    Args:
        folder: of the compiled programs.
        name: of the program, as JAX calls it; several entries may have it. If all of
            them can be unpacked, what is inside of one is wrong: they all go.
    """
    entries = list(folder.glob(f"{name}-*-cache"))
    damaged = [path for path in entries if not _unpacks(path)]
    for path in damaged or entries:
        path.unlink(missing_ok=True)
    return len(damaged or entries)


def entry(folder: Path, key: str) -> Path:
    """Returns the file of a program, whether it is there or not.

    Args:
        folder: of the compiled programs.
        key: that JAX keeps it under.
    """
    return folder / f"{key}-cache"


def program(path: Path) -> bytes:
    """Returns what XLA has made, serialised, out of the file of a program."""
    return _unpacked(path)[_SECONDS:]


def _unpacks(path: Path) -> bool:
    """Whether the data of an entry are whole."""
    try:
        _unpacked(path)
    except Exception:  # of the library's own kinds; it may also be missing
        return False
    return True


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(_ZSTD):
        return zlib.decompress(data)
    import zstandard

    return zstandard.ZstdDecompressor().decompress(data)
