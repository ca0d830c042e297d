"""COCO's JSON files: what they say of a split, and where its images lie."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from yolojax.data.formats import scan
from yolojax.data.formats.coco import annotations as coco_objects
from yolojax.data.formats.coco.annotations import AnnotationError
from yolojax.data.formats.description import DataDescription
from yolojax.data.formats.problems import CODES, Problem
from yolojax.data.geometry import Hw
from yolojax.data.store import images as images_lib
from yolojax.files import plain_path, slashes

VERSION = 4  # raise it when files are read differently
SHOWN = 5  # annotations that a problem lists
MAX_SIDE = 1 << 16  # pixels


@dataclasses.dataclass(frozen=True)
class CocoSummary:
    """What the files of a split say, short of its objects; JSON can hold it."""

    paths: list[str]  # of the images, sorted
    categories: list[tuple[int, str]]  # by ascending id
    keypoints: list[str] | None  # names, "" where unknown; None: there are none
    outlines: str  # which objects have a segmentation: "all", "some" or "none"
    problems: list[Problem]
    crowds: dict[str, list[str]]  # path -> rows as in label files; category, not class
    ids: dict[str, int | str]  # path -> number of the image


@dataclasses.dataclass
class ImagePart:
    """What one file says about one image."""

    file: str
    number: int | str  # of the image
    hw: Hw | None  # size that the boxes refer to; None: that of the picture
    annotations: list[dict[str, Any]]  # of single objects
    crowds: list[dict[str, Any]]


ImageParts = dict[str, list[ImagePart]]  # by path of the image


def summary_of(
    data: DataDescription, split: str, cache_dir: str | os.PathLike[str] | None
) -> tuple[CocoSummary, ImageParts | None]:
    """Returns what the files of a split say, and their objects if they were read.

    Args:
        data: names the files.
        split: "train", "val" or "test".
        cache_dir: keeps the summary, as large files take long; None keeps nothing.

    Raises:
        FileNotFoundError: none of the images is there.
        ValueError: a file is not what it should be.
    """
    if cache_dir is None:
        return read_files(data, split)
    file = Path(cache_dir) / f"coco-{_fingerprint(data, split)[:32]}.json"
    kept = _kept(file)
    if kept is not None:
        return kept, None
    summary, parts = read_files(data, split)
    if not any(problem.code == "missing_image" for problem in summary.problems):
        # Missing ones may turn up elsewhere.
        scan.keep(file, json.dumps(dataclasses.asdict(summary)).encode())
    return summary, parts


def numbering_of(
    data: DataDescription, split: str, cache_dir: str | os.PathLike[str] | None
) -> CocoSummary:
    """Returns what the files of a split say of classes; their images may be elsewhere.

    Args:
        data: names the files.
        split: "train", "val" or "test".
        cache_dir: as of `summary_of`.
    """
    try:
        return summary_of(data, split, cache_dir)[0]
    except FileNotFoundError:  # none of the images is there, and none is needed
        contents = [(place, read_json(place)) for place in data.places(split)]
    names = [_keypoint_names(content) for _, content in contents]
    categories = _categories(*contents[0])
    keypoints = next(filter(None, names), None)
    return CocoSummary([], categories, keypoints, "none", [], {}, {})


def _fingerprint(data: DataDescription, split: str) -> str:
    """Returns a hash of names, sizes and times of the files of a split."""
    states = [(str(place), scan.state_of(place)) for place in data.places(split)]
    where = str(data.root), str(data.image_roots.get(split))
    return hashlib.sha256(repr((VERSION, states, where)).encode()).hexdigest()


def _kept(file: Path) -> CocoSummary | None:
    """Returns a summary that was kept; None if it is absent, damaged or outdated."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        problems = [Problem(**problem) for problem in content["problems"]]
        summary = CocoSummary(**content | {"problems": problems})
    except (OSError, KeyError, ValueError, TypeError):
        return None
    # An image that has gone may lie elsewhere now, or be missing.
    return summary if all(map(os.path.isfile, summary.paths)) else None


def read_files(data: DataDescription, split: str) -> tuple[CocoSummary, ImageParts]:
    """Returns what the files of a split say; see `summary_of`."""
    parts: ImageParts = {}
    problems: list[Problem] = []
    categories: list[tuple[int, str]] | None = None
    keypoints: list[str] | None = None
    for place in data.places(split):
        content = read_json(place)
        found = _categories(place, content)
        if categories is not None and found != categories:
            raise ValueError(
                f"{place}: its categories are not those of the other files of"
                f" `{split}` in {data.path}. Give all of them the same."
            )
        categories = found
        keypoints = keypoints or _keypoint_names(content)
        bases = _bases(data, split, place)
        images, more = _images(place, content["images"], bases, parts)
        problems += more
        problems += _share_out(place, content.get("annotations", []), images)
    if not parts:
        raise ValueError(f"{data.path}: the files of split `{split}` list no image.")
    crowds = {
        path: _crowd_rows(path, group, problems)
        for path, group in parts.items()
        if any(part.crowds for part in group)
    }
    summary = CocoSummary(
        sorted(parts),
        categories or [],
        keypoints,
        _outlines(parts),
        problems,
        crowds,
        {path: group[0].number for path, group in parts.items()},
    )
    return summary, parts


def read_json(path: Path) -> dict[str, Any]:
    """Returns the content of a file.

    Raises:
        ValueError: it is not what it should be.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    for key in ("images", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(
                f"{path}: has no list `{key}`, but COCO's files are an object with the"
                " lists `images`, `annotations` and `categories`."
            )
    if not isinstance(content.get("annotations", []), list):
        raise ValueError(f"{path}: `annotations` must be a list.")
    return content


def _number(text: str) -> int | float:
    """Returns a number that is written with a point or an exponent: 1.0 is 1."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _categories(path: Path, content: dict[str, Any]) -> list[tuple[int, str]]:
    names: dict[int, str] = {}
    for i, entry in enumerate(content["categories"]):
        number = entry.get("id") if isinstance(entry, dict) else None
        if type(number) is not int or not isinstance(entry.get("name"), str):
            raise ValueError(
                f"{path}: categories[{i}] = {entry!r} needs `id`, a whole number, and"
                " `name`, text."
            )
        if number in names:
            raise ValueError(
                f"{path}: category {number} is both {names[number]!r} and"
                f" {entry['name']!r}. Give each its own `id`."
            )
        names[number] = entry["name"]
    if not names:
        raise ValueError(f"{path}: `categories` is empty.")
    return sorted(names.items())


def _keypoint_names(content: dict[str, Any]) -> list[str] | None:
    """Returns the names of the keypoints, empty ones if only their number is known."""
    for category in content["categories"]:
        names = category.get("keypoints")
        if isinstance(names, list) and names:
            return [str(name) for name in names]
    for annotation in content.get("annotations", []):
        values = annotation.get("keypoints") if isinstance(annotation, dict) else None
        if isinstance(values, list) and len(values) >= 3:
            return [""] * (len(values) // 3)
    return None


def _bases(data: DataDescription, split: str, place: Path) -> list[Path]:
    """Returns the folders that file names may start from."""
    if split in data.image_roots:
        return [data.image_roots[split]]
    stem = place.stem.rpartition("_")[2]  # train2017 of instances_train2017
    root = data.root
    found = [place.parent, root, root / stem, root / "images", root / "images" / stem]
    return list(dict.fromkeys(found))


def _images(
    place: Path, entries: list[Any], bases: Sequence[Path], parts: ImageParts
) -> tuple[dict[int | str, ImagePart], list[Problem]]:
    """Adds the images of a file to `parts`.

    Returns:
        Images by id; what is wrong with others.
    """
    images: dict[int | str, ImagePart] = {}
    problems = []
    file, tried = str(place), ", ".join(str(base) for base in bases)

    def problem(
        code: str, within: str, reason: str, dropped: bool, hint: str = ""
    ) -> None:
        problems.append(Problem(file, None, code, reason, dropped, within, hint=hint))

    there = 0
    for i, entry in enumerate(entries):
        entry = entry if isinstance(entry, dict) else {}
        number, name = entry.get("id"), entry.get("file_name")
        if not _is_id(number) or not isinstance(name, str):
            problem("bad_image", f"images[{i}]", "", True)
            continue
        if number in images:
            problem(
                "duplicate_image_id", f"images[{i}]", f"id {number!r} is taken", True
            )
            continue
        images[number] = part = ImagePart(file, number, _stated_hw(entry), [], [])
        candidates = (plain_path(os.path.join(base, name)) for base in bases)
        path = next(filter(os.path.isfile, candidates), None)
        within = f"image {number!r}, {name!r}"
        if path is None:
            hint = slashes(name).strip(" .")
            problem("missing_image", within, f"is in none of {tried}", True, hint)
            continue
        there += 1
        if path in parts:
            what = "is listed again; what is said of it is put together"
            problem("duplicate_image", within, what, False)
        parts.setdefault(path, []).append(part)
    if images and not there:
        first = next(entry for entry in entries if isinstance(entry, dict))
        raise FileNotFoundError(
            f"{place}: none of its {len(images)} images is there, such as"
            f" {first.get('file_name')!r}; looked in {tried}. Name their folder in"
            f" a data.yaml as `image_root`.{slashes(str(first.get('file_name')))}"
        )
    return images, problems


def _is_id(value: Any) -> TypeGuard[int | str]:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _stated_hw(entry: dict[str, Any]) -> Hw | None:
    height, width = entry.get("height"), entry.get("width")
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    right = 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE
    return (height, width) if right else None


def stated_sizes(content: dict[str, Any]) -> dict[int | str, Hw]:
    """Returns the sizes that a file states of its images, by id."""
    entries = (entry for entry in content["images"] if isinstance(entry, dict))
    sizes = {
        entry["id"]: _stated_hw(entry) for entry in entries if _is_id(entry.get("id"))
    }
    return {number: hw for number, hw in sizes.items() if hw is not None}


def _share_out(
    place: Path, annotations: list[Any], images: dict[int | str, ImagePart]
) -> list[Problem]:
    """Hands each annotation to its image; returns what is wrong with others."""
    stray: dict[str, list[str]] = {}
    first_unknown = ""
    for i, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            stray.setdefault("not_an_object", []).append(f"no. {i + 1}")
            continue
        number, crowd = annotation.get("image_id"), annotation.get("iscrowd", 0)
        part = images.get(number) if _is_id(number) else None
        shown = repr(annotation.get("id"))
        if part is None:
            stray.setdefault("unknown_image", []).append(shown)
            first_unknown = first_unknown or f", {number!r}{_kinds(number, images)}"
        elif crowd not in (0, 1, None):
            stray.setdefault("bad_iscrowd", []).append(shown)
        else:
            (part.crowds if crowd else part.annotations).append(annotation)
    problems = []
    for code, numbers in stray.items():
        listed = ", ".join(numbers[:SHOWN])
        more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        said = CODES[code] + (first_unknown if code == "unknown_image" else "")
        within, reason = f"annotation {listed}{more}", f"{said}, left out"
        problems.append(Problem(str(place), None, code, reason, False, within))
    return problems


def _kinds(number: Any, images: dict[int | str, ImagePart]) -> str:
    """Returns what to say of an unknown id that is written as no other is."""
    kinds = {str: "text", int: "a number"}
    there = {type(known) for known in images}
    if type(number) in there or type(number) not in kinds or len(there) != 1:
        return ""
    return f" ({kinds[type(number)]}, but ids there are {kinds[there.pop()]})"


def _outlines(parts: ImageParts) -> str:
    """Returns which objects have a segmentation."""
    with_one = objects = 0
    for group in parts.values():
        for part in group:
            for annotation in part.annotations:
                box = annotation.get("bbox")
                if coco_objects.has_area(box):
                    objects += 1
                    with_one += bool(annotation.get("segmentation"))
    if not with_one:
        return "none"
    return "all" if with_one == objects else "some"


def _crowd_rows(
    path: str, group: list[ImagePart], problems: list[Problem]
) -> list[str]:
    """Returns the rows of the crowds in an image, with categories for classes."""
    rows = []
    for part in group:
        for annotation in part.crowds:
            try:
                hw = part.hw or images_lib.read_image(path).shape[:2]
            except ValueError:
                continue  # the scan says what is wrong with the picture
            try:
                box = coco_objects.bbox(annotation)
                if "category_id" not in annotation:
                    raise AnnotationError("unknown_category", None)
            except AnnotationError as error:
                within = f"annotation {annotation.get('id')!r}"
                what = error.code, error.reason
                problems.append(Problem(part.file, None, *what, False, within))
                continue
            number = annotation["category_id"]
            if coco_objects.has_area(box) and type(number) is int:
                rows.append(coco_objects.box_row(number, box, hw))
    return rows
