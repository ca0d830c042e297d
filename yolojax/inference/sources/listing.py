"""What a user names as source -> a list of pictures, videos and streams."""

import csv
import glob
import io
import itertools
import os
import re
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TextIO

from PIL import Image

from yolojax.data.store.images import EXTENSIONS, is_image

VIDEOS = frozenset(
    "asf avi gif m4v mkv mov mp4 mpeg mpg ts webm wmv".split()
)  # endings of files that are read frame by frame
LISTS = frozenset(("txt", "csv"))
_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|tcp|udp)://", re.IGNORECASE)
_LIVE = re.compile(r"(rtsps?|rtmps?|tcp|udp)://", re.IGNORECASE)
_PASSWORD = re.compile("(?<=://)([^/?#@:]*:)[^/?#]*(?=@)")  # user:password@host
_CAMERA = re.compile("[0-9]{1,3}")
_MAGIC = re.compile("[*?[]")  # what makes a pattern of a path
_DEEP = 3  # lists that lists may name


class Item(NamedTuple):
    """One picture, video or stream, not opened yet."""

    kind: str  # image, video, stream, address (of any of them), array or missing
    path: str  # as the user knows it, without a password
    below: str  # where its results go below a folder, with "/", without an ending
    content: Any = None  # NumPy or PIL; an address as given; why it is missing

    @property
    def address(self) -> str:
        """What is opened, with its password."""
        return self.path if self.content is None else self.content

    @property
    def live(self) -> bool:
        """Whether it comes as time passes and may never end."""
        return self.kind == "stream"


def listed(source: Any, stdin: TextIO | None = None) -> Iterator[Item]:
    """Yields what a source stands for, in its order; pictures are not opened.

    Args:
        source: path of a picture, video, folder (its files, not those of folders in
            it), pattern (`**` for all folders below) or list (.txt: a source per line;
            .csv: one per cell); an address; the number of a camera; "-" for paths on
            the standard input; an array, a PIL picture; or several of them.
        stdin: what "-" reads; None: that of the program.

    Raises:
        ValueError: it stands for nothing that could be read. Among several, that is
            an item of its own ("missing").
    """
    if _is_picture(source):
        yield Item("array", "image0", "image0", source)
    elif (text := _text(source)) is not None:
        try:
            yield from _meant(text, Path(), stdin, _DEEP)
        except ValueError as error:
            raise ValueError(f"source = {text!r}: {error}") from error
    elif isinstance(source, Iterable) and not isinstance(source, bytes | dict):
        yield from _several(source, stdin)
    else:
        raise ValueError(
            f"source = {_short(source)}: expected a path, an address, an array"
            " [H, W, 3], a PIL picture, or a list of them."
        )


def _several(sources: Iterable[Any], stdin: TextIO | None) -> Iterator[Item]:
    for i, one in enumerate(sources):
        if _is_picture(one):
            yield Item("array", f"image{i}", f"image{i}", one)
        elif (text := _text(one)) is not None:
            yield from _one_of_several(text, Path(), stdin, _DEEP)
        else:
            raise ValueError(
                f"source[{i}] = {_short(one)}: expected a path, an address, an array"
                " [H, W, 3] or a PIL picture."
            )


def _is_picture(value: Any) -> bool:
    """Returns whether it is an array (of any library) or a PIL picture."""
    return isinstance(value, Image.Image) or hasattr(value, "__array__")


def _text(value: Any) -> str | None:
    """Returns a path, address or number of a camera as text; None: it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return os.fspath(value) if isinstance(value, str | os.PathLike) else None


def _short(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"


def _one_of_several(
    text: str, folder: Path, stdin: TextIO | None, depth: int
) -> Iterator[Item]:
    """Yields what one of several texts stands for; the others do not fail with it."""
    try:
        yield from _meant(text, folder, stdin, depth)
    except ValueError as error:
        yield Item("missing", text, _name(text), str(error))


def _meant(text: str, folder: Path, stdin: TextIO | None, depth: int) -> Iterator[Item]:
    """Yields what a text stands for.

    Args:
        text: what the user gave, or a line of a list.
        folder: of the list, where relative paths may be meant from.
        stdin: what "-" reads.
        depth: how deep lists may go.

    Raises:
        ValueError: it stands for nothing.
    """
    path = Path(os.path.expanduser(text))
    if not os.path.exists(path) and os.path.exists(folder / path):
        path = folder / path
    found = False
    for item in _found(text, path, folder, stdin, depth):
        found = True
        yield item
    if not found:
        raise ValueError(_nothing(text, path))


def _found(
    text: str, path: Path, folder: Path, stdin: TextIO | None, depth: int
) -> Iterator[Item]:
    """Yields what a text stands for, which may be nothing; path is where it lies."""
    if text == "-":
        for line in map(str.strip, stdin or sys.stdin):
            if line:
                yield from _one_of_several(line, Path(), io.StringIO(), _DEEP)
    elif _ADDRESS.match(text):
        kind = "stream" if _LIVE.match(text) else "address"
        shown = _PASSWORD.sub(r"\1***", text)
        yield Item(kind, shown, _name_of_address(text), text)
    elif _CAMERA.fullmatch(text) and not os.path.exists(path):
        yield Item("stream", text, f"camera{text}")
    elif os.path.isdir(path) and text.strip():
        yield from _files(_inside(path), path)
    elif os.path.isfile(path):
        if _ending(path) in LISTS and depth:
            for entry in _entries(path):
                yield from _one_of_several(entry, path.parent, stdin, depth - 1)
        else:
            yield from _files([path], path.parent)
    elif _MAGIC.search(text):
        yield from _of_pattern(path, folder)


def _inside(folder: Path) -> list[Path]:
    """Returns the files of a folder, sorted."""
    try:
        return sorted(path for path in folder.iterdir() if os.path.isfile(path))
    except OSError as error:
        raise ValueError(f"this folder cannot be read: {error.strerror}.") from error


def _of_pattern(pattern: Path, folder: Path) -> Iterator[Item]:
    """Yields the files that a pattern fits, sorted; `**` means any folders."""
    for base in dict.fromkeys((Path(), folder)):
        found = sorted(map(Path, glob.iglob(str(base / pattern), recursive=True)))
        if found:
            parts = (base / pattern).parts
            plain = itertools.takewhile(lambda part: not _MAGIC.search(part), parts)
            yield from _files(filter(os.path.isfile, found), Path(*plain))
            return


def _files(files: Iterable[Path], root: Path) -> Iterator[Item]:
    """Yields the pictures and videos among files, whose results go as below root."""
    for path in files:
        if is_image(path.name):
            yield Item("image", str(path), _below(path, root))
        elif _ending(path) in VIDEOS:
            yield Item("video", str(path), _below(path, root))


def _entries(path: Path) -> Iterator[str]:
    """Yields the lines of a .txt or the cells of a .csv file that are not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = text.splitlines()
        if _ending(path) == "csv":
            entries = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"this list cannot be read: {error}.") from error
    entries = [entry.strip() for entry in entries]
    if _ending(path) == "csv" and entries[:1] == ["source"]:
        del entries[0]
    yield from filter(None, entries)


def _ending(path: PurePath) -> str:
    return path.suffix[1:].lower()


def _below(path: Path, root: Path) -> str:
    """Returns where the results of a file go: its place below root, if it is there."""
    try:
        inside = path.relative_to(root)
    except ValueError:
        inside = Path(path.name)
    parts = [part for part in inside.parts if part not in ("..", "/", "")]
    return "/".join([*parts[:-1], Path(parts[-1]).stem])


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", Path(text).stem).strip(".")[:100] or "source"


def _name_of_address(address: str) -> str:
    """Returns a plain file name for the results of an address."""
    try:
        parsed = urllib.parse.urlsplit(address)
    except ValueError as error:
        raise ValueError(f"this is no address: {error}.") from error
    last = urllib.parse.unquote(parsed.path).rstrip("/").rpartition("/")[2]
    return _name(last or parsed.hostname or "address")


def _nothing(text: str, path: Path) -> str:
    """Returns why a source stands for nothing."""
    endings = (
        f"Pictures end in {', '.join(sorted(EXTENSIONS))}; videos in"
        f" {', '.join(sorted(VIDEOS))}; lists of sources in csv, txt."
    )
    if not text.strip():
        return (
            "it is empty. Give a picture, a video, a folder, a pattern such as"
            " 'photos/**/*.jpg', a list (.txt), an address, the number of a camera,"
            " or - for paths on the standard input."
        )
    if text == "-":
        return "no path came in on the standard input."
    if os.path.isdir(path):
        deeper = f"{text.rstrip('/')}/**"
        return (
            "no pictures or videos in this folder. Those of the folders in it are"
            f" read with source='{deeper}'. {endings}"
        )
    if os.path.isfile(path):
        if _ending(path) in LISTS:
            return "this list names nothing, or lists in it are nested too deeply."
        return f"a file of this kind cannot be read. {endings}"
    if os.path.exists(path):
        return "this is neither a file nor a folder."
    if _MAGIC.search(text):
        return f"no picture or video fits this pattern. {endings}"
    return f"there is no such file or folder (looked for {path.absolute()})."
