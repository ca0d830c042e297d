"""Kinds of accelerators: what their makers say of them, in one table with sources.

Rates are those of dense products. A GiB is 2**30 bytes, rates are decimal.
"""

import dataclasses
from typing import Literal

GB, TB, GIB, TERA = 1e9, 1e12, 2**30, 1e12

# JAX takes three quarters of a GPU's memory when it starts, and nearly all of a TPU's:
# https://docs.jax.dev/en/latest/gpu_memory_allocation.html
GPU_SHARE, TPU_SHARE = 0.75, 0.98


@dataclasses.dataclass(frozen=True)
class Processors:
    """How a GPU is built, as its compiler needs to know."""

    capability: tuple[int, int]  # compute capability
    cores: int  # streaming multiprocessors
    lanes: int  # float32 units of each
    clock: float  # boost, GHz
    cache: int  # second level, bytes
    shared: int  # shared memory of a core, bytes
    shared_block: int  # the most that one block may have of it, bytes
    threads: int = 2048  # of a core


@dataclasses.dataclass(frozen=True)
class Device:
    """A kind of device. Rates are per second."""

    title: str
    memory: int  # bytes
    bandwidth: float  # bytes of its memory
    bf16: float | None  # operations; None: it has no units for them
    fp16: float | None
    fp32: float
    source: str
    gpu: Processors | None = None  # None: a TPU
    layouts: tuple[tuple[int, str], ...] = ()  # of a TPU: chips, how they are laid out

    @property
    def platform(self) -> Literal["gpu", "tpu"]:
        """What kind of compiler it needs."""
        return "tpu" if self.gpu is None else "gpu"

    @property
    def usable(self) -> int:
        """Bytes of its memory that JAX takes for itself."""
        share = TPU_SHARE if self.gpu is None else GPU_SHARE
        return int(share * self.memory)

    def rate(self, precision: str) -> float:
        """Returns the operations per second in a precision: bf16, fp16 or fp32.

        What it has no units for it computes in float32.
        """
        known = {"bf16": self.bf16, "fp16": self.fp16}.get(precision)
        return self.fp32 if known is None else known


def _tpu(title: str, gib: int, bandwidth: float, tera: float, **more: object) -> Device:
    """A TPU chip: float32 products are six of bfloat16, float16 runs as bfloat16."""
    name = title.split()[-1]
    return Device(
        title=title,
        memory=gib * GIB,
        bandwidth=bandwidth,
        bf16=tera * TERA,
        fp16=tera * TERA,
        fp32=tera * TERA / 6,
        source=f"https://cloud.google.com/tpu/docs/{name}",
        **more,  # type: ignore[arg-type]
    )


_FLAT = ((1, "1x1"), (4, "2x2"), (8, "2x4"), (16, "4x4"), (32, "4x8"), (64, "8x8"),
         (128, "8x16"), (256, "16x16"))  # fmt: skip
_DEEP = ((4, "2x2x1"), (8, "2x2x2"), (16, "2x2x4"), (32, "2x4x4"), (64, "4x4x4"))

_KIB, _MIB = 2**10, 2**20
_HOPPER = Processors((9, 0), 132, 128, 1.98, 50 * _MIB, 228 * _KIB, 227 * _KIB)
_AMPERE = Processors((8, 0), 108, 64, 1.41, 40 * _MIB, 164 * _KIB, 163 * _KIB)


def _ada(cores: int, clock: float, cache_mib: int) -> Processors:
    """A GPU of the Ada generation."""
    cache, shared = cache_mib * _MIB, 100 * _KIB
    return Processors((8, 9), cores, 128, clock, cache, shared, 99 * _KIB, 1536)


DEVICES: dict[str, Device] = {
    "h100": Device(
        "NVIDIA H100 80GB HBM3",
        84942979072,
        3.35 * TB,
        989 * TERA,
        989 * TERA,
        67 * TERA,
        "https://www.nvidia.com/en-us/data-center/h100/",
        _HOPPER,
    ),
    "h200": Device(
        "NVIDIA H200 141GB HBM3e",
        151397597184,
        4.8 * TB,
        989 * TERA,
        989 * TERA,
        67 * TERA,
        "https://www.nvidia.com/en-us/data-center/h200/",
        _HOPPER,
    ),
    "a100-80": Device(
        "NVIDIA A100-SXM4-80GB",
        80 * GIB,
        2.039 * TB,
        312 * TERA,
        312 * TERA,
        19.5 * TERA,
        "https://www.nvidia.com/en-us/data-center/a100/",
        _AMPERE,
    ),
    "a100-40": Device(
        "NVIDIA A100-SXM4-40GB",
        40 * GIB,
        1.555 * TB,
        312 * TERA,
        312 * TERA,
        19.5 * TERA,
        "https://www.nvidia.com/en-us/data-center/a100/",
        _AMPERE,
    ),
    "l40s": Device(
        "NVIDIA L40S",
        45 * GIB,
        864 * GB,
        362 * TERA,
        362 * TERA,
        91.6 * TERA,
        "https://www.nvidia.com/en-us/data-center/l40s/",
        _ada(142, 2.52, 96),
    ),
    "l4": Device(
        "NVIDIA L4",
        int(22.5 * GIB),
        300 * GB,
        121 * TERA,
        121 * TERA,
        30.3 * TERA,
        "https://www.nvidia.com/en-us/data-center/l4/",
        _ada(58, 2.04, 48),
    ),
    "t4": Device(
        "Tesla T4",
        15 * GIB,
        320 * GB,
        None,
        65 * TERA,
        8.1 * TERA,
        "https://www.nvidia.com/en-us/data-center/tesla-t4/",
        Processors((7, 5), 40, 64, 1.59, 4 * _MIB, 64 * _KIB, 64 * _KIB, 1024),
    ),
    "v5e": _tpu("TPU v5e", 16, 819 * GB, 197, layouts=_FLAT),
    "v5p": _tpu("TPU v5p", 95, 2765 * GB, 459, layouts=_DEEP),
    "v6e": _tpu("TPU v6e", 32, 1638 * GB, 918, layouts=_FLAT),
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """What share of its bound a device reached in a real run."""

    efficiency: float  # least time of a step over its measured time, 0..1
    where: str  # it is written down


# By name of `DEVICES`: an estimate stands on a run that was seen, or there is none.
MEASURED: dict[str, Measured] = {}
