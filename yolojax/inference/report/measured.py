"""The sections of a page that say what a validation measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolojax.writers import page

_COLORED = 8  # classes with a colour of their own in a chart
_BARS = 25  # classes with a bar of their own
_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def classes_sections(
    found: Mapping[str, Any], folder: Path | None
) -> list[page.Section]:
    """Returns the sections of classes, curves, sizes and pictures.

    Args:
        found: what was kept of the validation.
        folder: where its pictures are.
    """
    sections = [page.Section("Classes", [class_table(found)], _class_note(found))]
    for part, values in found["classes"].get("parts", {}).items():
        title = "Precision and recall"
        if len(found["classes"]["parts"]) > 1:
            title += f", {part.lower()}"
        sections.append(page.Section(title, _curves(values, found["names"])))
    if found["sizes"]:
        note = (
            "By the side of a square of the box's area, in pixels of the original"
            " picture. Objects of other sizes do not count; boxes only."
        )
        sections.append(page.Section("Sizes", [size_table(found["sizes"])], note))
    sections += _pictures(found, folder)
    return sections


def class_table(found: Mapping[str, Any]) -> page.Table:
    """Returns the table of classes: counts, and how well each is found."""
    names, classes, labels = found["names"], found["classes"], found["labels"]
    learned = labels.get("train", {})
    learned = learned.get("class_objects") or learned.get("class_images")
    headings = ["class", *(["trained on"] if learned else [])]
    if "parts" not in classes:
        headings += ["images", "top1", "top5"]
        shares = [
            [classes[k][i] / n if n else None for k in ("top1", "top5")]
            for i, n in enumerate(classes["images"])
        ]
        counts = [[n] for n in classes["images"]]
        overall: list[page.Cell] = [found["images"]]
        overall += [
            found["summary"].get(f"metrics/accuracy_{t}") for t in headings[-2:]
        ]
    else:
        headings += ["images", "objects"]
        counts = [
            list(n) for n in zip(classes["images"], classes["targets"], strict=True)
        ]
        overall = [found["images"], sum(classes["targets"])]
        shares = [[] for _ in names]
        for part, values in classes["parts"].items():
            letter = "" if part == "Box" else f" {part.lower()}"
            headings += [f"{c}{letter}" for c in ("P", "R", "mAP50", "mAP50-95")]
            where = {c: i for i, c in enumerate(values["classes"])}
            keys = ("precision", "recall", "map50", "map")
            for c, row in enumerate(shares):
                i = where.get(c)
                row += [None if i is None else values[key][i] for key in keys]
            whole_of = ("precision", "recall", "mAP50", "mAP50-95")
            overall += [
                found["summary"].get(f"metrics/{key}({part[0]})") for key in whole_of
            ]
    rows = []
    for i, name in enumerate(names):
        if not (counts[i][0] or (learned and learned[i])):
            continue  # neither trained on nor to be found
        own: list[page.Cell] = [name, *([learned[i]] if learned else [])]
        rows.append([*own, *counts[i], *shares[i]])
    whole: list[page.Cell] = ["all", *([sum(learned)] if learned else []), *overall]
    return page.Table(headings, rows, whole)


def size_table(sizes: Sequence[Mapping[str, Any]]) -> page.Table:
    """Returns the table of small, medium and large objects."""
    rows = []
    for row in sizes:
        low, high = row["from"], row["below"]
        pixels = f"from {low}" if high is None else f"{low} to {high}"
        rows.append((row["size"], pixels, row["targets"], row["map50"], row["map"]))
    return page.Table(("size", "pixels", "objects", "mAP50", "mAP50-95"), rows)


def _class_note(found: Mapping[str, Any]) -> str:
    parts = found["classes"].get("parts", {}).values()
    sure = sorted({f"{part['confidence']:.3f}" for part in parts})
    note = f"{found['images']:,} images. Click a heading to sort."
    if sure:
        note += f" P and R at the confidence of the best F1: {', '.join(sure)}."
    return note


def _curves(values: Mapping[str, Any], names: Sequence[str]) -> list[page.Block]:
    """Returns precision over recall, and F1 over confidence."""
    blocks: list[page.Block] = []
    which = values["curves_of"]
    many = len(which) > _COLORED
    note = ""
    if len(which) < len(values["classes"]):
        note = f"Thin lines: the {len(which)} classes with the most objects."
    for title, key, axis, label in (
        ("precision over recall", "pr", "recalls", "recall"),
        ("F1 over confidence", "f1", "confidences", "confidence"),
    ):
        lines = [
            page.Series(
                names[c],
                list(zip(values[axis], line, strict=True)),
                i if not many else i % _COLORED,
                faint=many,
            )
            for i, (c, line) in enumerate(
                zip(which, values[key]["classes"], strict=True)
            )
        ]
        mean = list(zip(values[axis], values[key]["mean"], strict=False))
        lines.append(page.Series("mean of all classes", mean))
        mark = None
        if key == "f1":
            sure = values["confidence"]
            mark = sure, f"best F1 at confidence {sure:.3f}"
        blocks.append(page.Chart(title, lines, label, (0.0, 1.0), mark, note))
    return blocks


def _pictures(found: Mapping[str, Any], folder: Path | None) -> list[page.Section]:
    items = []
    names, whole = found["names"], "targets" not in found["classes"]
    for kept in found["pictures"]:
        path = (folder or Path()) / Path(kept["file"]).name
        if not path.is_file():
            continue
        marks = [
            page.Mark(
                mark["kind"],
                [(x, y) for x, y in mark["corners"]],
                _mark_text(mark, names),
            )
            for mark in kept["marks"]
        ]
        told = _counted(kept["counts"])
        if whole:  # there is nothing to outline
            told, marks = marks[0].text, []
        size = kept["width"], kept["height"]
        items.append(page.Picture(path.read_bytes(), *size, marks, kept["name"], told))
    if not items:
        return []
    note = (
        "Pictures with the most errors: objects that were missed or given a wrong"
        " class, and boxes where nothing is, counted by their score (above"
        f" {found['conf']:g}). Click one to enlarge it, a word to hide its boxes."
    )
    if whole:
        note = "Wrong classes that the network was most sure of. Click one to enlarge."
    return [page.Section("Worst pictures", [page.Pictures(items)], note)]


def _mark_text(mark: Mapping[str, Any], names: Sequence[str]) -> str:
    true = None if mark["true"] is None else names[mark["true"]]
    if mark["class"] is None:
        return str(true)
    text = f"{names[mark['class']]} {mark['score']:.2f}"
    return f"{text}, is {true}" if mark["kind"] == "confused" else text


def _counted(counts: Mapping[str, int]) -> str:
    words = {"missed": "missed", "false": "false", "confused": "wrong class"}
    told = [f"{counts[k]} {word}" for k, word in words.items() if counts.get(k)]
    right = counts.get("right", 0)
    return ", ".join([*told, f"{right} right"] if right else told)


def label_section(found: Mapping[str, Any]) -> list[page.Section]:
    """Returns what the labels are like, split by split."""
    labels = found.get("labels")
    if not labels:
        return []
    splits = list(labels)
    kinds = [_SPLITS.get(split, split) for split in splits]
    names = found["names"]
    counted = [
        labels[s].get("class_objects") or labels[s]["class_images"] for s in splits
    ]
    most = sorted(range(len(names)), key=lambda i: -max(c[i] for c in counted))
    shown = most[:_BARS] if len(names) > _BARS else range(len(names))
    objects = labels[splits[0]].get("class_objects") is not None
    title = "objects by class" if objects else "images by class"
    if len(names) > _BARS:
        title += f", the {_BARS} largest of {len(names)}"
    rows = [(names[i], [c[i] for c in counted]) for i in shown]
    blocks: list[page.Block] = [page.Bars(title, kinds, rows)]
    boxes = {s: labels[s].get("boxes") for s in splits}
    known = {s: b for s, b in boxes.items() if b}
    if known:
        sizes = []
        for i, name in enumerate(("small, below 32", "medium", "large, from 96")):
            shares = [100 * b["coco_shares"][i] for b in known.values()]
            sizes.append((name, shares))
        kept = [_SPLITS.get(s, s) for s in known]
        blocks.append(page.Bars("sizes of boxes, original pixels, %", kept, sizes))
    return [page.Section("Labels", [*blocks, _label_table(labels)])]


def _label_table(labels: Mapping[str, Any]) -> page.Table:
    rows: list[tuple[page.Cell, ...]] = []

    def add(name: str, value: Any) -> None:
        rows.append((name, *(value(labels[split]) for split in labels)))

    add("images", lambda s: f"{s['images']:,}")
    add("width, median", lambda s: f"{s['width']['median']:.0f} px")
    add("height, median", lambda s: f"{s['height']['median']:.0f} px")
    if all(split.get("objects") for split in labels.values()):
        add("objects", lambda s: f"{sum(s['class_objects']):,}")
        add("objects per image, mean", lambda s: f"{s['objects']['mean']:.1f}")
        add("objects per image, most", lambda s: f"{s['objects']['max']:.0f}")
        add("images without objects", lambda s: f"{s['images_by_objects'][0]:,}")
    if all(split.get("boxes") for split in labels.values()):
        add("box size, median", lambda s: f"{s['boxes']['size']['median']:.0f} px")
    headings = ["", *(_SPLITS.get(split, split) for split in labels)]
    return page.Table(headings, rows)
