"""Described devices: meshes of them, for which programs can be compiled.

XLA's compilers for GPUs and TPUs need no device. A program for such a mesh is lowered
and compiled like any other; it tells its memory and its text, but cannot be run. It
takes the package of the device's compiler (`jax[cuda12]`, `jax[tpu]`), one of them in a
process, whose environment is that of `environment`, set before JAX is loaded.

Without the device the GPU compiler cannot try out what is fastest: it takes the default
algorithms of the libraries, so a program is close to the one of a real device, and the
scratch memory of convolutions is not in its account.
"""

import dataclasses
import importlib.util
from typing import TYPE_CHECKING, Literal

import numpy as np

from yolojax.devices.known import DEVICES, Device
from yolojax.registry import did_you_mean

if TYPE_CHECKING:  # JAX is loaded once its environment is set
    from jax.sharding import Mesh

Platform = Literal["gpu", "tpu"]

PACKAGES: dict[Platform, tuple[str, str]] = {  # module to look for, what installs it
    "gpu": ("jax_cuda12_plugin", "jax[cuda12]"),
    "tpu": ("libtpu", "jax[tpu]"),
}
ENVIRONMENT: dict[Platform, dict[str, str]] = {
    "gpu": {
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # which would ask for a driver
        "XLA_FLAGS": "--xla_gpu_autotune_level=0",  # which would run kernels
    },
    "tpu": {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",  # else it asks a cloud what machine this is
        "TPU_WORKER_HOSTNAMES": "localhost",
    },
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of device."""

    platform: Platform
    description: str  # what its compiler asks for: a name, or a text of figures


# A GpuTargetConfigProto in text form; what is the same for all of them stands here.
_GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024  threads_per_warp: 32
  shared_memory_per_block: 49152  shared_memory_per_core: {shared}
  shared_memory_per_block_optin: {shared_block}
  threads_per_core_limit: {threads}  core_count: {cores}  fpus_per_core: {lanes}
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}  l2_cache_size: {cache}  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{title}"
"""


def _described(name: str, device: Device) -> Target:
    """Returns a device as its compiler asks for it."""
    if device.gpu is None:
        return Target("tpu", name)
    figures = dataclasses.asdict(device.gpu)
    major, minor = figures.pop("capability")
    text = _GPU.format(
        bandwidth=int(device.bandwidth),
        memory=device.memory,
        title=device.title,
        major=major,
        minor=minor,
        **figures,
    )
    return Target("gpu", text)


TARGETS = {name: _described(name, device) for name, device in DEVICES.items()}


def absent_mesh(name: str, count: int = 1) -> "Mesh":
    """Returns a one-axis mesh of described devices, in the form of a run's.

    Args:
        name: key of `TARGETS`.
        count: of devices.

    Raises:
        ValueError: an unknown device, or its compiler is not installed.
    """
    from jax.experimental import topologies
    from jax.sharding import AxisType, Mesh

    target = target_of(name)
    module, package = PACKAGES[target.platform]
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"{name} needs the compiler of such devices, which is not installed here."
            f" pip install '{package}' does."
        )
    if target.platform == "gpu":
        topology = topologies.get_topology_desc(
            platform="cuda",
            topology_name="",
            # slices, hosts, GPUs of a host, of which there are eight as a rule
            topology=f"1x{count // 8}x8" if count % 8 == 0 else f"1x1x{count}",
            target_config=target.description,
        )
    else:
        topology = topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{target.description}:{chips_text(name, count)}",
            **({"chips_per_host_bounds": (1, 1, 1)} if count == 1 else {}),
        )
    return Mesh(np.array(topology.devices), ("data",), axis_types=(AxisType.Auto,))


def target_of(name: str) -> Target:
    """Returns a kind of device.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in TARGETS:
        raise ValueError(
            f"{name!r} is no device that is known.{did_you_mean(name, TARGETS)} Use one"
            f" of {', '.join(TARGETS)}."
        )
    return TARGETS[name]


def chips_text(name: str, count: int) -> str:
    """Returns how so many TPU chips are laid out, "2x2".

    Raises:
        ValueError: so many make no slice.
    """
    layouts = dict(DEVICES[name].layouts)
    if count not in layouts:
        raise ValueError(
            f"{name}: {count} chips are no slice; use one of"
            f" {', '.join(map(str, layouts))}."
        )
    return layouts[count]
