"""Dtype policies: what the network computes in. Parameters are always float32."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp


@dataclass(frozen=True)
class Precision:
    """Compute dtype of the network's blocks, and whether the loss must be scaled.

    Parameters, batch-norm statistics, losses and decoding stay float32 (float64 when
    x64 is enabled and compute is float64).
    """

    name: str
    compute: Any
    loss_scaling: bool
    matmul: str | None = None  # jax.default_matmul_precision while it is traced
    note: str = ""  # for the log, if the choice needs a word


def resolve(amp: bool | str, platform: str) -> Precision:
    """Returns the policy that `config.amp` means on these devices.

    Args:
        amp: True, False, "bf16" or "fp16".
        platform: of the devices that the program is for: "cpu", "gpu" or "tpu".
    """
    if amp == "fp16":
        return Precision("fp16", jnp.float16, loss_scaling=True)
    if amp == "bf16" or (amp is True and platform != "cpu"):
        return Precision("bf16", jnp.bfloat16, loss_scaling=False)
    note = ""
    if amp is True:
        note = (
            "amp=True on a CPU computes in fp32 (bf16 gains nothing there;"
            " amp='bf16' forces it)"
        )
    # Accelerators would otherwise compute products of float32 in fewer bits.
    matmul = "highest" if amp is False else None
    return Precision("fp32", jnp.float32, False, matmul, note)
