"""The code that steps are made of, by its files, and what it runs on and with."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

import jax

from yolojax import registry
from yolojax.data.store.host_cores import usable_cores

VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes")  # that decide
# How names of environment variables begin that compilers read.
VARIABLES = ("XLA_", "TF_", "LIBTPU_", "TPU_", "CUDA_", "NVIDIA_", "NCCL_", "ROCM_")
# How settings of JAX begin that say where programs are kept, not what they are.
ELSEWHERE = ("jax_compilation_cache", "jax_persistent_cache", "jax_enable_compilation")

_PACKAGE = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Code:
    """The files of the package at some moment."""

    digest: str  # of what is in them
    seen: tuple[tuple[str, int, int], ...]  # path, nanoseconds when changed, bytes

    def stands(self) -> bool:
        """Whether the files are the same still, and no code but theirs was imported.

        What the user's own modules do cannot be told from files: a network or an
        optimiser of theirs, or whatever they have changed in ours.
        """
        ours = bool(self.seen) and not registry.own_modules()  # none are in an archive
        return ours and not _changing() and self.seen == _seen()


def read() -> Code:
    """Returns the files as they are now.

    To be called before what steps are made of is imported: a file that changes
    afterwards is seen by `stands`, whatever Python has read of it.
    """
    seen = _seen()
    digest = hashlib.sha256()
    for name, *_ in seen:
        data = (_PACKAGE / name).read_bytes()
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return Code(digest.hexdigest(), seen)


def surroundings() -> str:
    """Returns all that decides what a step is compiled to beside it and its devices."""
    values = jax.config.values
    settings = {k: v for k, v in values.items() if not k.startswith(ELSEWHERE)}
    variables = {k: v for k, v in os.environ.items() if k.startswith(VARIABLES)}
    return "\n".join((_installed(), str(sorted(settings.items(), key=str)),
                      str(sorted(variables.items())), str(usable_cores())))  # fmt: skip


@functools.cache
def _installed() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in VERSIONS]
    return "\n".join((sys.version, *versions, _processor()))


@functools.cache
def _changing() -> bool:
    """Whether a package may change without another version, as one of a checkout."""
    origins = (importlib.metadata.distribution(name).read_text("direct_url.json")
               for name in VERSIONS)  # fmt: skip
    found = (json.loads(text).get("dir_info", {}) for text in origins if text)
    return any(told.get("editable", False) for told in found)


def _processor() -> str:
    """Returns what the processor is, and what it can do where that is known."""
    told: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                told.setdefault(name.strip(), value.strip())
                if not line.strip():  # the end of the first core
                    break
    except OSError:  # no Linux
        pass
    fixed = ("model name", "flags", "Features", "CPU part")
    known = [told.get(name, "") for name in fixed]
    return "\n".join((platform.machine(), platform.processor(), *known))


def _seen() -> tuple[tuple[str, int, int], ...]:
    found = []
    for path in sorted(_PACKAGE.rglob("*.py")):
        status = path.stat()
        name = str(path.relative_to(_PACKAGE))
        found.append((name, status.st_mtime_ns, status.st_size))
    return tuple(found)
