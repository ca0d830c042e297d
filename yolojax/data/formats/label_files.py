"""Where the label files of images lie: decided by what is there, folder by folder.

The one place that knows it: reading, the scan that is kept, messages and the data set
doctor ask here.
"""

import dataclasses
import itertools
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

ENDING = ".txt"
LOOKED_INTO = 20  # texts beside images, to tell labels from captions

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")


@dataclasses.dataclass(frozen=True)
class LabelFile:
    """The label file of an image."""

    path: str  # of the file; where it should be, if there is none
    there: bool
    usual: bool = True  # it lies where the labels of the image's folder lie
    others: tuple[str, ...] = ()  # more text files of the same image


def find(image_paths: Sequence[str]) -> list[LabelFile]:
    """Returns the label files of images.

    A folder's labels lie in the first of `places` that has any; without any, that is
    the place where they should be. An image without a label there may have it in
    another one.
    """
    folders: dict[str, list[int]] = {}
    for index, path in enumerate(image_paths):
        folders.setdefault(os.path.dirname(path), []).append(index)
    texts: dict[str, _Texts] = {}
    found: dict[int, LabelFile] = {}
    for folder, members in folders.items():
        candidates = places(folder)
        for place in candidates:
            if place not in texts:
                texts[place] = _Texts(place)
        stems = [_stem(image_paths[index]) for index in members]
        usual = _usual([texts[place] for place in candidates], stems)
        order = [usual, *(i for i in range(len(candidates)) if i != usual)]
        ranked = [texts[candidates[i]] for i in order]
        ranked = [ranked[0], *filter(None, ranked[1:])]  # most are not there at all
        for index, stem in zip(members, stems, strict=True):
            found[index] = _label_file(ranked, stem)
    return [found[index] for index in range(len(image_paths))]


def places(folder: str) -> list[str]:
    """Returns the folders where labels of a folder of images may lie, likeliest first.

    `labels` in the place of the last directory `images`, or of one before it; beside
    the images; the same with capitals in either name.
    """
    parts = folder.split(os.sep)
    swapped = [
        ((part, name), os.sep.join([*parts[:i], name, *parts[i + 1 :]]))
        for i, part in reversed(list(enumerate(parts)))
        for name in ("labels", "Labels", "LABELS")
        if part.lower() == "images" and i > 0
    ]
    usual = [place for names, place in swapped if names == ("images", "labels")]
    return [*usual, folder, *(place for _, place in swapped if place not in usual)]


def is_text(name: str) -> bool:
    """Returns whether the ending of a file's name is that of a label file."""
    return os.path.splitext(name)[1].lower() == ENDING


def looks_like_rows(path: str) -> bool:
    """Returns whether a text may hold labels, good or bad, and not words or nothing.

    What cannot be read may: whoever reads it will say so.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError):
        return True
    return len(_NUMBER.findall(first)) >= 4


def same_text(one: str, other: str) -> bool:
    """Returns whether two text files say the same."""
    try:
        return Path(one).read_bytes().split() == Path(other).read_bytes().split()
    except OSError:
        return False


class _Texts:
    """The text files of a folder, listed once."""

    def __init__(self, folder: str):
        self.folder = folder
        try:
            names = os.listdir(folder)
        except OSError:  # no such folder, or none that may be looked into
            names = []
        self._names = {name for name in names if name[-4:].lower() == ENDING}
        self._alike: dict[str, list[str]] = {}
        # Plain names are found as they are.
        plain = (name.isascii() and name.endswith(ENDING) for name in self._names)
        odd = {
            n for n, is_plain in zip(self._names, plain, strict=True) if not is_plain
        }
        for name in sorted(odd):
            self._alike.setdefault(_composed(_stem(name)), []).append(name)

    def __bool__(self) -> bool:
        """Returns whether there is any."""
        return bool(self._names)

    def of(self, stem: str) -> Iterator[str]:
        """Yields the paths of the text files of an image, the best one first.

        Endings may be in capitals, and letters with marks in one part or in two, as
        systems differ in it.
        """
        exact = stem + ENDING
        if exact in self._names:
            yield os.path.join(self.folder, exact)
        for name in self._alike.get(_composed(stem), ()) if self._alike else ():
            # With an exact one, others of the stem's letters may be other images'.
            if name != exact and (exact not in self._names or _stem(name) == stem):
                yield os.path.join(self.folder, name)


def _usual(candidates: Sequence[_Texts], stems: Sequence[str]) -> int:
    """Returns which of the places has the labels of a folder."""
    for number, texts in enumerate(candidates):
        files = (file for stem in stems for file in texts.of(stem))
        if number == 0:
            if next(files, None) is not None:
                return 0
        elif any(map(looks_like_rows, itertools.islice(files, LOOKED_INTO))):
            return number
    return 0


def _label_file(ranked: Sequence[_Texts], stem: str) -> LabelFile:
    """Returns the label file of an image.

    Args:
        ranked: the places where it may be, that of its folder first.
        stem: the name of the image without its ending.
    """
    usual = list(ranked[0].of(stem))
    others = [file for texts in ranked[1:] for file in texts.of(stem)]
    if usual:
        return LabelFile(usual[0], True, True, (*usual[1:], *others))
    for file in others:
        if looks_like_rows(file):
            rest = tuple(other for other in others if other != file)
            return LabelFile(file, True, False, rest)
    return LabelFile(os.path.join(ranked[0].folder, stem + ENDING), False)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _composed(stem: str) -> str:
    return unicodedata.normalize("NFC", stem)
