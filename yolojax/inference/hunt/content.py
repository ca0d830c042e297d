"""What the page of a hunt says and shows."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np

from yolojax import visualize
from yolojax.data import Source
from yolojax.inference.hunt.findings import DOUBTFUL, KINDS, MISSING, OFF, WRONG, Usual
from yolojax.inference.hunt.suspects import Suspect, by_picture, picture_of
from yolojax.writers import page

SHOWN = 50  # suspects with a picture
ROWS = 500  # of a table
STRONG = 0.5  # score from which a suspect is counted
_AROUND = 0.75  # of the sides of a suspect, shown on each side of it
_LEAST = 64  # pixels, sides of a crop
_SIDE, _BYTES = 320, 40_000  # of a JPEG: pixels, at most
_MANY = 0.2  # share of what is seen without a label from which a class is named
_NEAR = 40  # outlines of other labels in a crop
_MEANING = {
    MISSING: "something is seen where nothing is labelled",
    WRONG: "another class is seen where the label is",
    DOUBTFUL: "nothing is seen where the label is",
    OFF: "what is labelled is seen beside the label",
}
_HOW = (
    "The score (0 to 1) says how much the trained network contradicts a label, compared"
    " with what is usual for the class; the loss is its cross-entropy. A high score is"
    " no proof: look at the picture. What was wrong in training may also have been"
    " learned, and is then not here."
)


def hunt_page(
    suspects: Sequence[Suspect],
    source: Source,
    usual: Usual | None,
    about: Mapping[str, object],
    footer: str,
) -> page.Page:
    """Returns the page of a hunt.

    Args:
        suspects: most suspect first.
        source: the split that they are of.
        usual: what is usual for the classes; None: whole pictures were looked at.
        about: names and values of what was done.
        footer: last line.
    """
    whole = usual is None
    what = "Pictures" if whole else "Labels"
    sections = [
        page.Section("Result", [_tiles(suspects, source), _facts(about)]),
        page.Section(
            "Most suspect",
            [_gallery(suspects, source)] if suspects else [page.Notes(["nothing"])],
            _HOW + (" Click a picture to enlarge it." if suspects else ""),
        ),
    ]
    if suspects:
        note = "All of them are in hunt.csv. Click a heading to sort."
        sections += [
            page.Section("Ranking", [_ranking(suspects, source)], note),
            page.Section("By picture", [_pictures(suspects, source)]),
        ]
    sections.append(page.Section("Kinds", [_kinds(suspects)]))
    if usual is not None:
        told: list[page.Block] = [_classes(usual, source), *_incomplete(usual, source)]
        sections.append(page.Section("Classes", told, _USUAL))
    return page.Page(
        title=f"{what} that may be wrong",
        subtitle=f"{about['split']} of {about['data']}, as {about['weights']} sees it",
        sections=sections,
        footer=footer,
    )


_USUAL = (
    "What suspects are compared with: the median score of what fits a label, and its"
    " IoU; how fully labels of the class are found, and how much of what is found is"
    " labelled (0 to 1)."
)


def _tiles(suspects: Sequence[Suspect], source: Source) -> page.Tiles:
    strong = [one for one in suspects if one.score >= STRONG]
    note = f"with a score of {STRONG} or more"
    rows = [("suspects", f"{len(strong):,}", note)]
    for kind in KINDS:
        count = sum(one.kind == kind for one in strong)
        if count:
            rows.append((kind, f"{count:,}", "of these"))
    rows.append(("pictures", f"{len(source):,}", "looked at"))
    return page.Tiles(rows)


def _facts(about: Mapping[str, object]) -> page.Facts:
    return page.Facts([(name, str(value)) for name, value in about.items() if value])


def _kinds(suspects: Sequence[Suspect]) -> page.Table:
    rows = []
    for kind in KINDS:
        scores = [one.score for one in suspects if one.kind == kind]
        strong = sum(score >= STRONG for score in scores)
        rows.append((kind, _MEANING[kind], strong, len(scores)))
    headings = ("kind", "meaning", f"score {STRONG} or more", "all listed")
    return page.Table(headings, rows)


def _classes(usual: Usual, source: Source) -> page.Table:
    columns = (usual.score, usual.fit, usual.found, usual.true)
    rows: list[list[page.Cell]] = [
        [name, *(float(column[c]) for column in columns)]
        for c, name in enumerate(source.names)
    ]
    return page.Table(("class", "usual score", "usual IoU", "found", "labelled"), rows)


def _incomplete(usual: Usual, source: Source) -> list[page.Notes]:
    """Returns which classes seem to lack labels throughout the split."""
    lines = [
        f"{name}: {1 - share:.0%} of what is seen has no label. Many may be missing;"
        " each of them ranks lower for that."
        for name, share in zip(source.names, usual.true.tolist(), strict=True)
        if 0 < share < 1 - _MANY
    ]
    return [page.Notes(lines, warning=True)] if lines else []


def _ranking(suspects: Sequence[Suspect], source: Source) -> page.Table:
    names = source.names
    rows: list[list[page.Cell]] = []
    for rank, one in enumerate(suspects[:ROWS], 1):
        rows.append(
            [
                rank,
                one.kind,
                None if one.labelled is None else names[one.labelled],
                None if one.seen is None else names[one.seen],
                one.score,
                one.loss,
                _file(one, source),
                one.object,
            ]
        )
    headings = ("rank", "kind", "label", "seen", "score", "loss", "file", "object")
    return page.Table(headings, rows)


def _pictures(suspects: Sequence[Suspect], source: Source) -> page.Table:
    rows: list[list[page.Cell]] = []
    for number, those in list(by_picture(suspects).items())[:ROWS]:
        loss = sum(one.loss for one in those)
        counts: list[page.Cell] = [
            sum(one.kind == kind for one in those) for kind in KINDS
        ]
        rows.append([PurePath(source.paths[number]).name, loss, *counts])
    return page.Table(("file", "loss", *KINDS), rows)


def _gallery(suspects: Sequence[Suspect], source: Source) -> page.Pictures:
    shown = suspects[:SHOWN]
    items: dict[int, page.Picture] = {}
    for number, those in by_picture(shown).items():  # each picture is read once
        image = picture_of(source, number)
        near = _labels(number, source)
        for one in those:
            rank = shown.index(one)
            items[rank] = _crop(one, rank + 1, image, near, source)
    return page.Pictures([items[rank] for rank in sorted(items)])


def _labels(number: int, source: Source) -> np.ndarray:
    """Returns the labelled boxes of a picture, [n, 4, 2] corners in pixels."""
    rows = getattr(source, "labels", None)
    if rows is None:
        return np.zeros((0, 4, 2))
    height, width = source.original_hw[number].tolist()
    boxes = rows[number][:, 1:].astype(float) * (width, height, width, height)
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    x, y = np.stack([low, high], 2).transpose(1, 0, 2)
    return np.stack(
        [np.stack([x[:, i], y[:, j]], 1) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))],
        axis=1,
    )


def _crop(
    one: Suspect, rank: int, image: np.ndarray, labels: np.ndarray, source: Source
) -> page.Picture:
    """Returns the surroundings of a suspect with its outlines.

    Args:
        one: the suspect.
        rank: of it.
        image: its picture, [h, w, 3] uint8 RGB.
        labels: of the picture, [n, 4, 2] pixels.
        source: the split.
    """
    left, top, right, bottom = _around(one, (image.shape[1], image.shape[0]))
    part = np.ascontiguousarray(image[top:bottom, left:right])
    data, (height, width) = visualize.small_jpeg(part, _BYTES, _SIDE)
    share = np.array([width / (right - left), height / (bottom - top)])
    names = source.names
    marks = []

    def mark(kind: str, corners: np.ndarray, text: str) -> None:
        points = ((corners - (left, top)) * share).clip(0, (width, height)).round(1)
        if (np.ptp(points, 0) > 0).all():
            marks.append(page.Mark(kind, [(x, y) for x, y in points.tolist()], text))

    for i, corners in enumerate(labels):
        if i != one.object and len(marks) < _NEAR:
            mark("near", corners, "another label")
    if one.label_corners is not None and one.labelled is not None:
        mark("label", one.label_corners, names[one.labelled])
    if one.seen_corners is not None:
        mark("seen", one.seen_corners, _seen(one, names))
    name = f"{rank}. {one.kind}, {one.score:.2f}"
    told = f"{_told(one, names)}; {_file(one, source)}"
    return page.Picture(data, width, height, marks, name, told)


def _around(one: Suspect, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of what is shown of a picture, pixels.

    Args:
        one: the suspect.
        size: width and height of the picture.
    """
    known = [c for c in (one.label_corners, one.seen_corners) if c is not None]
    if not known:
        return 0, 0, *size
    corners, whole = np.concatenate(known), np.array(size)
    low, high = corners.min(0), corners.max(0)
    half = np.maximum((high - low) * (0.5 + _AROUND), _LEAST / 2).max()
    middle = (low + high) / 2
    start = np.floor((middle - half).clip(0, np.maximum(whole - 2 * half, 0)))
    stop = np.ceil(np.minimum(start + 2 * half, whole))
    return int(start[0]), int(start[1]), int(stop[0]), int(stop[1])


def _told(one: Suspect, names: Sequence[str]) -> str:
    """Returns in words what is labelled and what is seen."""
    label = "no label" if one.labelled is None else f"label {names[one.labelled]}"
    return f"{label}, {_seen(one, names)}"


def _seen(one: Suspect, names: Sequence[str]) -> str:
    if one.seen is None:
        return "nothing is seen"
    return f"seen {names[one.seen]} {one.confidence:.2f}"


def _file(one: Suspect, source: Source) -> str:
    return PurePath(source.paths[one.picture]).name
