"""How the built-in shapes are painted: backgrounds, textures, edges, camera."""

import colorsys
import dataclasses
import functools
import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]  # float32 unless a comment says otherwise


@dataclasses.dataclass(frozen=True)
class Placed:
    """A shape in its place; lengths in picture sides."""

    class_id: int
    outline: Array  # [P, 2]
    keypoints: Array  # [K, 2]
    rotated_box: tuple[float, float, float, float, float]  # cx, cy, w, h, radians
    extent: float


def coverage(outline: Array, x0: int, y0: int, x1: int, y1: int, factor: int) -> Array:
    """Returns how much of each pixel of a window the outline covers, 0 .. 1.

    `factor` squared samples per pixel; OpenCV puts pixel centres on whole numbers.
    """
    fine: Array = np.zeros(((y1 - y0) * factor, (x1 - x0) * factor), np.uint8)
    points = ((outline - (x0, y0)) * factor - 0.5) * 16  # 4 fractional bits
    cv2.fillPoly(fine, [np.round(points).astype(np.int32)], 255, shift=4)
    if factor > 1:
        fine = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return fine.astype(np.float32) / 255


def background(rng: np.random.Generator, size: int) -> tuple[Array, list[Array]]:
    """Returns a canvas [H, W, 3] of 0 .. 255 and the two colours that rule it."""
    hue = rng.random()
    dark = rng.random() < 0.5
    value = rng.uniform(0.2, 0.48) if dark else rng.uniform(0.62, 0.95)
    saturation = rng.uniform(0.08, 0.5)
    first = _bgr(hue, saturation, value)
    other = hue + rng.uniform(-0.15, 0.15)
    change = rng.uniform(0.55, 0.85) if rng.random() < 0.5 else rng.uniform(1.15, 1.5)
    second = _bgr(other, saturation * rng.uniform(0.6, 1.4), value * change)
    x, y = _axes(size)
    angle = rng.uniform(0, 2 * math.pi)
    along = (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle)  # -0.7 .. 0.7
    style = int(rng.integers(5))
    if style == 0:  # linear gradient
        mix = along + 0.5
    elif style == 1:  # pool of light
        cx, cy = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)
        mix = 1.3 * np.sqrt((x - cx) ** 2 + (y - cy) ** 2)
    elif style == 2:  # clouds
        mix = _noise(rng, size, 3) * 0.6 + _noise(rng, size, 7) * 0.3
        mix = mix + _noise(rng, size, 16) * 0.15
    elif style == 3:  # grain of wood, folds of cloth
        bend = _noise(rng, size, 3) * rng.uniform(1.0, 5.0)
        mix = 0.5 + 0.4 * np.sin(along * rng.uniform(15, 60) + bend * 2)
    else:  # tiles with soft edges
        across = (y - 0.5) * math.cos(angle) - (x - 0.5) * math.sin(angle)
        f = rng.uniform(8, 20)
        mix = 0.5 + 0.35 * np.tanh(3 * np.sin(along * f) * np.sin(across * f))
    mix = np.clip(mix, 0, 1)[..., None]
    canvas = np.ascontiguousarray(first + (second - first) * mix, np.float32)
    if rng.random() < 0.6:
        canvas = _clutter(canvas, rng, hue, value)
    return canvas, [first, second]


def _clutter(
    canvas: Array, rng: np.random.Generator, hue: float, value: float
) -> Array:
    """Returns the canvas under soft curves and blobs, none of them straight-sided."""
    size = len(canvas)
    layer = canvas.copy()
    for _ in range(int(rng.integers(3, 9))):
        shade = np.clip(value * rng.uniform(0.6, 1.45), 0.05, 1)
        colour = _bgr(hue + rng.uniform(-0.2, 0.2), rng.uniform(0.1, 0.5), shade)
        start, step = rng.uniform(0, 1, 2), rng.normal(0, 0.28, (5, 2))
        path = (start + np.cumsum(step, axis=0)) * size * 16
        smooth = cv2.resize(path, (2, 40), interpolation=cv2.INTER_CUBIC)
        curve = [np.round(smooth).astype(np.int32)]
        if rng.random() < 0.7:
            width = max(1, round(size * rng.uniform(0.01, 0.06)))
            cv2.polylines(layer, curve, False, colour.tolist(), width, shift=4)
        else:
            cv2.fillPoly(layer, curve, colour.tolist(), shift=4)
    layer = cv2.GaussianBlur(layer, (0, 0), size * rng.uniform(0.006, 0.03))
    return cv2.addWeighted(layer, 0.75, canvas, 0.25, 0)


def distinct_colour(rng: np.random.Generator, used: list[Array]) -> Array:
    """Returns, of four colours, the one farthest from those around it."""
    luma = np.array([0.114, 0.587, 0.299], np.float32)
    choices = np.stack(
        [
            _bgr(rng.random(), rng.uniform(0.25, 0.95), rng.uniform(0.35, 1.0))
            for _ in range(4)
        ]
    )
    gaps = choices[:, None] - np.stack(used)[None]  # [4, U, 3]
    distance = np.abs(gaps).mean(-1) + 1.5 * np.abs(gaps @ luma)
    return choices[distance.min(1).argmax()]


def paint(
    canvas: Array,
    shape: Placed,
    colour: Array,
    light: float,
    rng: np.random.Generator,
    *,
    moves: bool = False,
) -> Mask:
    """Draws one shape and its shadow in place; returns its mask [H, W].

    Args:
        canvas: [H, W, 3] of 0 .. 255.
        shape: where it lies.
        colour: [3] of most of it.
        light: radians, the direction from which it comes.
        rng: of texture, edge and shadow.
        moves: another frame with the same `rng` has the same texture wherever the
            shape has gone.
    """
    size = len(canvas)
    outline = shape.outline * np.float32(size)
    # Coverage, rim and shadow also beyond the border, or light would bend along it.
    margin = round(0.1 * size)
    left, top = np.floor(outline.min(0)).astype(int) - margin
    right, bottom = np.ceil(outline.max(0)).astype(int) + margin
    whole = coverage(outline, left, top, right, bottom, 4)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, size), min(bottom, size)
    crop = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    window, alpha = canvas[y0:y1, x0:x1], whole[crop]
    x, y = _axes(size)
    cx, cy, w, h, angle = shape.rotated_box
    dx, dy = x[y0:y1, x0:x1] - cx, y[y0:y1, x0:x1] - cy
    cos, sin = math.cos(angle), math.sin(angle)
    u = (dx * cos + dy * sin) / (w / 2)  # [h, w] in the frame of the shape, -1 .. 1
    v = (dy * cos - dx * sin) / (h / 2)
    fill = _texture(rng, colour, u, v, moves)
    toward = math.cos(light), math.sin(light)
    slope = (dx * toward[0] + dy * toward[1]) / shape.extent  # -0.7 .. 0.7
    shade = 1 + rng.uniform(0.0, 0.45) * slope
    if rng.random() < 0.5:  # rounded rim
        soft = cv2.GaussianBlur(whole, (0, 0), max(1.0, 0.07 * shape.extent * size))
        gx = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3)
        gy = cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3)
        rim = -(gx * toward[0] + gy * toward[1]) * shape.extent * size
        shade = shade + 0.4 * np.tanh(0.25 * rim[crop])
    fill = fill * shade[..., None]
    if rng.random() < 0.45:
        _edge(fill, outline - (x0, y0), colour, shape.extent * size, rng)
    reach = rng.uniform(0.008, 0.03) * size
    move = np.array(
        [[1, 0, -reach * toward[0]], [0, 1, -reach * toward[1]]], np.float32
    )
    shadow = cv2.warpAffine(whole, move, whole.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(0.007, 0.022) * size)
    window *= (1 - rng.uniform(0.1, 0.55) * shadow[crop])[..., None]
    window += (fill.clip(0, 255) - window) * alpha[..., None]
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = alpha > 0.5
    return mask


def _texture(
    rng: np.random.Generator, colour: Array, u: Array, v: Array, moves: bool
) -> Array:
    """Returns a fill [h, w, 3] over shape coordinates u, v in -1 .. 1."""
    style = int(rng.integers(6))
    if rng.random() < 0.5:  # a tone of the same colour, else any other
        second = colour * rng.uniform(0.45, 0.75)
    else:
        second = _bgr(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.35, 1.0))
    angle = rng.uniform(0, math.pi)
    along = u * math.cos(angle) + v * math.sin(angle)
    if style == 0:  # plain
        mix = np.zeros_like(u)
    elif style == 1:  # gradient
        mix = 0.5 + 0.5 * along
    elif style == 2:  # ball
        px, py = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
        mix = 0.6 * np.sqrt((u - px) ** 2 + (v - py) ** 2)
    elif style == 3:  # stripes
        wave = np.sin(along * rng.uniform(7, 18) + rng.uniform(0, 6))
        mix = 0.5 + 0.5 * np.tanh(4 * wave)
    elif style == 4:  # dots
        f = rng.uniform(7, 12)
        wave = np.sin(u * f) * np.sin(v * f) - 0.25
        mix = 0.5 + 0.5 * np.tanh(6 * wave)
    else:  # marble
        grain = rng.random((6, 6), np.float32)
        if moves:
            x, y = ((c.astype(np.float32) + 1) * 2.5 for c in (u, v))
            noise = cv2.remap(
                grain, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
        else:  # over the window, which the border of the picture may cut
            noise = cv2.resize(grain, u.shape[::-1], interpolation=cv2.INTER_CUBIC)
        mix = 0.5 + 0.5 * np.sin(5 * along + 7 * noise)
    mix = np.clip(mix, 0, 1).astype(np.float32)[..., None]
    return colour + (second - colour) * mix


def _edge(
    fill: Array,
    outline: Array,
    colour: Array,
    extent: float,
    rng: np.random.Generator,
) -> None:
    """Draws a contour line into the fill; its outer half is masked later."""
    thickness = max(2, round(extent * rng.uniform(0.04, 0.12)))
    ink = colour * 0.25 if rng.random() < 0.6 else 255 - (255 - colour) * 0.2
    points = np.round((outline - 0.5) * 16).astype(np.int32)
    cv2.polylines(fill, [points], True, ink.tolist(), thickness, cv2.LINE_AA, shift=4)


def camera(
    canvas: Array,
    rng: np.random.Generator,
    noise_rng: np.random.Generator | None = None,
) -> npt.NDArray[np.uint8]:
    """Returns the picture: slight blur, exposure, vignette and sensor noise.

    Args:
        canvas: [H, W, 3] of 0 .. 255.
        rng: of everything.
        noise_rng: of the noise, where another frame has the same camera.
    """
    size = len(canvas)
    if rng.random() < 0.35:
        canvas = cv2.GaussianBlur(canvas, (0, 0), size * rng.uniform(0.0025, 0.006))
    x, y = _axes(size)
    falloff = rng.uniform(0.0, 0.5) * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    canvas = canvas * (rng.uniform(0.85, 1.12) * (1 - falloff))[..., None]
    noise = (noise_rng or rng).standard_normal(
        (size, size, 1), np.float32
    )  # grey, as film grain is
    canvas += noise * np.float32(rng.uniform(0.5, 5.0))
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _bgr(hue: float, saturation: float, value: float) -> Array:
    rgb = colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))
    return np.array(rgb[::-1], np.float32) * 255


@functools.lru_cache(maxsize=4)
def _axes(size: int) -> tuple[Array, Array]:
    """Returns x and y [H, W] of the pixel centres in picture sides; read-only."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = (
        np.broadcast_to(line, (size, size)),
        np.broadcast_to(line[:, None], (size,) * 2),
    )
    return x, y


def _noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Returns smooth noise [H, W] of about 0 .. 1, `cells` bumps a side."""
    coarse = rng.random((cells, cells), np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
