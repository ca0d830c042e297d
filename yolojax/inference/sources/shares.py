"""Which pictures of a list each of several processes looks at.

Results are named after their pictures, and what would have one name gets a number in
the order of the list. So pictures whose names are in each other's way go to one
process: no other one has to be asked, and the names are those of one process.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence

from yolojax.inference.predictor import Seen
from yolojax.inference.results.files import safe_name
from yolojax.inference.sources.listing import Item

_NUMBERED = re.compile("(.+)-[0-9]+")


@dataclasses.dataclass(frozen=True)
class Share:
    """What one process looks at."""

    items: list[Item]
    numbers: list[int]  # of each in the whole list

    def numbered(self, stream: Iterable[Seen]) -> Iterator[Seen]:
        """Yields what is found in the items, with their numbers in the whole list."""
        for seen in stream:
            frame = seen.frame
            frame = dataclasses.replace(frame, item=self.numbers[frame.item])
            yield dataclasses.replace(seen, frame=frame)


def share_of(items: Sequence[Item] | None, count: int, index: int) -> Share:
    """Returns what a process looks at.

    Args:
        items: of all processes; None: nobody knows how many come.
        count: of processes.
        index: of the process.

    Raises:
        ValueError: something is no picture on a disk. It is not known beforehand what
            of it there is, and a video is seen frame after frame.
    """
    if items is None:
        raise ValueError(
            "source = '-': paths on the standard input are read by one process, and"
            f" this is one of {count}. Give a folder, a pattern or a list, or hosts=off"
            " for one process."
        )
    for item in items:
        if item.kind not in ("image", "missing"):
            what = {"video": "a video", "stream": "a camera or a stream"}
            raise ValueError(
                f"{item.path} is {what.get(item.kind, 'no file')}, which one process"
                f" looks at, and this is one of {count}. Give pictures in folders, or"
                " hosts=off for one process."
            )
    names = [safe_name(item.below.replace("/", "_")).casefold() for item in items]
    known, groups = set(names), dict[str, int]()
    numbers = [
        number
        for number, name in enumerate(names)
        if groups.setdefault(_first_of(name, known), len(groups)) % count == index
    ]
    return Share([items[number] for number in numbers], numbers)


def _first_of(name: str, known: set[str]) -> str:
    """Returns the name that another one may come to be a numbered form of."""
    while (match := _NUMBERED.fullmatch(name)) and match[1] in known:
        name = match[1]
    return name
