"""Data sets of TensorFlow Datasets, as `tfds:coco/2017`: pictures with boxes.

They are read where they were prepared, in the format array_record, which does without
TensorFlow. Nothing is downloaded or prepared here.
"""

import concurrent.futures
import dataclasses
import json
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolojax.data.formats import labelled, scan, subset
from yolojax.data.formats.coco import annotations as coco_objects
from yolojax.data.formats.description import SPLITS, TFDS, DataDescription
from yolojax.data.formats.labelled import LabelledImages, Wanted
from yolojax.data.formats.labels import LabelError, parse_labels
from yolojax.data.formats.listing import verify_encoded
from yolojax.data.formats.problems import Problem
from yolojax.data.formats.scan import LabelRules, Verdict
from yolojax.data.geometry import Hw
from yolojax.errors import MissingSplitError
from yolojax.files import local_path

VERSION = 2  # raise it when records are read differently
USUAL = {  # names that a split may have, in the order they are tried
    "train": ("train",),
    "val": ("validation", "val", "valid"),
    "test": ("test",),
}
CROWD = ("is_crowd", "is_group_of")
NO_ROWS = np.zeros((0, 5), np.float32)

log = logging.getLogger("yolojax")


class RecordReader:
    """The encoded pictures of a prepared split, by name. Pickles to its place only."""

    def __init__(self, folder: str, split: str, numbers: Mapping[str, int]):
        """Opens nothing yet.

        Args:
            folder: of the prepared data set.
            split: its name there.
            numbers: name of a picture -> number of its record.
        """
        self._place = (folder, split)
        self._numbers = dict(numbers)
        self._lock = threading.Lock()
        self._records: Any = None

    def read(self, path: str) -> np.ndarray:
        """Returns the bytes [n] uint8 of an encoded picture."""
        with self._lock:
            if self._records is None:
                self._records = _records(*self._place)
        return _encoded(self._records[self._numbers[path]])

    def __getstate__(self) -> dict[str, Any]:
        """Returns where the pictures are: open files and locks stay here."""
        return {"_place": self._place, "_numbers": self._numbers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Starts anew in another process."""
        self.__init__(*state["_place"], state["_numbers"])  # type: ignore[misc]


@dataclasses.dataclass(frozen=True)
class TfdsFeatures:
    """Where records hold their objects."""

    objects: str  # feature with a `bbox` for each
    label: bool  # whether there is a class
    crowd: str | None  # which feature tells groups from single objects
    filename: str | None
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of a prepared data set."""

    name: str  # tfds:NAME/SPLIT, what names of its pictures start with
    folder: Path
    split: str  # its name there
    files: tuple[str, ...]
    features: TfdsFeatures


@dataclasses.dataclass(frozen=True)
class Scanned:
    """What is known of all records of a split, in the order of their names."""

    paths: list[str]
    numbers: list[int]
    crowds: list[list[str]]  # rows as in label files
    verdicts: list[Verdict]


def open_tfds(
    data: str,
    split: str,
    wanted: Wanted,
    *,
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
) -> LabelledImages:
    """Returns one split of a prepared data set, scanned.

    Args:
        data: tfds:NAME, tfds:NAME/CONFIG or either with :VERSION.
        split: "train", "val" or "test".
        wanted: what is used of it.
        cache_dir: keeps the result of the scan for the next run; None keeps nothing.
        threads: images scanned at the same time.

    Raises:
        FileNotFoundError: the data set is not prepared.
        ValueError: it has no such split, no boxes, or nothing usable.
    """
    if wanted.task != "detect":
        raise ValueError(
            f"data = {data!r}: data sets of TensorFlow Datasets are read for their"
            f" boxes, so only for task 'detect', but the task is {wanted.task!r}. Use"
            " files in the layout of that task instead."
        )
    place, kept = _find_split(data, split)
    names = place.features.names
    description = DataDescription(
        Path(data), place.folder, names, {s: () for s in kept}, None, None, None
    )
    labelled.check_wanted(description, split, wanted)
    rules = LabelRules(len(names), wanted.single_cls, None, False)
    found = _scanned(place, rules, cache_dir, threads)
    paths = found.paths
    if wanted.fraction_mode == "head":
        paths = subset.head(paths, subset.split_fraction(wanted.fraction, split))
    verdicts, skipped = found.verdicts[: len(paths)], len(found.paths) - len(paths)
    source = labelled.assemble(
        description, split, wanted, paths, verdicts, lambda path: path, skipped
    )
    crowds = {
        path: np.array([row.split() for row in rows], np.float32).reshape(-1, 5)
        for path, rows in zip(found.paths, found.crowds, strict=True)
    }
    numbers = dict(zip(found.paths, found.numbers, strict=True))
    return dataclasses.replace(
        source,
        crowds=[labelled.wanted_crowds(crowds[path], wanted) for path in source.paths]
        if place.features.crowd
        else None,
        reader=RecordReader(
            str(place.folder),
            place.split,
            {path: numbers[path] for path in source.paths},
        ),
    )


def _find_split(data: str, split: str) -> tuple[Split, list[str]]:
    """Returns a split and which ones there are."""
    folder = _prepared(data)
    builder = _builder(folder)
    there = builder.info.splits
    usual = {
        s: next((name for name in USUAL[s] if name in there), None) for s in SPLITS
    }
    kept = [s for s in SPLITS if usual[s]]
    name = usual.get(split)
    if name is None and split == "val" and "test" in there:
        log.warning("%s has no validation split; its test split is used", data)
        name, kept = "test", [*kept, "val"]
    if name is None:
        raise MissingSplitError(
            f"data = {data!r}: has no split for `{split}`; its splits are"
            f" {', '.join(sorted(there))}."
        )
    files = sorted(str(file) for file in there[name].filepaths)
    about = [str(folder / file) for file in ("dataset_info.json", "features.json")]
    features = _features(data, builder.info.features)
    return Split(f"{data}/{name}", folder, name, (*about, *files), features), kept


def _prepared(data: str) -> Path:
    """Returns the folder in which a data set was prepared.

    Raises:
        FileNotFoundError: it was not.
    """
    root = local_path(
        os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets",
        "the environment variable TFDS_DATA_DIR",
    )
    name, _, version = data.removeprefix(TFDS).partition(":")
    place = root.absolute() / name
    versions = sorted(_versions(place)) if name else []
    if version:
        versions = [v for v in versions if ".".join(map(str, v)) == version]
    if versions:
        return place / ".".join(map(str, versions[-1]))
    code = f"tfds.builder({name!r}, file_format='array_record').download_and_prepare()"
    configs = (
        [p.name for p in place.iterdir() if _versions(p)] if place.is_dir() else []
    )
    hint = f" It is there as {', '.join(sorted(configs))}." if configs else ""
    raise FileNotFoundError(
        f"data = {data!r} is not prepared in {root}.{hint} Set the environment variable"
        ' TFDS_DATA_DIR if it is elsewhere, or prepare it once: python -c "import'
        f' tensorflow_datasets as tfds; {code}"  For some data sets, coco among them,'
        " that command needs TensorFlow (pip install tensorflow-cpu); training does"
        " not."
    )


def _versions(place: Path) -> list[tuple[int, ...]]:
    if not place.is_dir():
        return []
    found = [p.name for p in place.iterdir() if (p / "features.json").is_file()]
    whole = [name for name in found if re.fullmatch(r"\d+\.\d+\.\d+", name)]
    return [tuple(int(n) for n in name.split(".")) for name in whole]


def _builder(folder: Path) -> Any:
    """Returns what reads a prepared data set."""
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ValueError(
            "data sets of TensorFlow Datasets need the package tensorflow-datasets,"
            f" which cannot be imported: {error}. Run: pip install tensorflow-datasets"
        ) from error
    builder = tensorflow_datasets.builder_from_directory(folder)
    formats = {str(kind.value) for kind in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise ValueError(
            f"{folder}: is stored as {', '.join(sorted(formats))}, which only"
            " TensorFlow reads. Prepare it once more with"
            " file_format='array_record' and another TFDS_DATA_DIR."
        )
    return builder


def _records(folder: str, split: str) -> Any:
    import tensorflow_datasets

    # Decoded by us, as files are: same pixels, upright.
    raw = {"image": tensorflow_datasets.decode.SkipDecoding()}
    return _builder(Path(folder)).as_data_source(split, decoders=raw)


def _features(data: str, declared: Any) -> TfdsFeatures:
    """Returns where records hold their objects.

    Raises:
        ValueError: there are no boxes.
    """
    for key, feature in sorted(declared.items()):  # in no order of their own
        items = getattr(getattr(feature, "feature", None), "items", None)
        inner = {} if items is None else dict(items())
        if "image" in declared and "bbox" in inner:
            label = getattr(inner.get("label"), "names", None)
            return TfdsFeatures(
                key,
                label is not None,
                next((name for name in CROWD if name in inner), None),
                "image/filename" if "image/filename" in declared else None,
                tuple(label or (key,)),
            )
    raise ValueError(
        f"data = {data!r}: has no `image` with a list of objects that have a `bbox`;"
        f" its features are {', '.join(sorted(declared))}. Choose a data set for"
        " detection."
    )


def _scanned(
    place: Split,
    rules: LabelRules,
    cache_dir: str | os.PathLike[str] | None,
    threads: int,
) -> Scanned:
    """Returns what is known of every record."""
    index = file = None
    if cache_dir is not None:
        digest = scan.fingerprint([f"{place.name} {VERSION}", *place.files], rules)[:32]
        file = Path(cache_dir) / f"tfds-{digest}.npz"
        index = file.with_suffix(".json")
        kept = _kept(index, file)
        if kept is not None:
            return kept
    found = _scan(place, rules, threads)
    if index is not None and file is not None:
        lists = {k: v for k, v in vars(found).items() if k != "verdicts"}
        scan.write(file, found.verdicts)
        scan.keep(index, json.dumps(lists).encode())
    return found


def _kept(index: Path, file: Path) -> Scanned | None:
    """Returns a scan that was kept; None if it is absent or damaged."""
    verdicts = scan.read(file)
    try:
        lists = json.loads(index.read_text(encoding="utf-8"))
        if verdicts is None or len(verdicts) != len(lists["paths"]):
            return None
        return Scanned(**lists, verdicts=verdicts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _scan(place: Split, rules: LabelRules, threads: int) -> Scanned:
    records = _records(str(place.folder), place.split)
    features = place.features

    def look(number: int) -> tuple[str, list[str], Verdict]:
        record = records[number]
        name = f"{number:06d}"
        if features.filename:
            name = bytes(record[features.filename]).decode("utf-8", "replace") or name
        path = f"{place.name}/{name}"
        return path, *verify_record(path, record, features, rules)

    with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        seen = list(pool.map(look, range(len(records))))
    if len({path for path, _, _ in seen}) < len(seen):  # names that are none
        seen = [(f"{place.name}/{i:06d}", *s[1:]) for i, s in enumerate(seen)]
    # Records lie in a random order; by name it is that of a folder of these files.
    order = sorted(range(len(seen)), key=lambda i: seen[i][0])
    paths, crowds, verdicts = zip(*(seen[i] for i in order), strict=True)
    return Scanned(list(paths), order, list(crowds), list(verdicts))


def verify_record(
    path: str, record: Mapping[str, Any], features: TfdsFeatures, rules: LabelRules
) -> tuple[list[str], Verdict]:
    """Returns the rows of crowds, and whether an image can be used, and how."""
    seen = verify_encoded(_encoded(record))
    if seen.hw is None:
        return [], Verdict(None, NO_ROWS, seen.problems(path))
    rows, crowds, empty = _rows(record[features.objects], features, seen.hw)
    once = list(dict.fromkeys(rows))
    counts = {"empty_boxes": empty, "duplicates_removed": len(rows) - len(once)}
    notes = [
        Problem(path, None, code, "", False, count=count)
        for code, count in counts.items()
        if count
    ]
    try:
        parsed = parse_labels(
            "\n".join(once),
            num_classes=rules.num_classes,
            single_cls=rules.single_cls,
            kpt_shape=None,
            pose=False,
        )
    except LabelError as error:
        within = f"object {once[error.line - 1]!r}"
        problem = Problem(path, None, error.code, "", True, within)
        return [], Verdict(None, NO_ROWS, (problem,))
    odd = (*seen.problems(path), *notes)
    return crowds, Verdict(seen.hw, parsed.rows, odd, digest=seen.digest)


def _rows(
    objects: Mapping[str, Sequence[Any]], features: TfdsFeatures, hw: Hw
) -> tuple[list[str], list[str], int]:
    """Returns the rows of objects and of crowds, and how many boxes are empty."""
    height, width = hw
    boxes = np.array(objects["bbox"], np.float64).reshape(-1, 4)
    # Differences of corners in float32 have fewer digits than label files; the pixels
    # they were made of have three decimals at most in practice, and can be told.
    y1, x1, y2, x2 = (boxes * [height, width, height, width]).T
    xywh = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(3)
    labels = objects["label"] if features.label else [0] * len(boxes)
    groups = objects[features.crowd] if features.crowd else [0] * len(boxes)
    rows: list[str] = []
    crowds: list[str] = []
    empty = 0
    for box, label, group in zip(xywh.tolist(), labels, groups, strict=True):
        if box[2] <= 0 or box[3] <= 0:
            empty += 1
            continue
        row = coco_objects.box_row(int(label), box, hw)
        (crowds if int(group) == 1 else rows).append(row)
    return rows, crowds, empty


def _encoded(record: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(record["image"], np.uint8)
