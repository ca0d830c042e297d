"""Pixels of planned samples on the accelerator, as data/samples/render.py on the host.

Sources are [N, P] uint32: one row per image, one number per pixel, blue in its lowest
byte, then green and red. A gather of whole pixels reads a third as often as one of
channels, and every reading is aligned. Each output pixel first finds the one tile that
it shows and then reads its four neighbours there, however many tiles there are.

Positions, weights and rounding are those of OpenCV 5: single precision throughout.
Images and pixels are counted separately, so that no index exceeds 32 bits.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8, UInt32

GREY = 114  # where no image is
PACKED_GREY = GREY | GREY << 8 | GREY << 16
HUES = 180  # of 8-bit images; a full circle
FRACTION = 12  # bits of OpenCV's fixed-point division

Channels = tuple[Array, Array, Array]  # of one image, [S, S] each


class _Place(NamedTuple):
    """What each output pixel shows."""

    source: Int[Array, "s s"]  # row of the sources
    x: Float[Array, "s s"]  # position in it, pixel indices
    y: Float[Array, "s s"]
    height: Int[Array, "s s"]  # its size, pixels
    width: Int[Array, "s s"]
    single: Bool[Array, "s s"]  # beyond the image is grey, not its nearest pixel
    covered: Bool[Array, "s s"]  # it shows anything at all


def render_batch(
    sources: UInt32[Array, "n p"], plans: dict[str, Any], *, chunk: int
) -> UInt8[Array, "b s s 3"]:
    """Returns the images of packed plans, as RGB unless a plan says BGR.

    Args:
        sources: the images.
        plans: as `data.samples.device_plan.pack` makes them.
        chunk: samples rendered at the same time, which bounds the memory in use.
    """
    if len(plans["bgr"]) <= chunk:
        return jax.vmap(render_sample, in_axes=(None, 0))(sources, plans)
    return jax.lax.map(
        lambda plan: render_sample(sources, plan), plans, batch_size=chunk
    )


def render_sample(
    sources: UInt32[Array, "n p"], plan: dict[str, Any]
) -> UInt8[Array, "s s 3"]:
    """Returns the image of one packed plan: its arrays without their first axis."""
    place = _locate(plan["base"])
    cut = None
    if "cutmix" in plan:
        cut = _inside(plan["cutmix"]["area"], place.x.shape[0])
        place = _chosen(cut, _locate(plan["cutmix"]), place)
    image = _interpolate(sources, place)
    if "mixup" in plan:
        ratio = plan["mixup"]["ratio"]
        if cut is not None:  # pasted over the blend
            ratio = jnp.where(cut, 1.0, ratio)
        other = _interpolate(sources, _locate(plan["mixup"]))
        blue, green, red = (
            jnp.floor(a * ratio + b * (1 - ratio))
            for a, b in zip(image, other, strict=True)
        )
        image = (blue, green, red)
    if "tables" in plan:
        image = _recolour(image, plan["tables"])
    return _bytes(image, bgr=plan["bgr"])


def _bytes(image: Channels, *, bgr: Bool[Array, ""]) -> UInt8[Array, "s s 3"]:
    """Returns the image in bytes, as RGB unless `bgr`.

    Joined within one number per pixel: written at once, and computed once for all three
    channels, which a concatenation does not promise.
    """
    blue, green, red = (channel.astype(jnp.uint32) for channel in image)
    first, last = jnp.where(bgr, blue, red), jnp.where(bgr, red, blue)
    packed = first | green << 8 | last << 16
    return jax.lax.bitcast_convert_type(packed, jnp.uint8)[:, :, :3]


def _inside(area: Int[Array, "4"], size: int) -> Bool[Array, "s s"]:
    """Returns which pixels lie in an xyxy rectangle."""
    across, down = jnp.arange(size)[None], jnp.arange(size)[:, None]
    x1, y1, x2, y2 = area
    return (across >= x1) & (across < x2) & (down >= y1) & (down < y2)


def _locate(layer: dict[str, Array]) -> _Place:
    """Returns what each pixel of a canvas shows."""
    tiles, _, size = layer["spans"].shape
    across = jnp.arange(size)[None]

    def full(value: Array) -> Array:
        return jnp.broadcast_to(value, (size, size))

    place = None
    for tile in range(tiles):
        start, stop = layer["spans"][tile].astype(jnp.int32)[:, :, None]  # [S, 1] each
        covered = (across >= start) & (across < stop)  # [S, S]
        x, y = _positions(layer["inverse"][tile], size)
        height, width = layer["size"][tile]
        source, single = layer["source"][tile], layer["single"]
        sides = full(height), full(width)
        here = _Place(full(source), x, y, *sides, full(single), covered)
        # No pixel belongs to two tiles.
        place = here if place is None else _chosen(covered, here, place)
    assert place is not None
    return place


def _chosen(where: Bool[Array, "s s"], first: _Place, second: _Place) -> _Place:
    return jax.tree.map(lambda a, b: jnp.where(where, a, b), first, second)


def _positions(
    inverse: Float[Array, "3 3"], size: int
) -> tuple[Float[Array, "s s"], Float[Array, "s s"]]:
    """Returns where each output pixel lies in the source, x and y."""
    across = jnp.arange(size, dtype=jnp.float32)[None]
    down = jnp.arange(size, dtype=jnp.float32)[:, None]
    # Sums in this order, and no matrix product: accelerators round its factors.
    x, y, depth = (row[0] * across + (row[1] * down + row[2]) for row in inverse)
    return x / depth, y / depth


def _interpolate(sources: UInt32[Array, "n p"], place: _Place) -> Channels:
    """Returns blue, green and red [S, S] as whole numbers in float32.

    Reads bilinearly, beyond an image: grey or its nearest pixel.
    """
    height, width, single = place.height, place.width, place.single
    # From two pixels beyond a single image on all is grey, however far it may be.
    beyond = jnp.where(single, 2, 0).astype(jnp.float32)
    x = jnp.clip(place.x, -beyond, width - 1 + beyond)
    y = jnp.clip(place.y, -beyond, height - 1 + beyond)
    left, top = jnp.floor(x), jnp.floor(y)
    x_share, y_share = x - left, y - top
    column, row = left.astype(jnp.int32), top.astype(jnp.int32)

    def corner(row: Array, column: Array) -> Channels:
        near_row = jnp.clip(row, 0, height - 1)
        near_column = jnp.clip(column, 0, width - 1)
        value = sources.at[place.source, near_row * width + near_column].get(
            mode="promise_in_bounds", wrap_negative_indices=False
        )
        within = (near_row == row) & (near_column == column)
        value = jnp.where(place.covered & (within | ~single), value, PACKED_GREY)
        blue, green, red = (
            (value >> shift & 255).astype(jnp.float32) for shift in (0, 8, 16)
        )
        return blue, green, red

    upper = zip(corner(row, column), corner(row, column + 1), strict=True)
    lower = zip(corner(row + 1, column), corner(row + 1, column + 1), strict=True)
    channels = []
    for (a, b), (c, d) in zip(upper, lower, strict=True):
        first = a + x_share * (b - a)
        second = c + x_share * (d - c)
        channels.append(jnp.round(first + y_share * (second - first)))
    blue, green, red = channels
    return blue, green, red


def _recolour(image: Channels, tables: UInt8[Array, "256 3"]) -> Channels:
    """Returns the image with hue, saturation and value replaced by table."""
    levels = (channel.astype(jnp.int32) for channel in image)
    changed = (
        tables[:, k].at[level].get(mode="promise_in_bounds")
        for k, level in enumerate(hsv_of(*levels))
    )
    hue, saturation, value = (level.astype(jnp.int32) for level in changed)
    return bgr_of(hue, saturation, value)


def hsv_of(
    blue: Int[Array, "*n"], green: Int[Array, "*n"], red: Int[Array, "*n"]
) -> tuple[Int[Array, "*n"], Int[Array, "*n"], Int[Array, "*n"]]:
    """Returns hue (0..179), saturation and value of 8-bit colours, as OpenCV does."""
    value = jnp.maximum(jnp.maximum(blue, green), red)
    spread = value - jnp.minimum(jnp.minimum(blue, green), red)
    saturation = _divided(spread, 255.0, value)
    sixths = jnp.where(
        value == red,
        green - blue,
        jnp.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = _divided(sixths, HUES / 6, spread)
    return jnp.where(hue < 0, hue + HUES, hue), saturation, value


def _divided(
    number: Int[Array, "*n"], factor: float, by: Int[Array, "*n"]
) -> Int[Array, "*n"]:
    """Returns number * factor / by, 0 if by is 0, by OpenCV's fixed-point rule."""
    one = factor * (1 << FRACTION)
    share = jnp.round(one / jnp.maximum(by, 1).astype(jnp.float32)).astype(jnp.int32)
    rounded = (number * share + (1 << FRACTION - 1)) >> FRACTION
    return jnp.where(by > 0, rounded, 0)


def bgr_of(
    hue: Int[Array, "*n"], saturation: Int[Array, "*n"], value: Int[Array, "*n"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"], Float[Array, "*n"]]:
    """Returns blue, green and red, truncated to whole numbers as OpenCV's SIMD code.

    OpenCV's scalar code, for what is left of a row that 32 does not divide, rounds.
    """
    sixths = hue.astype(jnp.float32) * (6 / HUES)
    sector = jnp.floor(sixths)
    within = sixths - sector
    grey = saturation.astype(jnp.float32) * (1 / 255)
    bright = value.astype(jnp.float32) * (1 / 255)
    high = value.astype(jnp.float32)
    low, falling, rising = (
        jnp.floor(bright * (1 - grey * part) * 255)
        for part in (jnp.ones_like(within), within, 1 - within)
    )
    sector = sector.astype(jnp.int32) % 6
    ramps = {"v": high, "p": low, "q": falling, "t": rising}

    def by_sector(letters: str) -> Float[Array, "*n"]:
        result = ramps[letters[0]]
        for number, letter in enumerate(letters[1:], start=1):
            result = jnp.where(sector == number, ramps[letter], result)
        return result

    return by_sector("pptvvq"), by_sector("tvvqpp"), by_sector("vqpptv")
