"""One step of a run as a page of 80 columns."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from yolojax.writers.text import WIDTH, cut, pad, short

_MOST = 8  # rows of a table


def replay_page(told: Mapping[str, Any], width: int = WIDTH) -> str:
    """Returns what a step did, as text.

    Args:
        told: the figures, as they are written to replay_step_N.json.
        width: columns.
    """
    lines = _head(told, width)
    if told["origin"] is not None:
        lines += ["", *_origin(told, width)]
    lines += ["", *_pictures(told, width), "", *_losses(told, width)]
    lines += ["", *_objects(told, width), "", *_layers(told, width)]
    return "\n".join(lines)


def _head(told: Mapping[str, Any], width: int) -> list[str]:
    """Which step it is, from which state, and whether it is what the run computed."""
    rates = ", ".join(f"{k} {v:.6g}" for k, v in told["learning_rates"].items())
    lines = [
        f"step {told['step']} (epoch {told['epoch']}, batch {told['batch']} of"
        f" {told['batches']}), {told['precision']}",
        f"learning rates: {rates}; momentum {told['momentum']:.4g}",
        f"from {told['state']}" + _again(told["again"]),
        f"state after it: {told['hash']}, {told['comparison']}",
    ]
    if not told["update"]:
        lines.append("no update: the gradient is added to that of the next batches")
    return [line for text in lines for line in _wrapped(text, width)]


def _again(steps: int) -> str:
    return f", {steps} step{'s' * (steps != 1)} done again" if steps else ""


def _origin(told: Mapping[str, Any], width: int) -> list[str]:
    """Why the step is not finite."""
    found = told["origin"]
    lines = [f"not finite: {found['result'] or ', '.join(told['bad'])}"]
    lines.append(f"why: {found['why']}")
    if found["operation"] is not None:
        way = "backward" if found["backward"] else "forward"
        lines.append(f"layer: {found['layer'] or 'none, it is in the loss'} ({way})")
        shape = ", ".join(map(str, found["shape"]))
        lines.append(
            f"operation: {found['operation']} -> {found['dtype']}[{shape}], first"
            f" {found['value']} at {found['index']}, {found['count']} in all"
        )
        lines.append(f"of: {'; '.join(found['inputs'])}")
        lines.append(f"code: {found['code']}")
        lines.append(f"where: {found['where']}")
    for name, layer in found["also"].items():
        lines.append(f"in {name}: {layer}")
    return [line for text in lines for line in _wrapped(text, width)]


def _pictures(told: Mapping[str, Any], width: int) -> list[str]:
    names = [PurePath(image).name for image in told["images"]]
    text = f"pictures: {', '.join(names[: 2 * _MOST])}"
    if len(names) > 2 * _MOST:
        text += f" and {len(names) - 2 * _MOST} more"
    return _wrapped(text, width)


def _losses(told: Mapping[str, Any], width: int) -> list[str]:
    """The loss terms, and what the anchors of each level add to them."""
    names = list(told["losses"])
    rows = [["loss", "", *(short(n) for n in names)]]
    rows.append(["all", "", *(_number(told["losses"][n]) for n in names)])
    for row in told["levels"]:
        what = f"stride {row['stride']}, {row['what']}"
        count = str(row["anchors"])
        rows.append([what, count, *(_number(row["losses"][n]) for n in names)])
    if told["levels"]:
        rows[0][1] = "anchors"
    return _table(rows, width)


def _objects(told: Mapping[str, Any], width: int) -> list[str]:
    """The objects that add most to the loss."""
    shown = told["objects"][:_MOST]
    if not shown:
        return ["no objects in this batch"]
    names = list(told["losses"])
    whole = shown[0]["object"] is None
    first = "picture" if whole else "object: class, number, picture"
    heads = [first, "loss", *([] if whole else [short(n) for n in names])]
    if not whole:
        heads += [f"/{stride}" for stride in shown[0]["anchors"]]
    rows = [heads]
    for row in shown:
        what = f"{row['name']} #{row['object']} {row['picture']}"
        if whole:
            what = f"{row['name']} {row['picture']}"
        line = [what, _number(row["loss"])]
        if not whole:
            line += [_number(row["losses"][n]) for n in names]
            line += [str(n) for n in row["anchors"].values()]
        rows.append(line)
    rest = len(told["objects"]) - len(shown)
    more = [f"and {rest} more with less loss"] if rest else []
    return [*_table(rows, width), *more]


def _layers(told: Mapping[str, Any], width: int) -> list[str]:
    """The layers that change most; none does in a step that is not finite."""
    if told["bad"]:
        return ["no gradient and no update: a step that is not finite changes nothing"]
    rows = sorted(told["layers"], key=lambda row: -row["ratio"])
    shown = rows[:_MOST]
    text = [["layer", "batch's gradient", "weights", "update", "update/weights"]]
    for row in shown:
        values = (row[k] for k in ("gradient", "weights", "update", "ratio"))
        text.append([row["layer"], *map(_number, values)])
    total = f"gradient since the last update: norm {_number(told['gradient_norm'])}"
    if told["clipped"]:
        total += f", clipped to {told['clip_norm']:g}"
    if told["skipped"]:
        total += f": it overflows at a loss scale of {told['loss_scale']:g}, so that"
        total += " the update is left out and the next scale is half of it"
    return [
        *_wrapped(total, width),
        *_table(text, width),
        f"{len(rows)} layers in all",
    ]


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns lines: the first column to the left, cut where there is no room."""
    columns = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)][1:]
    columns = [n if n > 2 else 0 for n in columns]
    longest = max(len(row[0]) for row in rows)
    first = max(min(longest, width - sum(columns)), 12)
    lines = []
    for name, *values in rows:
        line = pad(name, first)
        line += "".join(v.rjust(n) for v, n in zip(values, columns, strict=True))
        lines.append(cut(line.rstrip(), width))
    return lines


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
