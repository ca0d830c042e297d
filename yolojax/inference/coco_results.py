"""Detections of a whole split as COCO writes them: files, and COCO's evaluation."""

import functools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolojax import files
from yolojax.data.formats.coco import annotations as coco_objects
from yolojax.data.formats.coco import files as coco_files
from yolojax.data.formats.labelled import LabelledImages
from yolojax.metrics import coco, coco_entries
from yolojax.metrics.coco_entries import Picture
from yolojax.ops import keypoints as keypoint_ops
from yolojax.ops import masks as mask_ops
from yolojax.types import Detections

# Task -> what COCO's evaluation compares besides boxes.
SECOND = {"segment": "segm", "pose": "keypoints"}
TITLES = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
PERSON_AREA = 0.53  # of a person as a share of its box, as in our own OKS

log = logging.getLogger("yolojax")


class CocoResults:
    """The detections of a split in COCO's form, and COCO's evaluation of them.

    Images and categories have the numbers of the data set's own COCO files, if it has
    any. If it is one, the annotations are those of the file. Entries of task segment
    hold masks at the size of the original images, those of pose keypoints.
    """

    def __init__(
        self,
        source: LabelledImages,
        task: str,
        classes: Sequence[int] | None,
        *,
        single_cls: bool,
    ):
        """Prepares the annotations.

        Args:
            source: images and labels.
            task: detect, segment or pose.
            classes: ids of the classes whose labels count; None: all.
            single_cls: whether all classes are one, which no COCO file knows.
        """
        coco.library()  # missing? better said now than after the work
        self._second = SECOND.get(task)
        self._sigmas: tuple[float, ...] | None = None
        if self._second == "keypoints":
            assert source.kpt_shape is not None  # or the source was refused
            usual = keypoint_ops.usual_sigmas(source.kpt_shape)
            self._sigmas = source.kpt_sigmas or usual
        self._pictures = _pictures(source)
        self._ids = coco_entries.category_ids(source.names, source.paths)
        if source.coco is not None and not single_cls:
            self._ids = source.coco.categories
        wanted = self._ids if classes is None else [self._ids[i] for i in classes]
        published = None if single_cls else _published(source, self._pictures)
        if published is not None:
            self._truth = coco_entries.published_truth(
                published,
                self._pictures,
                wanted,
                functools.partial(_of_file, source, self._second),
            )
        else:
            self._truth = coco_entries.ground_truth(
                self._pictures,
                source.labels,
                source.names,
                self._ids,
                source.crowds,
                functools.partial(_of_labels, source, self._second),
            )
        self._entries: list[dict[str, Any]] = []

    def collected(self, stream: Iterable[Any]) -> Iterator[Any]:
        """Yields what is found in batches, and adds their detections."""
        for host_batch, (terms, found) in stream:
            self.add(host_batch, found)
            yield host_batch, (terms, found)

    def add(self, host: dict[str, np.ndarray], found: Detections) -> None:
        """Adds the detections of a batch."""
        for row in np.flatnonzero(host["example_valid"]):
            kept = np.flatnonzero(found.valid[row])
            picture = self._pictures[host["image_id"][row]]
            letterbox = host["letterbox"][row].tolist()
            boxes = coco_entries.original_boxes(
                found.boxes[row][kept], letterbox, picture.hw
            )
            entries = coco_entries.detection_entries(
                picture,
                boxes,
                found.scores[row][kept],
                found.classes[row][kept],
                self._ids,
            )
            if self._second == "segm":
                # Cropped to the boxes that are written: a side at 4.0000001 is at 4.
                masks = mask_ops.packed_at_original(
                    found.masks[row][kept], boxes.round(3), letterbox, picture.hw
                )
                for entry, mask in zip(entries, masks, strict=True):
                    entry["segmentation"] = coco.run_lengths(mask)
            if self._second == "keypoints":
                points = _original_points(
                    found.keypoints[row][kept], letterbox, picture.hw
                )
                for entry, flat in zip(entries, points, strict=True):
                    entry["keypoints"] = flat
            self._entries += entries

    def finish(self, max_det: int, folder: Path) -> dict[str, float]:
        """Writes both files, prints COCO's tables and returns their numbers.

        Those of boxes are called coco/AP and so on, those of masks coco/segm/AP, those
        of keypoints coco/keypoints/AP.
        """
        files.replace_text(folder / "predictions.json", json.dumps(self._entries))
        files.replace_text(folder / "annotations.json", json.dumps(self._truth))
        log.info("%d detections written to predictions.json", len(self._entries))
        found: dict[str, float] = {}
        for kind in ("bbox", self._second):
            if kind is None:
                continue
            result = coco.evaluate(
                self._truth, self._entries, max_det, kind, self._sigmas
            )
            print(f"COCO evaluation of {TITLES[kind]}")
            print(result.table())
            numbers = result.numbers | {f"AP_{max_det}_detections": result.ap_max_det}
            prefix = "coco" if kind == "bbox" else f"coco/{kind}"
            found |= {f"{prefix}/{name}": value for name, value in numbers.items()}
        return found


def _pictures(source: LabelledImages) -> tuple[Picture, ...]:
    """Returns the images with the ids of the data set's own files, if it has any."""
    sizes = [(height, width) for height, width in source.original_hw.tolist()]
    known = source.coco
    # Several files may number different images alike.
    own = known is not None and len(set(known.images)) == len(source)
    numbers = known.images if known is not None and own else [None] * len(source)
    return tuple(map(Picture, source.paths, sizes, numbers))


def _published(
    source: LabelledImages, pictures: Sequence[Picture]
) -> dict[str, Any] | None:
    """Returns the content of the file that has the annotations; None if none has."""
    known = source.coco
    if known is None or not known.file or pictures[0].number is None:
        return None
    content = coco_files.read_json(Path(known.file))
    sizes = coco_files.stated_sizes(content)
    # Elsewhere its pixels are not those of the picture.
    same = all(sizes.get(p.id, p.hw) == p.hw for p in pictures)
    return content if same else None


def _of_file(
    source: LabelledImages,
    kind: str | None,
    annotation: Mapping[str, Any],
    hw: tuple[int, int],
) -> dict[str, Any]:
    """Returns what an annotation of a COCO file says besides its box."""
    if kind == "segm":
        return {"segmentation": coco_objects.segmentation(annotation, hw)}
    if kind == "keypoints":
        assert source.kpt_shape is not None
        return coco_objects.keypoints(annotation, source.kpt_shape[0])
    return {}


def _of_labels(
    source: LabelledImages, kind: str | None, image: int, i: int, box: list[float]
) -> dict[str, Any]:
    """Returns what object i of an image is besides its box x, y, w, h in pixels.

    The crowds of the image come after its objects.
    """
    height, width = source.original_hw[image].tolist()
    crowd = i >= len(source.labels[image])
    if kind == "segm":
        points = coco_objects.corners(box)
        if not crowd:
            assert source.polygons is not None  # or the source was refused
            points = source.polygons[image][i] * [width, height]
        flat = np.round(points, 3).ravel().tolist()
        area = coco.polygon_area(flat, (height, width))
        return {"segmentation": [flat], "area": area}
    if kind == "keypoints":
        assert source.kpt_shape is not None and source.keypoints is not None
        none = np.zeros((source.kpt_shape[0], 3))
        labelled = none if crowd else source.keypoints[image][i]
        fields = coco_entries.keypoint_fields(labelled, (height, width))
        return fields | {"area": PERSON_AREA * box[2] * box[3]}
    return {}


def _original_points(
    keypoints: np.ndarray, letterbox: Sequence[float], original_hw: tuple[int, int]
) -> list[list[float]]:
    """Returns x, y, visibility in turn, in pixels of the original image.

    Args:
        keypoints: [D, K, 3] in pixels of the network input.
        letterbox: gain_h, gain_w, pad_left, pad_top kept by the loader.
        original_hw: height and width of the original image.
    """
    gain_h, gain_w, left, top = letterbox
    scaled = keypoint_ops.scale_keypoints(
        keypoints.astype(np.float64), (0, 0), original_hw, (gain_h, gain_w, left, top)
    )
    return np.round(scaled, 3).reshape(len(scaled), -1).tolist()
