"""What a user names as source -> a list of pictures, videos and streams."""

import csv
import glob
import io
import os
import re
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TextIO

import numpy as np
from PIL import Image

from yolojax.data.store.images import EXTENSIONS, is_image

VIDEOS = frozenset(
    "asf avi gif m4v mkv mov mp4 mpeg mpg ts webm wmv".split()
)  # endings of files that are read frame by frame
LISTS = frozenset(("txt", "csv"))
_ADDRESS = re.compile(r"(https?|rtsps?|rtmps?|tcp|udp)://", re.IGNORECASE)
_LIVE = re.compile(r"(rtsps?|rtmps?|tcp|udp)://", re.IGNORECASE)
_DEEP = 3  # lists that lists may name


class Item(NamedTuple):
    """One picture, video or stream, not opened yet."""

    kind: str  # image, video, stream, address (of a picture or a stream) or array
    path: str  # as the user knows it
    below: str  # where its results go below a folder, with "/", without an ending
    content: Any = None  # of an array: NumPy or PIL

    @property
    def live(self) -> bool:
        """Whether it comes as time passes and may never end."""
        return self.kind == "stream"


def listed(source: Any, stdin: TextIO | None = None) -> Iterator[Item]:
    """Yields what a source stands for, in its order; files are not opened.

    Args:
        source: path of a picture, video, folder (its files, not those of folders in
            it), pattern (`**` for all folders below) or list (.txt: a source per line;
            .csv: one per cell); an address; the number of a camera; "-" for paths on
            the standard input; an array, a PIL picture; or several of them.
        stdin: what "-" reads; None: that of the program.

    Raises:
        ValueError: it names nothing that could be read.
    """
    if isinstance(source, np.ndarray | Image.Image):
        yield Item("array", "image0", "image0", source)
        return
    if isinstance(source, str | os.PathLike | int) and not isinstance(source, bool):
        yield from _of_text(os.fspath(source) if not isinstance(source, int)
                            else str(source), stdin)  # fmt: skip
        return
    if not isinstance(source, Iterable) or isinstance(source, bytes | dict):
        raise ValueError(
            f"source = {_short(source)}: expected a path, an address, an array"
            " [H, W, 3], a PIL picture, or a list of them."
        )
    for i, one in enumerate(source):
        if isinstance(one, np.ndarray | Image.Image):
            yield Item("array", f"image{i}", f"image{i}", one)
        elif isinstance(one, str | os.PathLike):
            yield from _one_of_several(os.fspath(one), stdin)
        else:
            raise ValueError(
                f"source[{i}] = {_short(one)}: expected a path, an address, an array"
                " [H, W, 3] or a PIL picture."
            )


def _short(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"


def _of_text(text: str, stdin: TextIO | None) -> Iterator[Item]:
    """Yields what one text stands for; an empty or missing one is an error."""
    if not text.strip():
        raise ValueError(
            "source is empty. Give a picture, a video, a folder, a pattern such as"
            " 'photos/**/*.jpg', a list (.txt), an address, the number of a camera,"
            " or - for paths on the standard input."
        )
    found = False
    for item in _named(text, Path(), stdin, _DEEP):
        found = True
        yield item
    if not found:
        raise ValueError(_nothing(text))


def _one_of_several(text: str, stdin: TextIO | None) -> Iterator[Item]:
    """Yields what one of several texts stands for; what is missing is told later."""
    found = False
    for item in _named(text, Path(), stdin, _DEEP):
        found = True
        yield item
    if not found:  # the reader says what is wrong with it, and goes on
        yield Item("image", text, _name(text))


def _named(
    text: str, folder: Path, stdin: TextIO | None, depth: int
) -> Iterator[Item]:
    """Yields what a text stands for, nothing if there is no such thing.

    Args:
        text: what the user gave, or a line of a list.
        folder: of the list, where relative paths may be meant from.
        stdin: what "-" reads.
        depth: how deep lists may go.
    """
    if text == "-":
        for line in stdin or sys.stdin:
            if line.strip():
                yield from _one_of_several(line.strip(), stdin=io.StringIO())
        return
    if _ADDRESS.match(text):
        live = _LIVE.match(text) is not None
        yield Item("stream" if live else "address", text, _name_of_address(text))
        return
    if text.isascii() and text.isdigit() and not os.path.exists(text):
        yield Item("stream", text, f"camera{text}")
        return
    path = Path(os.path.expanduser(text))
    if not path.exists() and not path.is_absolute() and (folder / path).exists():
        path = folder / path
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file())
        yield from _files(files, path)
    elif path.is_file():
        if _ending(path) in LISTS and depth:
            yield from _of_list(path, stdin, depth)
        else:
            yield from _files([path], path.parent, every=True)
    elif any(sign in text for sign in "*?["):
        yield from _of_pattern(str(path), folder)


def _of_pattern(pattern: str, folder: Path) -> Iterator[Item]:
    """Yields the files that a pattern fits, sorted; `**` means any folders."""
    found = sorted(Path(name) for name in glob.iglob(pattern, recursive=True))
    if not found and not os.path.isabs(pattern):
        pattern = str(folder / pattern)
        found = sorted(Path(name) for name in glob.iglob(pattern, recursive=True))
    parts = Path(pattern).parts
    plain = [i for i, part in enumerate(parts) if any(sign in part for sign in "*?[")]
    yield from _files([p for p in found if p.is_file()], Path(*parts[: plain[0]]))


def _files(files: list[Path], root: Path, *, every: bool = False) -> Iterator[Item]:
    """Yields the pictures and videos among files.

    Args:
        files: in their order.
        root: the folder from which the places of their results are told.
        every: take also what has another ending, whose reader says what is wrong.
    """
    for path in files:
        if is_image(path.name):
            yield Item("image", str(path), _below(path, root))
        elif _ending(path) in VIDEOS:
            yield Item("video", str(path), _below(path, root))
        elif every:
            raise ValueError(
                f"source = {str(path)!r}: a file of this kind cannot be read."
                f" {_endings()}"
            )


def _of_list(path: Path, stdin: TextIO | None, depth: int) -> Iterator[Item]:
    """Yields what the lines of a .txt or the cells of a .csv file stand for."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"source = {str(path)!r} cannot be read: {error}.") from error
    entries = [line.strip() for line in text.splitlines()]
    if _ending(path) == "csv":
        cells = [cell.strip() for row in csv.reader(io.StringIO(text)) for cell in row]
        entries = cells[1:] if cells[:1] == ["source"] else cells
    for entry in filter(None, entries):
        found = False
        for item in _named(entry, path.parent, stdin, depth - 1):
            found = True
            yield item
        if not found:
            yield Item("image", entry, _name(entry))


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
    return Path(text).stem.replace("/", "_") or "source"


def _name_of_address(address: str) -> str:
    """Returns a plain file name for the results of an address."""
    parsed = urllib.parse.urlsplit(address)
    last = urllib.parse.unquote(parsed.path).rstrip("/").rpartition("/")[2]
    stem = last.rpartition(".")[0] or last or parsed.hostname or "address"
    return re.sub(r"[^\w.-]", "_", stem).strip(".")[:100] or "address"


def _endings() -> str:
    return (
        f"Pictures end in {', '.join(sorted(EXTENSIONS))}; videos in"
        f" {', '.join(sorted(VIDEOS))}; lists of sources in txt, csv."
    )


def _nothing(text: str) -> str:
    """Returns the message about a source that stands for nothing."""
    if text == "-":
        return "source = '-': no path came in on the standard input."
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        deeper = f"{text.rstrip('/')}/**"
        return (
            f"source = {text!r}: no pictures or videos in this folder. Those of the"
            f" folders in it are read with source='{deeper}'. {_endings()}"
        )
    if path.is_file():
        return f"source = {text!r}: this list names nothing."
    if any(sign in text for sign in "*?["):
        return f"source = {text!r}: no picture or video fits this pattern. {_endings()}"
    return (
        f"source = {text!r}: there is no such file or folder"
        f" (looked for {path.absolute()})."
    )
