"""What is found in one picture, under the names that code for detectors uses.

Axes: N objects, best first, K keypoints, C classes, h w pixels.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import cv2
import numpy as np
from PIL import Image, ImageShow

from yolojax import visualize
from yolojax.inference.results import files, summaries
from yolojax.inference.results.members import (
    OBB,
    Boxes,
    Keypoints,
    Masks,
    OnHost,
    Probs,
    content,
    rows_of,
)

if TYPE_CHECKING:
    import supervision


_USUAL = visualize.DrawOptions()
_OF_OBJECTS = ("boxes", "scores", "classes", "ids", "masks", "keypoints", "angles")


@dataclass(frozen=True, eq=False)
class Found:
    """What the network found in one picture, in pixels of the original picture."""

    boxes: np.ndarray  # [N, 4] float32 xyxy; obb: before their rotation
    scores: np.ndarray  # [N] float32
    classes: np.ndarray  # [N] int32
    ids: np.ndarray | None = None  # [N] int32; -1: no identity. None: not tracked
    masks: np.ndarray | None = None  # [N, h, w] bool
    # gain_h, gain_w, pad_left, pad_top of the masks; None: of the picture's size
    letterbox: tuple[float, float, float, float] | None = None
    keypoints: np.ndarray | None = None  # [N, K, 2 or 3] float32 x, y, visibility 0..1
    angles: np.ndarray | None = None  # [N] float32 radians, x axis towards y axis
    probabilities: np.ndarray | None = None  # [C] float32; then there are no objects

    def take(self, rows: Any) -> Self:
        """Returns some of the objects, by an index that keeps the axis."""
        kept: dict[str, Any] = {
            key: None if values is None else values[rows]
            for key in _OF_OBJECTS
            for values in [getattr(self, key)]
        }
        return dataclasses.replace(self, **kept)


class PlotOptions(TypedDict, total=False):
    """What `plot` takes besides a picture; see `visualize.DrawOptions`."""

    labels: bool
    conf: bool
    boxes: bool
    masks: bool
    line_width: int | None
    font_size: int | None
    kpt_radius: int | None
    kpt_line: bool
    small_labels: bool
    color_mode: str
    trails: Mapping[int, np.ndarray] | None  # identity -> [n, 2] x, y, oldest first


@dataclass(frozen=True, eq=False)
class Result(OnHost):
    """What was found in one picture or frame; NumPy, in pixels of the original.

    `boxes`, `masks`, `keypoints`, `obb` and `probs` are None where the task has none.
    `result[i]`, slices and masks of bool give a result with fewer objects.
    """

    orig_img: np.ndarray  # [h, w, 3] uint8 BGR; not copied
    path: str
    names: dict[int, str]
    task: str
    found: Found
    speed: dict[str, float] = field(default_factory=dict)  # ms by stage
    frame: int | None = None  # of a video, from 1
    save_dir: str | None = None
    rgb: bool = False  # the picture was given as RGB, and `plot` returns it so

    def __repr__(self) -> str:
        height, width = self.orig_shape
        frame = "" if self.frame is None else f", frame {self.frame}"
        return (
            f"<Result of {self.path!r}{frame}, {height}x{width}, {self.task}:"
            f" {self.verbose()}>"
        )

    def __len__(self) -> int:
        return 1 if self.found.probabilities is not None else len(self.found.boxes)

    def __getitem__(self, index: Any) -> Self:
        if self.found.probabilities is not None:
            raise TypeError(
                "a result of task classify is about the whole picture and has no"
                " objects to choose from: read result.probs."
            )
        found = self.found.take(rows_of(index, len(self)))
        return dataclasses.replace(self, found=found)

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    @property
    def orig_shape(self) -> tuple[int, int]:
        """Height and width of the picture."""
        height, width = self.orig_img.shape[:2]
        return height, width

    @functools.cached_property
    def boxes(self) -> Boxes | None:
        """Upright boxes with scores, classes and identities."""
        if self.found.probabilities is not None or self.found.angles is not None:
            return None
        return Boxes(self._table(self.found.boxes), self.orig_shape)

    @functools.cached_property
    def obb(self) -> OBB | None:
        """Rotated boxes with scores, classes and identities."""
        if self.found.angles is None:
            return None
        low, high = self.found.boxes[:, :2], self.found.boxes[:, 2:]
        angles = self.found.angles[:, None]
        places = np.concatenate([(low + high) / 2, high - low, angles], 1)
        return OBB(self._table(places), self.orig_shape)

    @functools.cached_property
    def masks(self) -> Masks | None:
        """Masks and their outlines."""
        if self.found.masks is None:
            return None
        data = np.ascontiguousarray(self.found.masks, bool).view(np.uint8)
        return Masks(data, self.orig_shape, self.found.letterbox)

    @functools.cached_property
    def keypoints(self) -> Keypoints | None:
        """Keypoints with their visibility."""
        points = self.found.keypoints
        return None if points is None else Keypoints(points, self.orig_shape)

    @functools.cached_property
    def probs(self) -> Probs | None:
        """Probabilities of the classes for the whole picture."""
        shares = self.found.probabilities
        return None if shares is None else Probs(shares)

    def _table(self, places: np.ndarray) -> np.ndarray:
        """Returns places [N, p], (identities,) scores and classes side by side."""
        found = self.found
        ids = [] if found.ids is None else [found.ids]
        columns = [*ids, found.scores, found.classes]
        return np.column_stack([places, *columns]).astype(np.float32)

    # Words and tables

    def verbose(self) -> str:
        """Returns what was found in a few words: `2 persons, 1 dog`."""
        return summaries.sentence(self)

    def summary(
        self, normalize: bool = False, decimals: int = 5
    ) -> list[dict[str, Any]]:
        """Returns a dictionary of plain values for each object.

        Args:
            normalize: coordinates as shares of the picture's width and height.
            decimals: of all numbers.
        """
        return summaries.rows(self, normalize, decimals)

    def to_dict(self, normalize: bool = False, decimals: int = 5) -> dict[str, Any]:
        """Returns path, frame, size, speed and `summary` as plain values."""
        return summaries.record(self, normalize, decimals, None)

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Returns `summary` as JSON."""
        return json.dumps(self.summary(normalize, decimals), indent=2)

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Returns `summary` as comma-separated values, corners as columns."""
        return summaries.csv_text(self.summary(normalize, decimals))

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Returns `summary` as a DataFrame of pandas or polars, whichever is there."""
        return summaries.table(self.summary(normalize, decimals))

    def to_supervision(self) -> "supervision.Detections | supervision.Classifications":
        """Returns the same for the library supervision (`pip install yolojax[sv]`).

        Task classify gives Classifications, all others Detections with masks at the
        size of the picture. Its own readers of results take this one as it is.
        """
        return summaries.for_supervision(self)

    # Pictures and files

    def plot(
        self,
        *,
        img: np.ndarray | None = None,
        pil: bool = False,
        **options: Unpack[PlotOptions],
    ) -> Any:
        """Returns a copy of the picture with what was found, [h, w, 3] uint8.

        It has the order that the picture was given in: BGR of files and arrays, RGB of
        what was given as RGB.

        Args:
            img: drawn on instead, in the order that is returned.
            pil: return an image of Pillow.
            options: as `DrawOptions`, and trails of identities.
        """
        picture = self.orig_img if img is None else img
        if img is None or not self.rgb:
            picture = picture[..., ::-1]
        trails = options.pop("trails", None)
        made = drawn(self, picture, _draw_options(dict(options)), trails)
        if pil:
            return Image.fromarray(made)
        return made if self.rgb else np.ascontiguousarray(made[..., ::-1])

    def save(
        self, filename: str | Path | None = None, **options: Unpack[PlotOptions]
    ) -> str:
        """Writes the drawn picture and returns the file's name.

        Args:
            filename: its suffix tells the format; None: `results_` and the name of the
                picture, in the current folder.
            options: as of `plot`.
        """
        name = Path(self.path).name
        if filename is None:
            known = cv2.haveImageWriter(f"x{Path(name).suffix}")
            filename = f"results_{name if known else Path(name).stem + '.jpg'}"
        visualize.save_image(filename, np.asarray(self.plot(pil=True, **options)))
        return str(filename)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str | None:
        """Writes a label file and returns its name; None where nothing was found.

        Args:
            txt_file: is replaced.
            save_conf: write the score behind each object, which makes the rows no
                labels to train with.
        """
        written = files.write_labels(Path(txt_file), self, save_conf)
        return str(txt_file) if written else None

    def save_crop(self, save_dir: str | Path, file_name: str | None = None) -> None:
        """Writes a picture of each object, in folders called like the classes.

        Args:
            save_dir: where the folders go.
            file_name: of the pictures; None: that of the picture.
        """
        stem = Path(file_name or self.path).stem
        files.write_crops(Path(save_dir), self, stem)

    def show(self, **options: Unpack[PlotOptions]) -> None:
        """Opens the drawn picture in the program that shows pictures here.

        Args:
            options: as of `plot`.

        Raises:
            RuntimeError: there is none, as on a server.
        """
        picture = self.plot(pil=True, **options)
        if not ImageShow.show(picture, Path(self.path).name):
            raise RuntimeError(
                "no program that shows pictures was found on this machine;"
                " result.save('drawn.jpg') writes the picture instead."
            )


def _draw_options(options: Mapping[str, Any]) -> visualize.DrawOptions:
    try:
        return visualize.DrawOptions(**options)
    except TypeError as error:
        known = [field.name for field in dataclasses.fields(visualize.DrawOptions)]
        unknown = ", ".join(sorted(set(options) - set(known)))
        raise TypeError(
            f"plot() has no option {unknown}; there are {', '.join(known)}, trails."
        ) from error


def drawn(
    result: Result,
    picture: np.ndarray,
    options: visualize.DrawOptions = _USUAL,
    trails: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """Returns a copy of a picture [h, w, 3] RGB with what was found."""
    found = result.found
    if found.probabilities is not None:
        return visualize.draw_classes(
            picture, found.probabilities, result.names, options
        )
    masks, keypoints = found.masks, found.keypoints
    if masks is not None:
        masks = content(masks, result.orig_shape, found.letterbox)
    if keypoints is not None and keypoints.shape[-1] == 2:
        ones = np.ones_like(keypoints[..., :1])
        keypoints = np.concatenate([keypoints, ones], -1)
    objects = visualize.Objects(
        found.boxes,
        found.classes,
        found.scores,
        masks=masks,
        keypoints=keypoints,
        angles=found.angles,
        ids=found.ids,
    )
    return visualize.draw(picture, objects, result.names, options, trails)[0]
