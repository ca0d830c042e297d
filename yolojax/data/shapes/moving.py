"""Scenes of the built-in shapes that move, with the identity of every object known.

A frame is a pure function of the scene and its number: it is the same whether or not
those before it were drawn. Objects go straight on, are thrown back by the borders and
keep their order: one with a higher identity passes in front.
"""

import dataclasses
import functools
import math
import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolojax.data.shapes.outline import visible_polygon
from yolojax.data.shapes.paint import (
    Array,
    Mask,
    Placed,
    background,
    camera,
    distinct_colour,
    paint,
)
from yolojax.data.shapes.scene import (
    CLASSES,
    MAX_ANGLE,
    SceneObject,
    area,
    describe,
    placed_at,
    resized,
    upright,
)
from yolojax.streams import LARGEST, stream

MIN_SEEN = 0.2  # share of its outline from which an object is among those of a frame
SLOWEST = 0.3  # of the objects, as a share of the highest speed

_FILLED = 0.4  # share of the picture that the largest upright boxes would fill
_LARGEST = 0.5  # extent of any object, in shorter sides of the picture
_SMALLEST = 0.5  # extent of any object, in those of the largest
_SPIN = math.radians(2)  # largest turn from frame to frame
_GRAIN, _DEPTH = 8, 0.15  # pixels and strength of the grain that a swing shows
_SWAY_PERIODS = (23.0, 17.0)  # frames in which the camera swings, across and down


@dataclasses.dataclass(frozen=True)
class MovingFrame:
    """One picture of a moving scene; N objects of which enough can be seen."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    ids: npt.NDArray[np.int32]  # [N] from 1, back to front and therefore ascending
    objects: tuple[SceneObject, ...]  # N, in pixels of this picture
    outlines: tuple[Array, ...]  # of every object, also of those that are not seen

    @property
    def classes(self) -> npt.NDArray[np.int32]:
        """[N] positions in CLASSES."""
        return np.array([item.class_id for item in self.objects], np.int32)

    @property
    def boxes(self) -> Array:
        """[N, 4] float32 xyxy pixels; the part in the picture, hidden or not."""
        return _stacked([item.box for item in self.objects], (4,))

    @property
    def rotated_boxes(self) -> Array:
        """[N, 5] float32 cx, cy, w, h in pixels and radians clockwise; not clipped."""
        return _stacked([item.rotated_box for item in self.objects], (5,))

    def visible_outlines(self) -> list[Array]:
        """Returns N polygons [P, 2] around what can be seen, in pixels."""
        return [
            visible_polygon(item.outline, self.outlines[number:], item.mask.shape[:2])
            for number, item in zip(self.ids.tolist(), self.objects, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class _Course:
    """One object and its way; lengths in pixels of the canvas."""

    class_id: int
    shape: tuple[Array, Array]  # outline and keypoints, about the middle of their box
    scale: float
    extent: float
    low: Array  # [2] where its middle may be
    high: Array  # [2]
    start: Array  # [2]
    velocity: Array  # [2] per frame
    angle: float  # in the first frame
    spin: float  # radians per frame
    colour: Array  # [3]

    def at(self, frame: int, canvas: int) -> Placed:
        """Returns the object in its place, in sides of the canvas."""
        centre = _thrown_back(self.start + self.velocity * frame, self.low, self.high)
        limit = np.array(MAX_ANGLE)
        angle = _thrown_back(np.array(self.angle + self.spin * frame), -limit, limit)
        return placed_at(
            self.class_id,
            self.shape,
            float(angle),
            self.scale / canvas,
            centre / canvas,
            self.extent / canvas,
        )


@dataclasses.dataclass(frozen=True)
class MovingScene:
    """A scene without an end, of which any frame can be drawn."""

    seed: int = 0
    size: tuple[int, int] = (360, 640)  # height and width of the picture in pixels
    count: int = 12  # objects
    speed: float = 5.0  # of the fastest object, pixels per frame
    sway: int = 0  # pixels by which the camera swings to each side

    def __post_init__(self):
        if not 0 <= self.seed <= LARGEST:
            raise ValueError(f"seed={self.seed} must be 0 .. {LARGEST}")
        if min(self.size) < 32:
            raise ValueError(f"size={self.size} is too small to draw in; at least 32")
        for name, least in (("count", 0), ("speed", 0), ("sway", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be >= {least}")

    def frame(self, number: int) -> MovingFrame:
        """Returns a frame, always the same.

        Args:
            number: from 0.
        """
        if not 0 <= number <= LARGEST:
            raise ValueError(f"frame {number} must be 0 .. {LARGEST}")
        courses, ground, light = self._plan
        canvas = ground.copy()
        window = self._window(number)
        placed = [course.at(number, len(canvas)) for course in courses]
        masks = []
        for k, (course, shape) in enumerate(zip(courses, placed, strict=True)):
            rng = stream("moving_paint", self.seed, k)
            mask = paint(canvas, shape, course.colour, light, rng, moves=True)
            masks.append(self._cut(mask, window))
        image = self._picture(canvas, window, number)
        x, y = self._corner(window)
        in_picture = [
            resized(shape, len(canvas), np.array([-x, -y])) for shape in placed
        ]
        seen = self._seen(in_picture, masks)
        return MovingFrame(
            image,
            np.array([k + 1 for k, _ in seen], np.int32),
            tuple(item for _, item in seen),
            tuple(shape.outline for shape in in_picture),
        )

    @functools.cached_property
    def _plan(self) -> tuple[list[_Course], Array, float]:
        """Courses back to front, the empty canvas [S, S, 3], the light in radians."""
        # The canvas holds a square picture at both ends of every swing.
        ground, colours = background(
            stream("moving_ground", self.seed), max(self.size) + 2 * self.sway
        )
        if self.sway:
            _roughen(ground, stream("moving_grain", self.seed))
        rng = stream("moving_layout", self.seed)
        light = rng.uniform(0, 2 * math.pi)
        courses = []
        for _ in range(self.count):
            colours.append(distinct_colour(rng, colours))
            courses.append(self._course(rng, colours[-1]))
        return courses, ground, light

    def _course(self, rng: np.random.Generator, colour: Array) -> _Course:
        height, width = self.size
        class_id = int(rng.integers(len(CLASSES)))
        outline, keypoints = upright(class_id, rng)
        middle = (outline.min(0) + outline.max(0)) / 2
        outline, keypoints = outline - middle, keypoints - middle
        largest = min(
            math.sqrt(_FILLED * height * width / self.count),
            _LARGEST * min(self.size),
        )
        extent = largest * rng.uniform(_SMALLEST, 1)
        scale = extent / np.ptp(outline, axis=0).max()
        reach = scale * np.linalg.norm(outline, axis=1).max()
        # What the camera can see when it swings, as far as the whole object fits in.
        low = np.array(self._corner((0, 0))) + reach
        high = low + np.array([width, height]) + 2 * self.sway - 2 * reach
        heading = rng.uniform(0, 2 * math.pi)
        pace = self.speed * rng.uniform(SLOWEST, 1)
        turns = class_id != 0  # a turned circle is the same circle
        return _Course(
            class_id,
            (outline, keypoints),
            scale,
            extent,
            low,
            high,
            start=rng.uniform(low, high),
            velocity=pace * np.array([math.cos(heading), math.sin(heading)]),
            angle=turns * rng.uniform(-MAX_ANGLE, MAX_ANGLE),
            spin=turns * rng.uniform(-_SPIN, _SPIN),
            colour=colour,
        )

    def _window(self, number: int) -> tuple[int, int]:
        """Returns x, y of the corner of the square that the camera sees."""
        phases = stream("moving_sway", self.seed).uniform(0, 2 * math.pi, 2)
        turns = 2 * math.pi * number / np.array(_SWAY_PERIODS)
        x, y = np.rint(self.sway * (1 + np.sin(turns + phases))).astype(int).tolist()
        return x, y

    def _corner(self, window: tuple[int, int]) -> tuple[int, int]:
        """Returns x, y of the corner of the picture, which lies amid the square."""
        height, width = self.size
        longer = max(self.size)
        return window[0] + (longer - width) // 2, window[1] + (longer - height) // 2

    def _cut(self, mask: Mask, window: tuple[int, int]) -> Mask:
        (height, width), (x, y) = self.size, self._corner(window)
        return mask[y : y + height, x : x + width].copy()

    def _picture(
        self, canvas: Array, window: tuple[int, int], number: int
    ) -> npt.NDArray[np.uint8]:
        (left, top), longer = window, max(self.size)
        square = canvas[top : top + longer, left : left + longer]
        taken = camera(
            square,
            stream("moving_camera", self.seed),
            stream("moving_noise", self.seed, number),
        )
        (height, width), (x, y) = self.size, self._corner((0, 0))
        return np.ascontiguousarray(taken[y : y + height, x : x + width])

    def _seen(
        self, placed: list[Placed], masks: list[Mask]
    ) -> list[tuple[int, SceneObject]]:
        """Returns position and object of those that can be seen, back to front."""
        free = np.ones(self.size, bool)
        seen = []
        for k in reversed(range(len(placed))):  # front to back
            mask = masks[k] & free
            free &= ~masks[k]
            if mask.sum() >= MIN_SEEN * area(placed[k].outline):
                seen.append((k, describe(placed[k], mask)))
        return seen[::-1]


def write_video(
    path: str | os.PathLike[str], scene: MovingScene, frames: int, fps: float = 25.0
) -> None:
    """Writes the first frames of a scene as an .mp4 file (MPEG-4, lossy).

    Args:
        path: ends in .mp4; its folder exists.
        scene: what is drawn.
        frames: how many.
        fps: of them per second.

    Raises:
        ValueError: another suffix, or a picture with a side that is odd.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"{path} must end in .mp4")
    if any(side % 2 for side in scene.size):  # the format would cut a pixel off
        raise ValueError(f"size={scene.size} of a video must be even")
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), code, fps, scene.size[::-1])
    if not writer.isOpened():
        raise OSError(f"{path} cannot be written; does its folder exist?")
    try:
        for number in range(frames):
            writer.write(scene.frame(number).image)
    finally:
        writer.release()


def _thrown_back(way: Array, low: Array, high: Array) -> Array:
    """Returns where a straight way between two walls has led."""
    span = high - low
    return low + span - np.abs(np.mod(way - low, 2 * span) - span)


def _roughen(ground: Array, rng: np.random.Generator) -> None:
    """Gives the ground a grain in place: on a smooth one no motion could be seen."""
    cells = len(ground) // _GRAIN
    grain = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    fine = cv2.resize(grain, ground.shape[:2], interpolation=cv2.INTER_CUBIC)
    ground *= (1 + _DEPTH * np.asarray(fine))[..., None]


def _stacked(arrays: list[Array], shape: tuple[int, ...]) -> Array:
    return np.array(arrays, np.float32).reshape(-1, *shape)
