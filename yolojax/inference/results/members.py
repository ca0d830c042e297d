"""What a result consists of: boxes, masks, keypoints, rotated boxes, probabilities.

Axes: N objects, K keypoints, C classes, h w pixels of a mask. Everything is NumPy and
in pixels of the original picture, under the names that code for detectors uses.
"""

import builtins
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np

from yolojax.data.formats.coco.annotations import joined
from yolojax.ops import keypoints as keypoint_ops
from yolojax.ops import rotated

VISIBLE = 0.5  # keypoints with less are not counted as seen
_TOP = 5  # classes that are named of a whole picture


class _OneValue:
    """What code written for tensors asks of one element of an array."""

    def cpu(self) -> Self:
        """Returns the value: it is on the host."""
        return self

    def detach(self) -> Self:
        """Returns the value: there are no gradients."""
        return self

    def numpy(self) -> Self:
        """Returns the value: it is a number of NumPy."""
        return self


class HostFloat(_OneValue, np.float32):
    """An element of a `HostArray`."""


class HostInt(_OneValue, np.int32):
    """An element of a `HostArray` of identities or classes."""


_ELEMENTS = {np.float32: HostFloat, np.int32: HostInt}


class HostArray(np.ndarray):
    """A NumPy array that code written for tensors can read as well.

    `int(box.cls)` and `box.conf[0].cpu().numpy()` do what they do with a tensor.
    Elements are numbers of NumPy all the same: OpenCV takes no others for corners.
    """

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        element = _ELEMENTS.get(type(found))
        return found if element is None else element(found)

    def __repr__(self) -> str:
        return repr(self.view(np.ndarray))

    def __str__(self) -> str:
        return str(self.view(np.ndarray))

    def __int__(self) -> builtins.int:
        return builtins.int(self.item())

    def __float__(self) -> builtins.float:
        return builtins.float(self.item())

    def cpu(self) -> Self:
        """Returns the array: it is on the host."""
        return self

    def to(self, place: str) -> Self:
        """Returns the array for "cpu"; TypeError for everything else."""
        if place == "cpu":
            return self
        raise TypeError(
            f"an array of NumPy stays on the host and has no {place!r} to go to; take"
            " a copy of it there, for instance jax.numpy.asarray(array)."
        )

    def detach(self) -> Self:
        """Returns the array: there are no gradients."""
        return self

    def numpy(self) -> np.ndarray:
        """Returns the array as a plain one, without a copy."""
        return self.view(np.ndarray)

    def int(self) -> Any:
        """Returns the values as int32."""
        return self.astype(np.int32)

    def long(self) -> Any:
        """Returns the values as int64."""
        return self.astype(np.int64)

    def float(self) -> Any:
        """Returns the values as float32."""
        return self.astype(np.float32)


def _host(values: Any) -> HostArray:
    return np.asarray(values).view(HostArray)


class OnHost:
    """What code written for tensors calls to move a result, which stays where it is."""

    def cpu(self) -> Self:
        """Returns this object: it is on the host."""
        return self

    def numpy(self) -> Self:
        """Returns this object: it holds NumPy arrays."""
        return self

    def to(self, *places: Any, **options: Any) -> Self:
        """Returns this object for "cpu".

        Raises:
            TypeError: for everything else.
        """
        if places == ("cpu",) and not options:
            return self
        raise TypeError(
            f"{type(self).__name__}: results are NumPy arrays on the host and cannot be"
            " moved or converted; take an array of them, for instance"
            " jax.numpy.asarray(result.boxes.xyxy)."
        )

    def cuda(self, *places: Any) -> Self:
        """Raises TypeError; see `to`."""
        return self.to("cuda", *places)


@dataclass(frozen=True, eq=False)
class _Rows(OnHost):
    """Objects in rows of `data`; iterating and indexing give the same with fewer."""

    data: Any  # HostArray [N, ...]
    orig_shape: tuple[int, int]  # height and width of the picture

    def __post_init__(self):
        object.__setattr__(self, "data", _host(self.data))

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Self]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.data[rows_of(index, len(self))], self.orig_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `data`."""
        return self.data.shape


def rows_of(index: Any, count: int) -> Any:
    """Returns which rows an index means, as an index that keeps the axis.

    Args:
        index: a number, a slice, numbers, or one bool for each row.
        count: rows.

    Raises:
        IndexError: there is no such row.
    """
    if isinstance(index, slice):
        return index
    rows = np.asarray(index)
    if rows.size == 0 and rows.dtype != bool:
        rows = rows.astype(int)
    return np.atleast_1d(np.arange(count)[rows])


class _Scored(_Rows):
    """Rows that end in (identity,) score, class."""

    _places = 4  # columns before them

    @property
    def is_track(self) -> bool:
        """Whether the objects have identities."""
        return self.data.shape[1] == self._places + 3

    @property
    def id(self) -> HostArray | None:
        """[N] int32 identities, -1: none yet; None where nothing is tracked."""
        return self.data[:, -3].astype(np.int32) if self.is_track else None

    @property
    def conf(self) -> HostArray:
        """[N] float32 scores."""
        return self.data[:, -2]

    @property
    def cls(self) -> HostArray:
        """[N] float32 numbers of classes; `classes` has them as integers."""
        return self.data[:, -1]

    @property
    def classes(self) -> HostArray:
        """[N] int32 numbers of classes."""
        return self.data[:, -1].astype(np.int32)

    @property
    def _scale(self) -> np.ndarray:
        height, width = self.orig_shape
        return np.array([width, height, width, height], np.float32)


class Boxes(_Scored):
    """Upright boxes. `data` is [N, 6] x1 y1 x2 y2 score class; 7 with an identity."""

    @property
    def xyxy(self) -> HostArray:
        """[N, 4] float32: left, top, right, bottom."""
        return self.data[:, :4]

    @property
    def xywh(self) -> HostArray:
        """[N, 4] float32: centre, width, height."""
        low, high = self.data[:, :2], self.data[:, 2:4]
        return _host(np.concatenate([(low + high) / 2, high - low], 1))

    @property
    def xyxyn(self) -> HostArray:
        """`xyxy` as shares of the picture's width and height."""
        return _host(self.xyxy / self._scale)

    @property
    def xywhn(self) -> HostArray:
        """`xywh` as shares of the picture's width and height."""
        return _host(self.xywh / self._scale)


class OBB(_Scored):
    """Rotated boxes. `data` is [N, 7] x y w h angle score class; 8 with an identity."""

    _places = 5

    @property
    def xywhr(self) -> HostArray:
        """[N, 5] float32: centre, width, height; radians, x axis towards y axis."""
        return self.data[:, :5]

    @property
    def xyxyxyxy(self) -> HostArray:
        """[N, 4, 2] float32 corners, in turn around each box."""
        return _host(rotated.corners(np.asarray(self.data[:, :5])))

    @property
    def xyxyxyxyn(self) -> HostArray:
        """`xyxyxyxy` as shares of the picture's width and height."""
        return _host(self.xyxyxyxy / self._scale[:2])

    @property
    def xyxy(self) -> HostArray:
        """[N, 4] float32: the upright boxes around them."""
        corners = self.xyxyxyxy
        return _host(np.concatenate([corners.min(1), corners.max(1)], 1))


class Keypoints(_Rows):
    """Keypoints. `data` is [N, K, 2 or 3] x y, visibility 0..1 if it is known."""

    @property
    def xy(self) -> HostArray:
        """[N, K, 2] float32."""
        return self.data[..., :2]

    @property
    def xyn(self) -> HostArray:
        """`xy` as shares of the picture's width and height."""
        height, width = self.orig_shape
        return _host(self.xy / np.array([width, height], np.float32))

    @property
    def conf(self) -> HostArray | None:
        """[N, K] float32 visibility; None where it is not predicted."""
        return self.data[..., 2] if self.has_visible else None

    @property
    def has_visible(self) -> bool:
        """Whether visibility is predicted."""
        return self.data.shape[-1] == 3


@dataclass(frozen=True, eq=False)
class Masks(_Rows):
    """Masks. `data` is [N, h, w] uint8, 0 or 1: at the size of the network's input.

    Or of the picture, if that was asked for; `xy` is in pixels of the picture always.
    """

    letterbox: tuple[float, float, float, float] | None = None

    def __getitem__(self, index: Any) -> Self:
        rows = rows_of(index, len(self))
        return type(self)(self.data[rows], self.orig_shape, self.letterbox)

    @functools.cached_property
    def xy(self) -> list[HostArray]:
        """N outlines [p, 2] float32; the parts of an object are joined into one."""
        return [_host(outline(m, self.orig_shape, self.letterbox)) for m in self.data]

    @functools.cached_property
    def xyn(self) -> list[HostArray]:
        """`xy` as shares of the picture's width and height."""
        height, width = self.orig_shape
        scale = np.array([width, height], np.float32)
        return [_host(points / scale) for points in self.xy]


def outline(
    mask: np.ndarray,
    hw: tuple[int, int],
    letterbox: tuple[float, float, float, float] | None,
) -> np.ndarray:
    """Returns the outline [p, 2] float32 of a mask in pixels of the picture.

    It goes through all parts of the mask, in and out where two are closest. Holes are
    filled.

    Args:
        mask: [h, w] uint8.
        hw: height and width of the picture.
        letterbox: gain_h, gain_w, pad_left, pad_top of the mask; None: it has the
            size of the picture.
    """
    parts, _ = cv2.findContours(
        np.asarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    if not parts:
        return np.zeros((0, 2), np.float32)
    paths = [part.reshape(-1, 2).astype(np.float32) for part in parts]
    points = paths[0] if len(paths) == 1 else joined(paths)
    if letterbox is None:
        return points
    return keypoint_ops.scale_keypoints(points, (0, 0), hw, letterbox)


def content(
    masks: np.ndarray,
    hw: tuple[int, int],
    letterbox: tuple[float, float, float, float] | None,
) -> np.ndarray:
    """Returns the part of masks [N, h, w] that the picture fills, without padding.

    Args:
        masks: as of `Masks`.
        hw: height and width of the picture.
        letterbox: as of `outline`.
    """
    if letterbox is None:
        return masks
    gain_h, gain_w, left, top = letterbox
    height, width = max(round(gain_h * hw[0]), 1), max(round(gain_w * hw[1]), 1)
    return masks[:, int(top) : int(top) + height, int(left) : int(left) + width]


def at_original(
    masks: np.ndarray,
    hw: tuple[int, int],
    letterbox: tuple[float, float, float, float] | None,
) -> np.ndarray:
    """Returns masks [N, H, W] bool at the size of the picture.

    Args:
        masks: [N, h, w] bool.
        hw: height and width of the picture.
        letterbox: as of `outline`.
    """
    masks = content(masks, hw, letterbox)
    if masks.shape[1:] == hw:
        return masks
    sized = np.zeros((len(masks), *hw), bool)
    for large, mask in zip(sized, masks, strict=True):
        # Half of 254 is a whole number, so that rounding changes no pixel.
        large[:] = cv2.resize(mask.astype(np.uint8) * 254, hw[::-1]) > 127
    return sized


@dataclass(frozen=True, eq=False)
class Probs(OnHost):
    """What a whole picture shows. `data` is [C] float32, the classes' probabilities."""

    data: Any  # HostArray [C]

    def __post_init__(self):
        object.__setattr__(self, "data", _host(self.data))

    def __len__(self) -> int:
        return len(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `data`."""
        return self.data.shape

    @property
    def top1(self) -> int:
        """The most probable class."""
        return int(np.argmax(self.data))

    @property
    def top5(self) -> list[int]:
        """The five most probable classes, best first; fewer if there are fewer."""
        order = np.argsort(-np.asarray(self.data), kind="stable")
        return order[:_TOP].tolist()

    @property
    def top1conf(self) -> HostArray:
        """The probability of `top1`."""
        return self.data[self.top1]

    @property
    def top5conf(self) -> HostArray:
        """The probabilities of `top5`."""
        return self.data[self.top5]
