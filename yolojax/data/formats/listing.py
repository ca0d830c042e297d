"""The image files of a split: where they are, and whether they can be read."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yolojax.data.formats.description import DataDescription
from yolojax.data.formats.problems import Problem
from yolojax.data.store import heic, image_checks, images, jpeg
from yolojax.data.store.images import EXTENSIONS, is_image
from yolojax.files import plain_path, slashes

MIN_SIDE = 10  # pixels; smaller images are left out

log = logging.getLogger("yolojax")


def find_images(data: DataDescription, split: str) -> tuple[list[str], list[Problem]]:
    """Returns the paths of a split's images, sorted, each file once.

    Hidden files and folders do not count, nor do they for patterns: programs keep
    copies and previews there.

    Returns:
        The paths; and the lines of lists of images that name none.

    Raises:
        ValueError: there are none.
    """
    found: list[str] = []
    problems: list[Problem] = []
    for place in data.places(split):
        if place.is_dir():
            for folder, files in walk(str(place)):
                found += [os.path.join(folder, name) for name in files]
        elif is_image(place.name):
            found.append(str(place))
        elif place in data.splits[split] or _extension(place.name) == "txt":
            listed, others = _listed(data, place)
            found += listed
            if listed or place in data.splits[split]:  # a pattern may match anything
                problems += others
    found = sorted(filter(is_image, found))
    if not found:
        places = ", ".join(str(place) for place in data.splits[split])
        examples = f" {'; '.join(map(str, problems[:3]))}." if problems else ""
        raise ValueError(
            f"{data.path}: {split} names no image; looked in {places} for files ending"
            f" in {', '.join(sorted(EXTENSIONS))}.{examples}{_hidden(data, split)}"
        )
    once = distinct(found)
    if len(once) < len(found):
        log.warning(
            "%s: %s names %d files more than once; each is used once",
            data.path,
            split,
            len(found) - len(once),
        )
    return once, problems


def _hidden(data: DataDescription, split: str) -> str:
    """Returns what is to say of hidden images, where a split has no others."""
    for place in data.places(split):
        for folder, _, files in os.walk(place, followlinks=True):
            for name in filter(is_image, files):
                return (
                    f" {os.path.join(folder, name)} is hidden: what starts with a dot"
                    " is not read. Rename it."
                )
    return ""


def walk(root: str, *, hidden_files: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Yields the folders from a root on with their files, but nothing hidden.

    Args:
        root: a folder.
        hidden_files: hidden files of the folders as well.
    """
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield folder, [n for n in files if hidden_files or not n.startswith(".")]


def distinct(paths: list[str]) -> list[str]:
    """Returns one path of each file, whatever links lead to it, in the same order.

    The first one, or the one without links, as the labels lie beside that.
    """
    folders: dict[str, str] = {}  # resolved once each: far fewer than files
    chosen: dict[str, str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if os.path.islink(path):
            real = os.path.realpath(path)
        else:
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            real = os.path.join(folders[folder], name)
        if real not in chosen or path == real:
            chosen[real] = path
    return sorted(chosen.values())


def _listed(data: DataDescription, place: Path) -> tuple[list[str], list[Problem]]:
    """Returns the images that a text file names, one per line, and all other lines.

    Empty lines say nothing, nor do those that start with "#".
    """
    try:
        names = place.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{place}: is not UTF-8 text ({error.reason}). A list of images has one"
            " path per line; save it as UTF-8."
        ) from error
    images, problems = [], []
    for line, name in enumerate(map(str.strip, names), start=1):
        base = place.parent if name.startswith("./") else data.root
        if is_image(name):
            images.append(plain_path(base / name))
        elif name and not name.startswith("#"):
            text = f"{name!r} is not the path of an image"
            problems.append(Problem(str(place), line, "no_image_path", text, False))
    return images, problems


def _extension(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()


class ImageVerdict(NamedTuple):
    """What the scan found out about one image file."""

    hw: tuple[int, int] | None  # height and width; None: it cannot be used
    code: str  # why not, or what is odd: a key of problems.CODES, or ""
    reason: str  # the same for people
    digest: str  # hash of the content, "" if it cannot be read

    def problems(self, path: str) -> tuple[Problem, ...]:
        """Returns why an image at this path is left out, or what is odd about it."""
        if not self.code:
            return ()
        hint = "" if self.digest else slashes(path).strip(" .")
        return (
            Problem(path, None, self.code, self.reason, self.hw is None, hint=hint),
        )


def verify_image(path: str) -> ImageVerdict:
    """Returns whether an image file can be used."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        return ImageVerdict(None, "unreadable_image", reason, "")
    return verify_encoded(data)


def verify_encoded(data: np.ndarray) -> ImageVerdict:
    """Returns whether the bytes [n] uint8 of an image file can be used."""
    digest = images.content_digest(data)
    if not len(data):
        return ImageVerdict(None, "unreadable_image", "the file is empty", digest)
    if jpeg.truncated(data):
        return ImageVerdict(None, "truncated_image", "the JPEG ends early", digest)
    image = images.decode(data)
    if image is None:
        reason = heic.reason(data) or "not a picture that can be decoded"
        return ImageVerdict(None, "unreadable_image", reason, digest)
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        reason = f"{width}x{height} pixels, below {MIN_SIDE}"
        return ImageVerdict(None, "image_too_small", reason, digest)
    return ImageVerdict((height, width), *image_checks.oddity(data, image), digest)
