"""The data description: the YAML file that names a data set's folders and classes."""

import dataclasses
import functools
import glob
import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from yolojax.data.formats.problems import CONFIGS
from yolojax.data.store.images import is_image
from yolojax.files import local_path, slashes
from yolojax.registry import meant_for

SPLITS = ("train", "val", "test")
KEYS = (
    *("path", *SPLITS, "validation", "image_root", "names", "nc", "channels"),
    *("kpt_shape", "flip_idx", "kpt_oks_sigmas", "download"),
)
TFDS = "tfds:"  # what names of data sets of TensorFlow Datasets start with

log = logging.getLogger("yolojax")


@dataclasses.dataclass(frozen=True)
class DataDescription:
    """A checked data description."""

    path: Path  # the YAML file
    root: Path  # what relative folders start from
    names: tuple[str, ...]  # class names by id; empty: COCO files have them
    # Split -> folders, text files and patterns of images, or COCO's JSON files.
    splits: dict[str, tuple[Path, ...]]
    kpt_shape: tuple[int, int] | None  # (K, 2 or 3)
    flip_idx: tuple[int, ...] | None  # order of the keypoints in a mirrored image
    kpt_sigmas: tuple[float, ...] | None  # spread of each keypoint, if given
    # Split -> folder of the images that COCO's JSON files name, if given.
    image_roots: dict[str, Path] = dataclasses.field(default_factory=dict)
    download: str = ""  # what to do about data that are not there

    @property
    def coco(self) -> bool:
        """Whether the splits are JSON files as COCO's."""
        return any(_is_json(p) for places in self.splits.values() for p in places)

    def places(self, split: str) -> list[Path]:
        """Returns files and folders of a split, patterns expanded.

        Raises:
            ValueError: a pattern matches nothing.
        """
        found = []
        for place in self.splits[split]:
            if place.exists():
                found.append(place)
                continue
            matches = sorted(glob.glob(str(place), recursive=True))
            if not matches:
                start = glob.escape(str(self.root)) + os.sep
                raise ValueError(
                    f"{self.path}: {split} = {str(place).removeprefix(start)!r} matches"
                    f" nothing below {self.root}. Correct the pattern or `path`; `**`"
                    f" stands for any folders.{slashes(place)}{self.download}"
                )
            found += [Path(match) for match in matches]
        return found


@dataclasses.dataclass(frozen=True)
class DataFile:
    """What stands in the YAML file of a data description, not yet checked."""

    path: Path
    content: dict[str, Any]


def load_data_yaml(path: str | os.PathLike[str]) -> DataFile:
    """Returns the file of a data description, for `read_data_yaml`.

    Args:
        path: the file, or a folder with a file data.yaml.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is no YAML file, or no mapping.
    """
    path = local_path(path, "config.data").absolute()
    if path.is_dir():
        path = path / "data.yaml"
    return DataFile(path, _load(path))


def read_data_yaml(
    file: str | os.PathLike[str] | DataFile, needed: Sequence[str] = ("train", "val")
) -> DataDescription:
    """Returns the content of a data description.

    Args:
        file: the file, a folder with a file data.yaml, or what `load_data_yaml` read.
        needed: splits that are used. Others are described where they are right, and
            left out where they are not: nobody asked for them.

    Raises:
        FileNotFoundError: the file, or a folder that it names, does not exist.
        ValueError: a key is missing or of the wrong kind.
    """
    if not isinstance(file, DataFile):
        file = load_data_yaml(file)
    path, content = file.path, file.content
    root = _root(path, content)
    splits = {}
    for split in SPLITS:
        try:
            places = _split_places(path, root, content, split, split in needed)
        except (FileNotFoundError, ValueError):
            if split in needed:
                raise
            places = ()  # whoever opens it is told
        if places:
            splits[split] = places
    channels = content.get("channels", 3)
    if channels != 3:
        raise ValueError(
            f"{path}: channels = {channels!r}, only 3 is supported. Leave the key out"
            " to have every image read as colour."
        )
    named = "names" in content or "nc" in content
    asked = {split: splits[split] for split in needed if split in splits} or splits
    kpt_shape, coco = _kpt_shape(path, content), _all_json(path, asked)
    splits = {
        split: places
        for split, places in splits.items()
        if split in asked or all(_is_json(place) == coco for place in places)
    }
    _warn_of_keys(path, content)
    return DataDescription(
        path,
        root,
        _names(path, content) if named or not coco else (),
        splits,
        kpt_shape,
        _flip_idx(path, content, kpt_shape),
        _kpt_sigmas(path, content, kpt_shape),
        _image_roots(path, root, content, needed),
        _download(content),
    )


def _warn_of_keys(path: Path, content: dict[str, Any]) -> None:
    """Warns of keys that are sure to be meant for ours, such as Kpt-Shape."""
    for key in map(str, content):
        meant = key.lower().replace("-", "_")
        if key not in KEYS and meant in KEYS:
            _say_once(f"{path}:{meant_for(meant, (key,), KEYS)}")


def _split_places(
    path: Path, root: Path, content: dict[str, Any], split: str, needed: bool
) -> tuple[Path, ...]:
    """Returns files, folders and patterns of a split, none if it is not named.

    Raises:
        FileNotFoundError: one does not exist.
        ValueError: the key is needed and missing, or of the wrong kind.
    """
    value = content.get(split)
    if value is None and split == "val":
        value = content.get("validation")
    if value is not None:
        return _places(path, root, split, value, _download(content))
    if needed and split != "test":
        meant = meant_for(split, content, KEYS)
        if split == "val" and not meant:
            meant = meant_for("validation", content, KEYS)
        raise ValueError(
            f"{path}: key `{split}` is missing.{meant}"
            f" Add the folder of its images, for example `{split}: images/{split}`."
        )
    return ()


def _load(path: Path) -> dict[str, Any]:
    pattern = not path.exists() and glob.has_magic(str(path))
    if path.suffix.lower() in (".txt", ".json") or pattern:
        raise ValueError(
            f"data = {str(path)!r} names images, but nothing says what their classes"
            f" are called. Write a data.yaml with `train: {path.name}`, `val` and"
            " `names`, and set `data` to its path."
        )
    if not path.is_file():
        if path.name == "data.yaml" and len(classes_in(path.parent)) > 1:
            raise ValueError(
                f"{path.parent}: is a data set in class folders, such as"
                f" {', '.join(classes_in(path.parent)[:3])}, and its images have one"
                f" label each. Use {CONFIGS['classify']} for it; objects in images need"
                " a data.yaml and label files."
            )
        raise FileNotFoundError(
            f"{path}: there is no such data description. Set `data` to the path of a"
            " YAML file, or to 'shapes' for the built-in data set."
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: holds {_kind(content)}, but a data description is a mapping with"
            " the keys `train`, `val` and `names`."
        )
    return content


class _Loader(yaml.SafeLoader):
    """Keeps class names as they are written, where YAML would see values.

    It takes `no` for a truth value and `007` for a number.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        """Returns what a document says."""
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        for key, names in entries:
            if key.value == "names" and not isinstance(names, yaml.ScalarNode):
                for entry in names.value:  # a name, or an id and a name
                    name = entry[1] if isinstance(entry, tuple) else entry
                    if isinstance(name, yaml.ScalarNode):
                        name.tag = "tag:yaml.org,2002:str"
        return super().construct_document(node)


def classes_in(folder: Path) -> list[str]:
    """Returns the folders of images, one per class, of a data set made of such.

    They lie in `train`, or in the folder itself; none where images lie otherwise.
    """
    root = folder / "train" if (folder / "train").is_dir() else folder
    if not root.is_dir():
        return []
    found = [
        sub.name
        for sub in sorted(root.iterdir())
        if sub.is_dir() and any(is_image(file.name) for file in sub.iterdir())
    ]
    return [] if "images" in map(str.lower, found) else found


def _download(content: dict[str, Any]) -> str:
    """Returns what to do about data that are not there and could be fetched."""
    what = content.get("download")
    if what is None:
        return ""
    if isinstance(what, str) and re.fullmatch(r"https?://\S+", what.strip()):
        return (
            f" `download` is not carried out: fetch {what.strip()} and unpack it there."
        )
    return " `download` is not carried out; fetch the data by hand, as it says."


def _root(path: Path, content: dict[str, Any]) -> Path:
    value = content.get("path")
    if value is None:
        return path.parent
    if not isinstance(value, str):
        raise _wrong_kind(path, "path", value, "the data set's root folder as text")
    beside = path.parent / local_path(value, f"{path}: path")
    here = Path(value).absolute()
    for candidate in (beside, here):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"{path}: path = {value!r} is no folder; looked for {beside} and {here}."
        " Correct `path`, or leave it out to start from the folder of this file."
        f"{slashes(value)}{_download(content)}"
    )


def _names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if count is not None:
        whole = not isinstance(count, bool) and isinstance(count, int | float | str)
        try:
            whole = whole and float(count) == int(float(count)) and float(count) >= 1
        except (ValueError, OverflowError):
            whole = False
        if not whole:
            raise _wrong_kind(path, "nc", count, "the number of classes, 1 or more")
        count = int(float(count))
    if names is None:
        if count is None:
            raise ValueError(
                f"{path}: key `names` is missing.{meant_for('names', content, KEYS)}"
                f"{meant_for('nc', content, KEYS)} Add the class names as a list, or"
                " their number as `nc`."
            )
        return tuple(f"class_{i}" for i in range(count))
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise ValueError(
                f"{path}: the keys of `names` are {sorted(names, key=str)}, but must be"
                f" the class ids 0 to {len(names) - 1} without a gap."
            )
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise _wrong_kind(path, "names", names, "a list, or a mapping from id to name")
    if count is not None and count != len(names):
        raise ValueError(
            f"{path}: nc = {count}, but `names` has {len(names)} entries. Correct one,"
            " or leave `nc` out."
        )
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"{path}: the name of class {i} is {_kind(name or None)}, but must be"
                " text. Write one word, or words in quotes, for each class."
            )
    return tuple(names)


def _places(
    path: Path, root: Path, split: str, value: Any, download: str
) -> tuple[Path, ...]:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise _wrong_kind(
            path, split, value, "a folder, a text file, a pattern, or a list of them"
        )
    places = [root / local_path(entry, f"{path}: {split}") for entry in entries]
    for i, (entry, place) in enumerate(zip(entries, places, strict=True)):
        if place.exists():
            continue
        # Tools that export data sets count from a folder below that of the file.
        nearer = root / entry.removeprefix("../")
        if nearer.exists():
            _say_once(f"{path}: {split} = {entry!r} does not exist; {nearer} is used")
            places[i] = nearer
            continue
        if glob.has_magic(entry):
            # Only what the user wrote is a pattern.
            places[i] = Path(glob.escape(str(root))) / Path(entry).expanduser()
            continue
        raise FileNotFoundError(
            f"{path}: {split} = {entry!r} does not exist; looked for {place}."
            f" Correct `{split}` or `path`.{slashes(entry)}{download}"
        )
    return tuple(places)


@functools.cache
def _say_once(text: str) -> None:
    """Warns; not again of the same in the same process, which reads files often."""
    log.warning(text)


def _is_json(place: Path) -> bool:
    return place.suffix.lower() == ".json"


def _all_json(path: Path, splits: dict[str, tuple[Path, ...]]) -> bool:
    """Returns whether the splits are COCO's JSON files.

    Raises:
        ValueError: some are, some are not.
    """
    places = [place for group in splits.values() for place in group]
    kinds = {_is_json(place) for place in places}
    if len(kinds) > 1:
        json = next(place for place in places if _is_json(place))
        other = next(place for place in places if not _is_json(place))
        raise ValueError(
            f"{path}: names both a JSON file, {json}, and something else, {other}. Use"
            " COCO's JSON files for all splits, or for none."
        )
    return kinds == {True}


def _image_roots(
    path: Path, root: Path, content: dict[str, Any], needed: Sequence[str]
) -> dict[str, Path]:
    value = content.get("image_root")
    if value is None:
        return {}
    if isinstance(value, str):
        value = dict.fromkeys(SPLITS, value)
    right = isinstance(value, dict) and all(
        split in SPLITS and isinstance(folder, str) for split, folder in value.items()
    )
    if not right:
        raise _wrong_kind(
            path, "image_root", value, "a folder, or a mapping from split to folder"
        )
    folders = {
        split: root / local_path(folder, f"{path}: image_root")
        for split, folder in value.items()
    }
    for split, folder in folders.items():
        if split in needed and not folder.is_dir():
            raise FileNotFoundError(
                f"{path}: image_root = {value[split]!r} is no folder; looked for"
                f" {folder}. Correct `image_root` or `path`.{slashes(folder)}"
            )
    return folders


def _kpt_shape(path: Path, content: dict[str, Any]) -> tuple[int, int] | None:
    value = content.get("kpt_shape")
    if value is None:
        return None
    right = (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(number, int) for number in value)
        and value[0] >= 1
        and value[1] in (2, 3)
    )
    if not right:
        raise _wrong_kind(path, "kpt_shape", value, "[number of keypoints, 2 or 3]")
    return value[0], value[1]


def _flip_idx(
    path: Path, content: dict[str, Any], kpt_shape: tuple[int, int] | None
) -> tuple[int, ...] | None:
    value = content.get("flip_idx")
    if value is None:
        return None
    count = len(value) if kpt_shape is None and isinstance(value, list) else 0
    count = count if kpt_shape is None else kpt_shape[0]
    if not isinstance(value, list) or sorted(value, key=str) != sorted(
        range(count), key=str
    ):
        raise _wrong_kind(path, "flip_idx", value, "each keypoint number once")
    return tuple(value)


def _kpt_sigmas(
    path: Path, content: dict[str, Any], kpt_shape: tuple[int, int] | None
) -> tuple[float, ...] | None:
    value = content.get("kpt_oks_sigmas")
    if value is None:
        return None
    right = (
        isinstance(value, list)
        and (kpt_shape is None or len(value) == kpt_shape[0])
        and all(
            isinstance(number, int | float)
            and not isinstance(number, bool)
            and 0 < number < math.inf
            for number in value
        )
    )
    if not right:
        raise _wrong_kind(
            path, "kpt_oks_sigmas", value, "one positive number per keypoint"
        )
    return tuple(float(number) for number in value)


def _wrong_kind(path: Path, key: str, value: Any, wanted: str) -> ValueError:
    return ValueError(
        f"{path}: {key} = {value!r} is {_kind(value)}, but must be {wanted}."
    )


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return {str: "text", int: "a number", float: "a number", type(None): "empty"}.get(
        type(value), f"of type {type(value).__name__}"
    )
