"""A trained network as a StableHLO program that JAX runs without this package.

The file holds the weights. Any number of pictures of one size, on CPUs, GPUs and TPUs:

    import jax.export, numpy as np
    program = jax.export.deserialize(open("yolo11n.stablehlo", "rb").read())
    (found,) = program.call(np.zeros((1, 3, 640, 640), np.float32))
"""

import dataclasses
from pathlib import Path

import jax
import jax.export
import numpy as np

from yolojax.assembly.export import Export
from yolojax.errors import install_hint
from yolojax.export.runners import Runner
from yolojax.files import replace_bytes
from yolojax.program.prediction import make_table_step

PLATFORMS = ("cpu", "cuda", "tpu")
SUFFIX = ".stablehlo"


def check(export: Export) -> None:
    """Raises ValueError where a package is missing."""
    del export
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "config.format = 'stablehlo' needs the package flatbuffers:"
            f" {install_hint('stablehlo')}"
        ) from error


def write(path: Path, export: Export) -> str:
    """Writes the program, which says nothing of itself.

    Args:
        path: the new file.
        export: the network.
    """
    # The forms of convolutions that suit a CPU best are slow elsewhere.
    net = dataclasses.replace(export.trained.net, platform="gpu")
    step, variables = make_table_step(net), jax.device_put(export.trained.variables)
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, 3, *export.options.hw), np.float32)
    with jax.default_matmul_precision("highest"):
        program = jax.export.export(
            jax.jit(lambda images: step(variables, images)), platforms=PLATFORMS
        )(images)
    data = bytes(program.serialize())
    replace_bytes(path, data)
    return f"{len(data) / 1e6:.1f} MB, for {', '.join(PLATFORMS)}"


def runner(path: Path) -> Runner:
    """Returns what runs a file, as anybody would who has JAX alone.

    Raises:
        ValueError: it is damaged.
    """
    try:
        program = jax.export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:  # flatbuffers raises whatever the bytes lead it to
        raise ValueError(f"{path} is no usable StableHLO program: {error}") from error
    call = jax.jit(program.call)
    return lambda images: [np.asarray(table) for table in call(images)]
