"""Times XLA's own convolution against the other forms of yolojax.ops.conv on a CPU.

python experiments/cpu_convolutions/run.py
"""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax

from yolojax.ops import conv

# form, [B, H, W, C], kernel side, output channels
CASES = [
    ("pointwise", (8, 40, 40, 128), 1, 128),
    ("pointwise", (8, 80, 80, 64), 1, 64),
    ("pointwise", (8, 10, 10, 256), 1, 512),
    ("depthwise", (8, 40, 40, 80), 3, 80),
    ("depthwise", (8, 20, 20, 128), 3, 128),
    ("depthwise", (8, 10, 10, 256), 3, 256),
]


def milliseconds(function, *arguments):
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(15):
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def both(function, *arguments):
    """Returns the time of the forward pass and of forward plus gradient."""
    gradient = jax.grad(
        lambda *a: jnp.square(function(*a)).sum(), range(len(arguments))
    )
    return milliseconds(jax.jit(function), *arguments), milliseconds(
        jax.jit(gradient), *arguments
    )


def report(name, native, chosen):
    ratio = [n / c for n, c in zip(native, chosen, strict=True)]
    print(
        f"{name:<44}{native[0]:9.2f}{chosen[0]:9.2f}{ratio[0]:7.1f}x"
        f"{native[1]:11.2f}{chosen[1]:9.2f}{ratio[1]:7.1f}x"
    )


def window_max(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 5, 5, 1), (1, 1, 1, 1), "SAME")


def main():
    head = f"{'case (milliseconds)':<44}{'forward':>9}{'ours':>9}{'':>8}"
    print(f"{head}{'gradient':>11}{'ours':>9}")
    for form, shape, size, features in CASES:
        groups = features if form == "depthwise" else 1
        x = jax.random.normal(jax.random.key(0), shape)
        kernel = jax.random.normal(
            jax.random.key(1), (size, size, shape[-1] // groups, features)
        )

        def run(function, groups=groups):
            return lambda a, k: function(a, k, 1, groups)

        name = f"{form} {size}x{size} {shape[-1]}->{features} at {shape[1]}x{shape[2]}"
        native = both(run(conv.native), x, kernel)
        report(name, native, both(run(conv.FORMS[form]), x, kernel))
    x = jax.random.normal(jax.random.key(0), (8, 10, 10, 128))
    native = both(window_max, x)
    ours = functools.partial(conv.max_pool, size=5)
    report("max pool 5x5 128 at 10x10", native, both(ours, x))


if __name__ == "__main__":
    main()
