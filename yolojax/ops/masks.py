"""Masks as mixtures of prototypes: mixing, cropping to boxes, sizes.

Reference: Bolya et al. 2019, YOLACT, arXiv:1904.02689.

Axes: B images, D detections, N masks of one image, h w pixels of a mask, C prototypes.
"""

import math
from collections.abc import Iterator, Sequence

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from yolojax.ops.boxes import letterbox_geometry

CHUNK = 16  # masks of each image that are held at once
PROTO_STRIDE = 4  # input pixels per pixel of a prototype


def mix(
    coefficients: Float[Array, "b n c"], protos: Float[Array, "b h w c"]
) -> Float[Array, "b n h w"]:
    """Returns the mask logits; full precision on every backend."""
    return jnp.einsum(
        "bnc,bhwc->bnhw", coefficients, protos, precision=jax.lax.Precision.HIGHEST
    )


def inside_boxes(
    boxes: Float[Array, "*n 4"], height: int, width: int
) -> Bool[Array, "*n h w"]:
    """Returns which pixels lie in boxes given as xyxy in pixels of the mask.

    A pixel lies in a box when its index does: x1 <= column < x2, y1 <= row < y2.
    """
    x1, y1, x2, y2 = (boxes[..., i, None, None] for i in range(4))  # [*n, 1, 1]
    lead = (1,) * (boxes.ndim - 1)
    columns = jnp.arange(width, dtype=boxes.dtype).reshape(*lead, 1, width)
    rows = jnp.arange(height, dtype=boxes.dtype).reshape(*lead, height, 1)
    return (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)


def resize(maps: Float[Array, "b h w c"], height: int, width: int) -> jax.Array:
    """Returns maps of another size: bilinear, half-pixel centres, no antialiasing."""
    if maps.shape[1:3] == (height, width):
        return maps
    shape = (maps.shape[0], height, width, maps.shape[3])
    return jax.image.resize(maps, shape, "bilinear", antialias=False)


def packed_masks(
    coefficients: Float[Array, "b d c"],
    protos: Float[Array, "b h w c"],
    boxes: Float[Array, "b d 4"],
    count: Int[Array, " b"],
) -> UInt8[Array, "b d h bytes"]:
    """Returns the masks of detections at the prototypes' size, eight pixels a byte.

    Bits are in the order of `numpy.packbits`. Only a few masks of each image exist
    unpacked at any time, and none is made after the last detection of all images.

    Args:
        coefficients: of each detection.
        protos: prototypes of each image.
        boxes: xyxy in pixels of the prototypes; masks are cropped to them.
        count: detections of each image, the first ones; the others' masks are empty.
    """
    b, slots, _ = boxes.shape
    _, height, width, _ = protos.shape
    chunk = max(min(CHUNK, slots), 1)
    rows = max(-(-slots // chunk), 1) * chunk
    widths = ((0, 0), (0, rows - slots), (0, 0))
    coefficients, boxes = jnp.pad(coefficients, widths), jnp.pad(boxes, widths)
    real = jnp.arange(rows)[None] < count[:, None]  # [B, rows]

    def body(i: jax.Array, packed: jax.Array) -> jax.Array:
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, i * chunk, chunk, axis=1)
        shown = mix(part(coefficients), protos) > 0
        shown &= inside_boxes(part(boxes), height, width)
        bits = jnp.packbits(shown & part(real)[..., None, None], axis=-1)
        return jax.lax.dynamic_update_slice_in_dim(packed, bits, i * chunk, axis=1)

    empty = jnp.zeros((b, rows, height, -(-width // 8)), jnp.uint8)
    used = -(-count.max(initial=0) // chunk)
    return jax.lax.fori_loop(0, used, body, empty)[:, :slots]


def masks_at_input(
    coefficients: Float[np.ndarray, "n c"],
    protos: Float[np.ndarray, "h w c"],
    boxes: Float[np.ndarray, "n 4"],
    input_hw: tuple[int, int],
) -> Bool[np.ndarray, "n H W"]:
    """Returns smooth masks of one image's detections at the network's input size.

    Args:
        coefficients: of each detection.
        protos: prototypes of the image.
        boxes: xyxy in input pixels; masks are cropped to them.
        input_hw: height and width of the network input.
    """
    masks = np.zeros((len(boxes), *input_hw), bool)
    for mask, logits, box in zip(
        masks, _mix_on_host(coefficients, protos), boxes, strict=True
    ):
        _fill(mask, _resize_on_host(logits, *input_hw), box)
    return masks


def masks_at_original(
    coefficients: Float[np.ndarray, "n c"],
    protos: Float[np.ndarray, "h w c"],
    boxes: Float[np.ndarray, "n 4"],
    original_hw: tuple[int, int],
) -> Bool[np.ndarray, "n H W"]:
    """Returns smooth masks of one image's detections at the original image's size.

    The logits are enlarged until the padding around the letterboxed image is a whole
    number of pixels, cut, and resized once more.

    Args:
        coefficients: of each detection.
        protos: prototypes of the letterboxed image.
        boxes: xyxy in pixels of the original image; masks are cropped to them.
        original_hw: height and width of the original image.
    """
    height, width = original_hw
    rows, columns = protos.shape[:2]
    factor = _whole_padding_factor((rows, columns), original_hw)
    size = (factor * rows, factor * columns)
    gain_h, gain_w, left, top = letterbox_geometry(size, original_hw)
    # The content's size is exact: the gains are this size over the original one.
    content_h, content_w = round(gain_h * height), round(gain_w * width)
    window = (
        slice(int(top), int(top) + content_h),
        slice(int(left), int(left) + content_w),
    )
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, logits, box in zip(
        masks, _mix_on_host(coefficients, protos), boxes, strict=True
    ):
        large = _resize_on_host(logits, *size)
        if size != original_hw:
            large = _resize_on_host(large[window], height, width)
        _fill(mask, large, box)
    return masks


def packed_at_original(
    packed: UInt8[np.ndarray, "n h bytes"],
    boxes: Float[np.ndarray, "n 4"],
    letterbox: Sequence[float],
    original_hw: tuple[int, int],
) -> Iterator[UInt8[np.ndarray, "H W"]]:
    """Yields the masks of one image's detections at the original image's size.

    A pixel is set where the packed mask, interpolated bilinearly at its centre, is
    above one half. Only one mask exists at any time.

    Args:
        packed: of `packed_masks`, at the prototypes' size.
        boxes: xyxy in pixels of the original image; masks are cropped to them.
        letterbox: gain_h, gain_w, pad_left, pad_top kept by the loader.
        original_hw: height and width of the original image.

    Yields:
        Masks with 0 and 1.
    """
    height, width = original_hw
    gain_h, gain_w, left, top = (float(value) for value in letterbox)
    rows = _between(height, gain_h, top, packed.shape[1])
    columns = _between(width, gain_w, left, 8 * packed.shape[2])
    for bits, box in zip(packed, boxes, strict=True):
        mask = np.zeros(original_hw, np.uint8)
        window = _window(box, original_hw)
        (low_y, high_y, share_y), (low_x, high_x, share_x) = (
            [values[part] for values in axis]
            for axis, part in zip((rows, columns), window, strict=True)
        )
        small = np.unpackbits(bits, axis=-1).astype(np.float32)
        tall = small[low_y] + share_y[:, None] * (small[high_y] - small[low_y])
        shown = tall[:, low_x] + share_x * (tall[:, high_x] - tall[:, low_x])
        mask[window] = shown > 0.5
        yield mask


def _between(
    size: int, gain: float, pad: float, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns between which two of `count` pixels each of the original's lies.

    Pixels of the padding are not looked at.

    Args:
        size: of the original image, pixels.
        gain: input pixels per pixel of the original.
        pad: padding before the image, input pixels.
        count: pixels of the packed mask.

    Returns:
        First, second, and the share of the second, [size] each.
    """
    first = min(max(math.ceil(pad / PROTO_STRIDE - 0.5), 0), count - 1)
    end = (pad + gain * size) / PROTO_STRIDE
    last = max(min(math.floor(end - 0.5), count - 1), first)
    at = ((np.arange(size) + 0.5) * gain + pad) / PROTO_STRIDE - 0.5
    at = at.clip(first, last)
    low = np.floor(at).astype(np.int64)
    return low, np.minimum(low + 1, last), (at - low).astype(np.float32)


def _whole_padding_factor(proto_hw: tuple[int, int], original_hw: tuple[int, int]):
    """Returns the enlargement, 1, 2 or 4, at which half the padding is whole."""
    input_h, input_w = (PROTO_STRIDE * side for side in proto_hw)
    height, width = original_hw
    gain = min(input_h / height, input_w / width)
    pad = (input_h - max(round(height * gain), 1)) | (
        input_w - max(round(width * gain), 1)
    )
    return PROTO_STRIDE // math.gcd(PROTO_STRIDE, pad | (pad // 2))


def _mix_on_host(coefficients: np.ndarray, protos: np.ndarray):
    """Yields the mask logits [h, w] of each detection."""
    height, width, channels = protos.shape
    flat = protos.reshape(-1, channels).astype(np.float32)
    for row in np.asarray(coefficients, np.float32):
        yield (flat @ row).reshape(height, width)


def _resize_on_host(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns logits of another size: bilinear, half-pixel centres, clamped edges."""
    if logits.shape == (height, width):
        return logits
    return cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)


def _fill(mask: np.ndarray, logits: np.ndarray, box: np.ndarray) -> None:
    """Sets the pixels inside the box whose logit is above 0."""
    window = _window(box, mask.shape)
    mask[window] = logits[window] > 0


def _window(box: np.ndarray, hw: tuple[int, ...]) -> tuple[slice, slice]:
    """Returns rows and columns whose index lies in a box, within an image."""
    height, width = hw
    x1, y1, x2, y2 = (math.ceil(side) for side in box)  # the first index inside
    return (
        slice(min(max(y1, 0), height), min(max(y2, 0), height)),
        slice(min(max(x1, 0), width), min(max(x2, 0), width)),
    )
