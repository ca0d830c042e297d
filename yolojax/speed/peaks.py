"""What devices can compute at most, to say which share of it a program uses."""

from typing import NamedTuple

_NVIDIA = "NVIDIA {} data sheet, half of what it says for sparse operands"
_GOOGLE = "Google Cloud documentation, TPU {}"


class Peak(NamedTuple):
    """The most that one device does, in bfloat16 with dense operands."""

    flops: float  # a second; a multiplication and an addition are two
    source: str


_H100 = Peak(989e12, _NVIDIA.format("H100 SXM"))
_A100 = Peak(312e12, _NVIDIA.format("A100"))
_V5E, _V6E = (
    Peak(flops, _GOOGLE.format(name))
    for flops, name in ((197e12, "v5e"), (918e12, "v6e"))
)
_V5P = Peak(459e12, _GOOGLE.format("v5p"))
# By the whole `device_kind`: another version of a card, or a part of one, has a peak of
# its own that is not known here.
PEAKS = {
    "NVIDIA H100 80GB HBM3": _H100,
    "NVIDIA H200": Peak(989e12, _NVIDIA.format("H200 SXM")),
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "TPU v5 lite": _V5E,
    "TPU v5e": _V5E,
    "TPU v5": _V5P,
    "TPU v5p": _V5P,
    "TPU v6 lite": _V6E,
    "TPU v6e": _V6E,
}


def peak_of(kind: str) -> Peak | None:
    """Returns the peak of a device by its `device_kind`, None if it is not known."""
    return PEAKS.get(kind)
