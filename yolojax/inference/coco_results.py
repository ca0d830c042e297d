"""Detections of a whole split as COCO writes them: files, and COCO's evaluation."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolojax import files
from yolojax.data.formats.coco import files as coco_files
from yolojax.data.formats.labelled import LabelledImages
from yolojax.metrics import coco
from yolojax.types import Detections

log = logging.getLogger("yolojax")


class CocoResults:
    """The detections of a split in COCO's form, and COCO's evaluation of them.

    Images and categories have the numbers of the data set's own COCO files, if it has
    any. If it is one, the annotations are those of the file.
    """

    def __init__(
        self, source: LabelledImages, classes: Sequence[int] | None, *, single_cls: bool
    ):
        """Prepares the annotations.

        Args:
            source: images and labels.
            classes: ids of the classes whose labels count; None: all.
            single_cls: whether all classes are one, which no COCO file knows.
        """
        coco.library()  # missing? better said now than after the work
        self._paths = source.paths
        self._ids = coco.category_ids(source.names, source.paths)
        known = source.coco
        # Several files may number different images alike.
        own = known is not None and len(set(known.images)) == len(source)
        numbers = known.images if known is not None and own else None
        self._numbers = numbers or [None] * len(source)
        if known is not None and not single_cls:
            self._ids = known.categories
        if known is not None and numbers and known.file and not single_cls:
            wanted = self._ids if classes is None else [self._ids[i] for i in classes]
            content = coco_files.load(Path(known.file))
            self._truth = coco.published_truth(content, numbers, wanted)
        else:
            self._truth = coco.ground_truth(
                source.paths,
                source.original_hw,
                source.labels,
                source.names,
                self._ids,
                source.crowds,
                numbers,
            )
        self._entries: list[dict[str, Any]] = []

    def add(self, host: dict[str, np.ndarray], found: Detections) -> None:
        """Adds the detections of a batch."""
        for row in np.flatnonzero(host["example_valid"]):
            kept = found.valid[row]
            self._entries += coco.detection_entries(
                self._paths[host["image_id"][row]],
                host["original_hw"][row],
                host["letterbox"][row],
                found.boxes[row][kept],
                found.scores[row][kept],
                found.classes[row][kept],
                self._ids,
                self._numbers[host["image_id"][row]],
            )

    def finish(self, max_det: int, folder: Path) -> dict[str, float]:
        """Writes both files, prints COCO's table and returns its numbers."""
        files.replace_text(folder / "predictions.json", json.dumps(self._entries))
        files.replace_text(folder / "annotations.json", json.dumps(self._truth))
        log.info("%d detections written to predictions.json", len(self._entries))
        result = coco.evaluate(self._truth, self._entries, max_det)
        print(result.table())
        numbers = result.numbers | {f"AP_{max_det}_detections": result.ap_max_det}
        return {f"coco/{name}": value for name, value in numbers.items()}
