"""The files of a prediction: pictures, videos, labels, crops, a line of JSON for each.

Pictures are drawn and encoded by a few threads, everything that has an order is written
by one; neither keeps the network waiting.
"""

import functools
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from yolojax import visualize
from yolojax.data.store.host_cores import usable_cores
from yolojax.inference.results import files as result_files
from yolojax.inference.results import gathered
from yolojax.inference.results.result import Result, drawn
from yolojax.inference.sources.frames import Frame
from yolojax.inference.sources.video import FilmWriter
from yolojax.inference.tracked import Trails
from yolojax.tracking import Tracks
from yolojax.tracking.mot import mot_text

MANIFEST = "predictions.jsonl"
LABELS, CROPS, TRACKS = "labels", "crops", "tracks"  # folders
_THREADS, _WAITING = 4, 16
_NUMBERED = re.compile("_[0-9]+$")  # the end of the name of a frame


@dataclass(frozen=True)
class OutputOptions:
    """What is written."""

    save: bool = True  # drawn pictures and videos
    txt: bool = False  # label files
    conf: bool = False  # scores in them
    crop: bool = False  # a picture of each object
    frames: bool = False  # drawn frames of videos as pictures
    trail: int = 0  # frames for which the way of a track is drawn
    draw: visualize.DrawOptions = visualize.DrawOptions()


class Outputs:
    """Writes results into a folder as they come; use it in `with`."""

    def __init__(
        self, folder: Path, options: OutputOptions, part: int | None = None
    ) -> None:
        """Writes nothing yet.

        Args:
            folder: is there, and empty.
            options: what is written.
            part: number of the process, if several write; the list of results is a
                part then, to be joined with the others.
        """
        self.folder, self.options = folder, options
        self.labels = 0  # files
        self.seconds = 0.0  # of drawing and writing, summed over threads
        self._lock = threading.Lock()
        self._taken: set[str] = set()  # places of results below the folder
        self._films: dict[int, _Film] = {}  # by source, those that go on
        self._film_places: set[str] = set()
        self._writers: list[FilmWriter] = []  # that are not closed
        count = min(_THREADS, usable_cores())
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="drawing")
        self._serial = ThreadPoolExecutor(1, thread_name_prefix="writing")
        self._waiting: deque[Future] = deque()
        path = folder / MANIFEST
        self._part = part is not None
        self._listed = path if part is None else gathered.part_of(path, part)
        self._manifest = open(self._listed, "w", encoding="utf-8")  # noqa: SIM115

    def add(self, frame: Frame, result: Result) -> None:
        """Takes a result; waits only if writing falls far behind.

        Raises:
            OSError: an earlier one could not be written.
            ValueError: a video of this kind cannot be written.
        """
        if frame.number is None:
            self._add_picture(frame, result)
        else:
            self._add_frame(frame, result)
        line = result_files.json_line
        self._then(lambda: self._list(frame, line(result, frame.seconds)))
        self._wait(_WAITING)

    def add_features(self, frame: Frame, features: np.ndarray) -> None:
        """Takes the features [F] of a picture."""
        line = {"path": frame.path, "frame": frame.number, "embedding": features}
        text = json.dumps(line, default=lambda values: values.tolist())
        self._then(lambda: self._list(frame, text + "\n"))
        self._wait(_WAITING)

    def close(self) -> None:
        """Completes all files.

        Raises:
            OSError: something could not be written.
        """
        try:
            self._wait(0)
        finally:
            self._end()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        """Completes all files; what an error cuts off is not waited for."""
        if kind is None:
            self.close()
        else:
            self._end()

    def _end(self) -> None:
        """Ends the threads, then completes the files: nobody else writes by then."""
        self._pool.shutdown(cancel_futures=True)
        self._serial.shutdown(cancel_futures=True)
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        self._manifest.close()
        if not self._listed.stat().st_size:  # a list that tells of no picture
            self._listed.unlink()

    def _wait(self, most: int) -> None:
        """Waits until no more than so many things are left to write."""
        while len(self._waiting) > most or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def _then(self, work: Callable[..., Any], *needed: Future) -> None:
        """Does something with what is needed, behind all that has its order."""
        self._waiting.append(self._serial.submit(self._timed, work, *needed))

    def _aside(self, work: Callable[[], Any]) -> Future:
        """Does something that has no order, in one of several threads."""
        future = self._pool.submit(self._timed, work)
        self._waiting.append(future)
        return future

    def _timed(self, work: Callable[..., Any], *needed: Future) -> Any:
        """Does something once what it needs is there, and adds its time."""
        arguments = [future.result() for future in needed]
        started = time.perf_counter()
        made = work(*arguments)
        with self._lock:
            self.seconds += time.perf_counter() - started
        return made

    def _list(self, frame: Frame, line: str) -> None:
        """Writes a line of the list, in a part of it behind the picture's number."""
        self._manifest.write(f"{frame.item}\t{line}" if self._part else line)

    def _add_picture(self, frame: Frame, result: Result) -> None:
        place = self._free(frame.below)
        if self.options.save:
            suffix = ".png" if frame.lossless else ".jpg"
            path = self.folder / f"{place}{suffix}"
            self._aside(lambda: _write_picture(path, self._drawn(result)))
        self._write_texts(result, place)

    def _add_frame(self, frame: Frame, result: Result) -> None:
        film = self._films.get(frame.item)
        if film is None:
            if not frame.live:  # videos come one after the other
                self._close_films()
            place = self._free(frame.below, film=True)
            film = self._films[frame.item] = _Film(place, Trails(self.options.trail))
            if self.options.save:
                path = self.folder / f"{place}.mp4"
                film.writer = FilmWriter(path, result.orig_shape, frame.fps or 0)
                self._writers.append(film.writer)
        options = self.options
        tracked = result.found.ids is not None
        trails = film.trails.add(result.found) if options.trail and tracked else None
        if film.writer is not None or options.frames:
            picture = self._aside(lambda: self._drawn(result, trails))
            if film.writer is not None:
                write = film.writer.write
                self._then(lambda drawn: write(drawn[..., ::-1]), picture)
            if options.frames:
                name = f"{Path(film.place).name}_{frame.number}.jpg"
                path = self.folder / f"{film.place}_frames" / name
                self._then(lambda drawn: _write_picture(path, drawn), picture)
        self._write_texts(result, f"{film.place}_{frame.number}")
        if tracked:
            path = self.folder / TRACKS / f"{film.place}.txt"
            text = mot_text(frame.number or 0, _tracks(result))
            self._then(lambda: _append(path, text))

    def _write_texts(self, result: Result, place: str) -> None:
        """Writes label file and crops."""
        options = self.options
        if options.txt:
            path = self.folder / LABELS / f"{place}.txt"
            self._then(lambda: self._write_labels(path, result))
        if options.crop and result.probs is None:
            folder = self.folder / CROPS
            name = place.replace("/", "_")
            self._then(lambda: result_files.write_crops(folder, result, name))

    def _write_labels(self, path: Path, result: Result) -> None:
        self.labels += result_files.write_labels(path, result, self.options.conf)

    def _drawn(
        self, result: Result, trails: dict[int, np.ndarray] | None = None
    ) -> np.ndarray:
        """Returns the picture [h, w, 3] uint8 RGB with what was found in it."""
        return drawn(result, result.orig_img[..., ::-1], self.options.draw, trails)

    def _free(self, below: str, *, film: bool = False) -> str:
        """Returns a place below the folder that no other result has.

        Args:
            below: where it goes if nothing is there.
            film: frames take the places that begin with it and end in a number.
        """
        place, number = below, 1
        while self._is_taken(place.casefold(), film):
            number += 1
            place = f"{below}-{number}"
        self._taken.add(place.casefold())
        if film:
            self._film_places.add(place.casefold())
        return place

    def _is_taken(self, place: str, film: bool) -> bool:
        if place in self._taken or _NUMBERED.sub("", place) in self._film_places:
            return True
        return film and any(_NUMBERED.sub("", one) == place for one in self._taken)

    def _close_films(self) -> None:
        """Completes the videos that came before."""
        for film in self._films.values():
            if film.writer is not None:
                self._then(functools.partial(self._close_writer, film.writer))
        self._films.clear()

    def _close_writer(self, writer: FilmWriter) -> None:
        writer.close()
        self._writers.remove(writer)


@dataclass
class _Film:
    """A video that is looked at."""

    place: str
    trails: Trails
    writer: FilmWriter | None = None


def _write_picture(path: Path, drawn: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    visualize.save_image(path, drawn)


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def _tracks(result: Result) -> Tracks:
    """Returns what is found as tracks, with upright boxes."""
    found, boxes = result.found, result.boxes if result.obb is None else result.obb
    assert boxes is not None
    assert found.ids is not None
    return Tracks(
        boxes=np.asarray(boxes.xyxy),
        ids=found.ids,
        scores=found.scores,
        classes=found.classes,
        rows=np.arange(len(found.ids)),
    )
