"""Results of a call, one by one: what `predict` and `track` of a model share."""

import contextlib
import itertools
import logging
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from yolojax.inference import session
from yolojax.inference.console import Console
from yolojax.inference.outputs import Outputs
from yolojax.inference.predictor import Predictor, Seen
from yolojax.inference.sources import listing
from yolojax.inference.sources.arrays import ORDERS
from yolojax.inference.sources.frames import Skipped
from yolojax.inference.sources.listing import Item
from yolojax.inference.tracked import tracked
from yolojax.runs import folder as run_folder
from yolojax.tracking import Tracker

MOST = 1000  # results of a list that nobody is warned of

log = logging.getLogger("yolojax")


class Call(NamedTuple):
    """What a call says that is no setting."""

    order: str = "bgr"  # of the channels of arrays
    workdir: Path | None = None  # of the files
    verbose: bool = False
    stream: bool = False  # one by one

    @classmethod
    def taken_from(cls, keywords: dict[str, Any], stream: bool) -> Self:
        """Returns it, and removes it from the keywords of a call.

        Raises:
            ValueError: an order that there is none of.
        """
        own = {name: keywords.pop(name) for name in cls._fields if name in keywords}
        if own.get("order", ORDERS[0]) not in ORDERS:
            raise ValueError(
                f"order = {own['order']!r}: expected one of {', '.join(ORDERS)}, the"
                " order of an array's channels."
            )
        if own.get("workdir") is not None:
            own["workdir"] = Path(own["workdir"])
        return cls(**own, stream=stream)


@dataclass
class Kept:
    """The tracker that calls go on with, and the settings that it was made with."""

    tracker: Tracker | None = None
    settings: Any = None


class Following(NamedTuple):
    """How a call of `track` keeps identities."""

    kept: Kept
    persist: bool
    own: Tracker | None  # the caller's

    def through(self, stream: Iterable[Seen], config: Any) -> Iterator[Seen]:
        """Yields what is found with identities.

        Raises:
            ValueError: the tracker that is to go on had other settings.
        """
        make = session.tracker_of(config)
        if self.own is not None:
            return tracked(stream, make, kept=self.own)
        if not self.persist:
            return tracked(stream, make)
        now = {name: config[name] for name in ("tracker", *session.TRACKER_SETTINGS)}
        kept = self.kept
        if kept.tracker is None:
            kept.tracker, kept.settings = make(), now
        elif kept.settings != now:
            other = [name for name in now if now[name] != kept.settings[name]]
            raise ValueError(
                f"track(persist=True) goes on with a tracker that had another"
                f" {', '.join(other)}. Call reset() to begin anew."
            )
        return tracked(stream, make, kept=kept.tracker)


@dataclass
class _Told:
    """What is to be read, and answers to what could not be."""

    stream: bool  # results are given one by one
    arrays: set[str] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)

    def watched(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items, and remembers which are arrays.

        Raises:
            ValueError: results of what may have no end are to be a list.
        """
        for item in items:
            if item.live and not self.stream:
                raise ValueError(
                    f"source = {item.path}: this may have no end, and a list of its"
                    " results neither. With stream=True they come one by one."
                )
            if item.kind == "array":
                self.arrays.add(item.path)
            yield item

    def __call__(self, skipped: Skipped) -> None:
        """Tells the log; an array that is no picture is a mistake of the program.

        Raises:
            ValueError: it is an array.
        """
        if skipped.path in self.arrays:
            raise ValueError(f"{skipped.path}: {skipped.why}")
        self.skipped.append(skipped)
        log.warning("%s: %s", skipped.path, skipped.why)


def results(
    predictor: Predictor,
    source: Any,
    config: Any,
    call: Call,
    following: Following | None,
) -> Iterator[Any]:
    """Returns the results of a call, one by one.

    Args:
        predictor: looks at the pictures.
        source: as of `listing.listed`.
        config: checked settings.
        call: what is no setting.
        following: how identities are kept; None: they are not.

    Raises:
        ValueError: the source stands for nothing, or settings do not fit together.
    """
    run_folder.refuse_two_places(config, call.workdir)
    command = "predict" if following is None else "track"
    named = session.named(source, command, config.task)
    items: Iterator[Item] = listing.listed(named)
    first = list(itertools.islice(items, 1))  # a source that is nothing fails at once
    told = _Told(call.stream)
    look = session.look(
        predictor,
        told.watched(itertools.chain(first, items)),
        session.reading(config, call.order),
        told,
    )
    stream = look if following is None else following.through(look, config)
    return _closing(look, _results(stream, predictor, config, call, told, command))


def _closing(look: Generator[Seen], found: Iterator[Any]) -> Iterator[Any]:
    """Yields what is found; whoever stops early stops the reading, too."""
    with contextlib.closing(look):
        yield from found


def _results(
    stream: Iterator[Seen],
    predictor: Predictor,
    config: Any,
    call: Call,
    told: _Told,
    command: str,
) -> Iterator[Any]:
    console = Console(sys.stdout, None) if call.verbose else None
    seen_any = False
    with contextlib.ExitStack() as stack:
        outputs = None
        if _writes(config) or call.workdir is not None:
            folder = session.folder_for(config, call.workdir, command)
            options = session.output_options(config, command)
            outputs = stack.enter_context(Outputs(stack.enter_context(folder), options))
        place = None if outputs is None else str(outputs.folder)
        names = predictor.backend.names
        for seen in stream:
            seen_any, result = True, None
            if seen.features is not None:
                if outputs is not None:
                    outputs.add_features(seen.frame, seen.features)
            else:
                result = session.result_of(seen, names, config.task, place)
                if outputs is not None:
                    outputs.add(seen.frame, result)
            if console is not None:
                console.show(seen, result)
            yield seen.features if result is None else result
        if not seen_any and told.skipped:
            one = told.skipped[0]
            raise ValueError(f"no picture could be read: {one.path}: {one.why}")


def _writes(config: Any) -> bool:
    return any(
        config[name] for name in ("save", "save_txt", "save_crop", "save_frames")
    )


def collected(found: Iterator[Any]) -> list[Any]:
    """Returns all results as a list, and warns where that is a long one."""
    kept: list[Any] = []
    for result in found:
        kept.append(result)
        if len(kept) == MOST + 1:
            log.warning(
                "more than %d results with their pictures are kept in a list, until the"
                " memory is full; stream=True gives them one by one",
                MOST,
            )
    return kept
