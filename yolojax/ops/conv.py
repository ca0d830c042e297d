"""Convolution and pooling, in the form that is fastest on the devices that it is for.

XLA's CPU backend is several times slower than plain matrix products and elementwise
arithmetic for pointwise and depthwise convolutions and for strided pooling windows;
`experiments/cpu_convolutions` measures both forms. GPUs and TPUs keep XLA's own
convolutions, which are the vendors' kernels there.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Form = Literal["native", "pointwise", "depthwise"]


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    groups: int = 1,
    platform: str | None = None,
) -> jax.Array:
    """Returns the cross-correlation with symmetric padding k // 2.

    Args:
        x: [B, H, W, C] input.
        kernel: [k, k, C / groups, features] weights.
        stride: step in both directions.
        groups: 1, or C for a depthwise convolution.
        platform: of the devices that the program is compiled for; None: the default.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), features] for odd k.
    """
    platform = platform or jax.default_backend()
    form = best_form(kernel.shape, stride, groups, platform)
    return FORMS[form](x, kernel, stride, groups)


def best_form(
    kernel_shape: tuple[int, ...], stride: int, groups: int, platform: str
) -> Form:
    """Returns the name of the fastest form of a convolution on a platform."""
    size, _, inputs, features = kernel_shape
    if platform != "cpu":
        return "native"
    if size == 1 and stride == 1 and groups == 1:
        return "pointwise"
    if inputs == 1 and groups == features and stride == 1:
        return "depthwise"
    return "native"


def native(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    """Returns XLA's own convolution."""
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def pointwise(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    """Returns a 1x1 convolution as one matrix product."""
    del stride, groups
    return jnp.einsum("bhwc,cd->bhwd", x, kernel[0, 0])


def depthwise(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    """Returns a depthwise convolution as shifted multiply-adds."""
    del stride, groups
    size = kernel.shape[0]
    pad = size // 2
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    products = [
        padded[:, row : row + height, column : column + width]
        * kernel[row, column][None, None]
        for row in range(size)
        for column in range(size)
    ]
    return functools.reduce(jnp.add, products)


FORMS = {
    "native": native,
    "pointwise": pointwise,
    "depthwise": depthwise,
}


def max_pool(x: jax.Array, size: int) -> jax.Array:
    """Returns the maximum over size x size windows at stride 1, same shape.

    Shifted maxima, rows then columns, on every backend: quicker than a pooling window
    on a CPU, and the gradient is a deterministic sum on a GPU.

    Args:
        x: [B, H, W, C].
        size: odd window side; the border never wins.
    """
    pad = size // 2
    low = -jnp.inf
    for axis in (1, 2):
        widths = [(pad, pad) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(x, widths, constant_values=low)
        length = x.shape[axis]
        parts = [
            lax.slice_in_dim(padded, start, start + length, axis=axis)
            for start in range(size)
        ]
        x = functools.reduce(jnp.maximum, parts)
    return x


def upsample2(x: jax.Array) -> jax.Array:
    """Returns x at twice the height and width, nearest neighbour."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)


class Enlarged(NamedTuple):
    """A map that stands for itself at twice its height and width."""

    small: jax.Array  # [B, H, W, C]


class Joined(NamedTuple):
    """An enlarged map and a finer one, joined along channels without being copied."""

    small: jax.Array  # [B, H / 2, W / 2, C]
    fine: jax.Array  # [B, H, W, D]

    @property
    def channels(self) -> int:
        """Those of the two together."""
        return self.small.shape[-1] + self.fine.shape[-1]


def pointwise_of_joined(
    x: Joined, kernel: jax.Array, platform: str | None = None
) -> jax.Array:
    """Returns the 1x1 convolution [B, H, W, features] of two maps as if they were one.

    A pixel's neighbours come from one pixel of the small map: it is convolved before it
    is enlarged, a quarter of the work, and nothing of the sum of channels is written.

    Args:
        x: the maps.
        kernel: [1, 1, C + D, features].
        platform: as `conv2d` takes it.
    """
    channels = x.small.shape[-1]
    small = conv2d(x.small, kernel[:, :, :channels], platform=platform)
    fine = conv2d(x.fine, kernel[:, :, channels:], platform=platform)
    return upsample2(small) + fine


def as_array(x: Any) -> jax.Array:
    """Returns a map [B, H, W, C] that may only have been described."""
    if isinstance(x, Enlarged):
        return upsample2(x.small)
    if isinstance(x, Joined):
        return jnp.concatenate([upsample2(x.small), x.fine], axis=-1)
    return x
