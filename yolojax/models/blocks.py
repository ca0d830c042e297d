"""Blocks shared by backbones, necks and heads.

Axes: B batch, H height, W width, C channels. Images and features are NHWC.

Submodule names are an interface: joined with "/", and with `_<number>` read as
`.<number>`, the parameter paths are the names that published YOLO11 weights use.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError

from yolojax.ops import batch_norm, conv


@dataclasses.dataclass(frozen=True)
class Norm:
    """Constants of a network's batch norms."""

    epsilon: float  # added to the variance
    momentum: float  # weight of the new batch in the running statistics


DETECTION_NORM = Norm(epsilon=1e-3, momentum=0.03)
CLASSIFICATION_NORM = Norm(epsilon=1e-5, momentum=0.1)


@dataclasses.dataclass(frozen=True)
class Pass:
    """How a forward pass treats batch norm and dropout."""

    train: bool  # normalise with, and update from, the batch's own statistics
    example_valid: jax.Array | None = None  # [B] bool, rows that count; None: all
    frozen: frozenset[str] = frozenset()  # batch norms, "model_0/bn", never in training
    dropout_key: jax.Array | None = None  # None: nothing is dropped
    norm: Norm = DETECTION_NORM  # the network replaces it by that of its head
    platform: str | None = None  # it is compiled for, "cpu"; None: JAX's default
    groups: int | None = None  # of rows, with statistics [groups, C]; None: one, [C]


INFERENCE = Pass(train=False)


def uniform_fan_in(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Returns a kernel drawn uniformly from +-1/sqrt(fan_in), fan_in = k*k*C/groups."""
    fan_in = 1
    for side in shape[:-1]:
        fan_in *= side
    bound = fan_in**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def uniform_bias(fan_in: int) -> nn.initializers.Initializer:
    """Returns the maker of a bias drawn uniformly from +-1/sqrt(fan_in)."""
    return lambda key, shape, dtype: jax.random.uniform(
        key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5
    )


def parameter(
    module: nn.Module,
    name: str,
    init: nn.initializers.Initializer,
    shape: tuple[int, ...],
    *dtype: Any,
) -> jax.Array:
    """Returns `module.param(name, init, shape, *dtype)`.

    Flax traces `init` for each parameter that is there already, to compare shapes: a
    quarter of what tracing a network takes, half without gradients. Here the shape
    itself is compared.

    Raises:
        flax.errors.ScopeParamShapeError: the parameter has another shape.
    """
    if not module.has_variable("params", name):
        return module.param(name, init, shape, *dtype)
    value: jax.Array = module.get_variable("params", name)
    if value.shape != shape:
        path = "/".join(module.path)
        raise ScopeParamShapeError(name, path, value.shape, shape)
    return value


class BatchNorm(nn.Module):
    """Batch normalisation whose running variance uses the unbiased batch variance.

    `flax.linen.BatchNorm` stores the biased variance; published weights and their
    recipe assume N / (N - 1) times that. Statistics are computed in float32 at least,
    and over the whole global batch when the batch is sharded under jit, or over each of
    the groups of rows that the pass asks for: running statistics come out for each.

    Reference: Ioffe and Szegedy 2015, arXiv:1502.03167.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        channels = (x.shape[-1],)
        scale = parameter(self, "scale", nn.initializers.ones, channels)
        bias = parameter(self, "bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        epsilon, momentum = mode.norm.epsilon, mode.norm.momentum
        if not mode.train or "/".join(self.path) in mode.frozen:
            mean, var = running_mean.value, running_var.value
            form = batch_norm.scale_and_shift(scale, bias, mean, var, epsilon)
            return batch_norm.apply(x, *form).astype(self.dtype)
        platform = mode.platform or jax.default_backend()
        before = running_mean.value, running_var.value
        inputs = x, scale, bias, before[0], mode.example_valid, epsilon, platform
        if mode.groups is None:
            out, (mean, var, count) = batch_norm.normalised(*inputs)
        else:
            out, (mean, var, count) = batch_norm.normalised_by_group(
                *inputs, mode.groups
            )
            before = before[0][None], before[1][None]
            count = count[:, None]
        if not self.is_initializing():
            unbiased = var * (count / jnp.maximum(count - 1, 1))
            running_mean.value = before[0] + momentum * (mean - before[0])
            running_var.value = before[1] + momentum * (unbiased - before[1])
        return out.astype(self.dtype)


class Conv(nn.Module):
    """A convolution's kernel without bias, symmetric padding."""

    features: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array | conv.Joined, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H/stride, W/stride, features]; joined maps for 1x1."""
        channels = x.channels if isinstance(x, conv.Joined) else x.shape[-1]
        shape = (self.kernel, self.kernel, channels // self.groups, self.features)
        kernel = parameter(self, "kernel", uniform_fan_in, shape, jnp.float32)
        kernel = kernel.astype(self.dtype)
        if isinstance(x, conv.Joined):
            x = conv.Joined(*(part.astype(self.dtype) for part in x))
            return conv.pointwise_of_joined(x, kernel, mode.platform)
        return conv.conv2d(
            x.astype(self.dtype),
            kernel,
            stride=self.stride,
            groups=self.groups,
            platform=mode.platform,
        )


class ConvBN(nn.Module):
    """Convolution without bias, then batch norm, then SiLU unless `act` is off."""

    features: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    act: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array | conv.Joined, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H/stride, W/stride, features]; joined maps for 1x1."""
        x = Conv(
            self.features,
            self.kernel,
            self.stride,
            self.groups,
            dtype=self.dtype,
            name="conv",
        )(x, mode=mode)
        x = BatchNorm(dtype=self.dtype, name="bn")(x, mode=mode)
        return nn.silu(x) if self.act else x


class Bottleneck(nn.Module):
    """Two 3x3 convolutions with a residual connection where shapes allow it."""

    features: int
    expansion: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, features]."""
        hidden = int(self.features * self.expansion)
        y = ConvBN(hidden, 3, dtype=self.dtype, name="cv1")(x, mode=mode)
        y = ConvBN(self.features, 3, dtype=self.dtype, name="cv2")(y, mode=mode)
        return x + y if x.shape == y.shape else y


class C3k(nn.Module):
    """Cross-stage block: a chain of bottlenecks beside a shortcut convolution."""

    features: int
    repeats: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, features]."""
        hidden = self.features // 2
        y = ConvBN(hidden, dtype=self.dtype, name="cv1")(x, mode=mode)
        for i in range(self.repeats):
            y = Bottleneck(hidden, 1.0, dtype=self.dtype, name=f"m_{i}")(y, mode=mode)
        z = ConvBN(hidden, dtype=self.dtype, name="cv2")(x, mode=mode)
        out = jnp.concatenate([y, z], axis=-1)
        return ConvBN(self.features, dtype=self.dtype, name="cv3")(out, mode=mode)


class C3k2(nn.Module):
    """Split, chain inner blocks, keep every intermediate, join."""

    features: int
    repeats: int
    c3k: bool  # inner blocks are C3k, else Bottleneck
    expansion: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array | conv.Joined, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, features]."""
        hidden = int(self.features * self.expansion)
        y = ConvBN(2 * hidden, dtype=self.dtype, name="cv1")(x, mode=mode)
        parts = [y[..., :hidden], y[..., hidden:]]
        for i in range(self.repeats):
            block = (
                C3k(hidden, dtype=self.dtype, name=f"m_{i}")
                if self.c3k
                else Bottleneck(hidden, 0.5, dtype=self.dtype, name=f"m_{i}")
            )
            parts.append(block(parts[-1], mode=mode))
        out = jnp.concatenate(parts, axis=-1)
        return ConvBN(self.features, dtype=self.dtype, name="cv2")(out, mode=mode)


class SPPF(nn.Module):
    """Spatial pyramid pooling: three chained 5x5 maxima, joined."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, features]."""
        hidden = x.shape[-1] // 2
        parts = [ConvBN(hidden, dtype=self.dtype, name="cv1")(x, mode=mode)]
        for _ in range(3):
            parts.append(conv.max_pool(parts[-1], 5))
        out = jnp.concatenate(parts, axis=-1)
        return ConvBN(self.features, dtype=self.dtype, name="cv2")(out, mode=mode)


class Attention(nn.Module):
    """Multi-head self-attention over pixels, with a depthwise position term.

    Reference: Vaswani et al. 2017, arXiv:1706.03762.
    """

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        b, h, w, channels = x.shape
        value_dim = channels // self.heads
        key_dim = value_dim // 2
        qkv = ConvBN(
            channels + 2 * self.heads * key_dim,
            act=False,
            dtype=self.dtype,
            name="qkv",
        )(x, mode=mode)
        qkv = qkv.reshape(b, h * w, self.heads, 2 * key_dim + value_dim)
        query, key, value = jnp.split(qkv, [key_dim, 2 * key_dim], axis=-1)
        logits = jnp.einsum("bnhd,bmhd->bhnm", query * key_dim**-0.5, key)
        weights = nn.softmax(
            logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        ).astype(self.dtype)
        out = jnp.einsum("bhnm,bmhd->bnhd", weights, value)
        value = value.reshape(b, h, w, channels)
        position = ConvBN(
            channels, 3, groups=channels, act=False, dtype=self.dtype, name="pe"
        )(value, mode=mode)
        out = out.reshape(b, h, w, channels) + position
        return ConvBN(channels, act=False, dtype=self.dtype, name="proj")(
            out, mode=mode
        )


class PSABlock(nn.Module):
    """Attention and a two-layer perceptron, each with a residual connection."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        channels = x.shape[-1]
        x = x + Attention(self.heads, dtype=self.dtype, name="attn")(x, mode=mode)
        y = ConvBN(2 * channels, dtype=self.dtype, name="ffn_0")(x, mode=mode)
        y = ConvBN(channels, act=False, dtype=self.dtype, name="ffn_1")(y, mode=mode)
        return x + y


class C2PSA(nn.Module):
    """Split; one half passes attention blocks; join."""

    repeats: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        channels = x.shape[-1]
        hidden = channels // 2
        y = ConvBN(2 * hidden, dtype=self.dtype, name="cv1")(x, mode=mode)
        a, b = y[..., :hidden], y[..., hidden:]
        for i in range(self.repeats):
            block = PSABlock(attention_heads(hidden), dtype=self.dtype, name=f"m_{i}")
            b = block(b, mode=mode)
        out = jnp.concatenate([a, b], axis=-1)
        return ConvBN(channels, dtype=self.dtype, name="cv2")(out, mode=mode)


def attention_heads(channels: int) -> int:
    """Returns how many heads attend to features of so many channels."""
    return max(channels // 64, 1)


class Proto(nn.Module):
    """Mask prototypes at twice the height and width of the input."""

    width: int  # hidden channels
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, mode: Pass) -> jax.Array:
        """[B, H, W, C] -> [B, 2H, 2W, features]."""
        x = ConvBN(self.width, 3, dtype=self.dtype, name="cv1")(x, mode=mode)
        x = TransposedConv(dtype=self.dtype, name="upsample")(x)
        x = ConvBN(self.width, 3, dtype=self.dtype, name="cv2")(x, mode=mode)
        return ConvBN(self.features, dtype=self.dtype, name="cv3")(x, mode=mode)


class TransposedConv(nn.Module):
    """Transposed 2x2 convolution of stride 2 with bias, same channels.

    Windows do not overlap, so it is one matrix product per output corner.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, 2H, 2W, C]."""
        b, h, w, c = x.shape
        # The fan-in counts outputs in the published rule; here both are C.
        kernel = parameter(self, "kernel", uniform_fan_in, (2, 2, c, c), jnp.float32)
        bias = parameter(self, "bias", uniform_bias(4 * c), (c,), jnp.float32)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        x = jnp.einsum("bhwc,ijcd->bhiwjd", x, kernel).reshape(b, 2 * h, 2 * w, c)
        return x + bias.astype(self.dtype)[None, None, None]
