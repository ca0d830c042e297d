"""A step of a run done again, and all that is to be told of it."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from yolojax import optim, visualize
from yolojax.config import changed
from yolojax.devices import mesh as devices
from yolojax.optim import flat
from yolojax.program import feed
from yolojax.program.compiler import Compiler
from yolojax.program.step import Logs
from yolojax.program.train_program import make_program
from yolojax.runs.journal import arrays_hash
from yolojax.training.replay import figures, hunt
from yolojax.training.replay.figures import Spread
from yolojax.training.replay.rebuild import (
    Before,
    Rebuilt,
    arrays,
    check_step,
    compared,
    do_step,
    newest_state,
    rebuild,
    state_before,
)
from yolojax.types import TrainState


class Wanted(NamedTuple):
    """What is to be done again."""

    step: int
    amp: bool | str  # precision of the step, that of the run or another
    newest: bool  # from the newest state, and not from the one before the step


@dataclasses.dataclass(frozen=True)
class Told:
    """What a step did, and what a picture of it needs."""

    figures: dict[str, Any]  # plain values of JSON
    host: dict[str, Any]  # the batch
    spread: Spread
    names: tuple[str, ...]  # of the classes
    files: list[str]  # of all training images


class _Done(NamedTuple):
    """A step that was done again."""

    state: TrainState  # before it
    after: TrainState
    logs: Logs  # on the host
    host: dict[str, Any]  # its batch with images


def bad_step(folder: Path) -> int:
    """Returns the step at which a run ended as it was not finite: the last of them.

    Raises:
        ValueError: there is none.
    """
    found = sorted(
        folder.glob("nonfinite_step_*.json"), key=lambda path: path.stat().st_mtime_ns
    )
    if not found:
        raise ValueError(
            f"{folder} has no step that was not finite. Say which one to replay: step=0"
            " is the first batch of the run."
        )
    return int(found[-1].stem.rpartition("_")[2])


def again(folder: Path, config: Any, wanted: Wanted) -> Told:
    """Returns what a step of a run did, done again.

    Args:
        folder: of the run.
        config: the settings of the run.
        wanted: the step.

    Raises:
        ValueError: the run has not done that step, or its state is not to be had.
    """
    run = rebuild(folder, config, wanted.step)
    check_step(run, wanted.step)
    take = newest_state if wanted.newest else state_before
    before = take(run, wanted.step)
    own = run.program.net.policy
    run, before = _in_precision(run, before, wanted.amp)
    step, policy = wanted.step, run.program.net.policy
    kept = jax.tree.map(lambda leaf: leaf.copy(), before.state)
    after, logs = do_step(run, before.state, step)
    host = run.batches.with_image(step)
    done = _Done(kept, after, jax.device_get(logs), host)
    told = _head(run, before, done, step)
    if wanted.newest:
        told["comparison"] = "not compared: it is not the state that the run had there"
    elif policy != own:
        told["comparison"] = f"not compared: the run computed in {own.name}"
    else:
        told["comparison"] = _comparison(run, done, step)
    spread = _add_figures(told, run, done, step)
    told["origin"] = _origin(run, done, step, spread) if told["bad"] else None
    files = list(run.source.paths)
    return Told(told, host, spread, tuple(run.source.names), files)


def picture(told: Told) -> np.ndarray:
    """Returns the batch of a step as a picture [h, w, 3] uint8 RGB."""
    found = told.spread
    if found.foreground is None or found.slot is None:
        return visualize.batch_grid(told.host, told.names, files=told.files)
    height, width = found.hw
    anchors = visualize.Anchors(
        found.points() / [width, height], found.strides(), found.foreground, found.slot
    )
    return visualize.assigned_grid(told.host, told.names, anchors, files=told.files)


def as_json(told: dict[str, Any]) -> str:
    """Returns figures as JSON, which knows no infinity: such a number is a text."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return value

    return json.dumps(plain(told), indent=1, allow_nan=False) + "\n"


def _in_precision(
    run: Rebuilt, before: Before, amp: bool | str
) -> tuple[Rebuilt, Before]:
    """Returns a run and its state with a step in that precision."""
    if amp == run.config.amp:
        return run, before
    config = changed(run.config, amp=amp)
    planned = None if config.time is None else run.program.schedule.epochs
    program = make_program(
        config,
        run.source,
        run.program.mesh,
        run.program.net.class_width,
        planned_epochs=planned,
    )
    state, scale = before.state, None
    if program.net.policy.loss_scaling:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        fresh = program.initial_state(flat.unpacked(variables))
        scale = state.loss_scale or fresh.loss_scale
    state = dataclasses.replace(state, loss_scale=scale)
    dispatch = program.dispatch(Compiler(), run.pixels)
    other = dataclasses.replace(run, config=config, program=program, dispatch=dispatch)
    state = devices.replicate(state, program.mesh)
    return other, before._replace(state=state)


def _head(run: Rebuilt, before: Before, done: _Done, step: int) -> dict[str, Any]:
    """Returns which step it is and what it started from."""
    schedule = run.program.schedule
    epoch, place = run.place(step)
    rates = optim.rates_at(schedule, step)
    norm = float(done.logs.grad_norm)
    update = optim.is_update(schedule, step)
    indices = run.batches.indices(step)
    scale = done.state.loss_scale
    return {
        "run": str(run.folder),
        "step": step,
        "epoch": epoch + 1,
        "batch": place + 1,
        "batches": schedule.batches_per_epoch,
        "precision": run.program.net.policy.name,
        "learning_rates": dict(zip(schedule.groups, map(float, rates.lr), strict=True)),
        "momentum": float(rates.momentum),
        "update": update,
        "state": before.origin,
        "again": before.again,
        "hash": arrays_hash(arrays(done.after).values()),
        "images": [run.source.paths[i] for i in indices],
        "gradient_norm": norm,
        "clip_norm": float(run.config.clip_norm),
        "clipped": bool(update and run.config.clip_norm < norm < math.inf),
        "loss_scale": None if scale is None else float(scale.scale),
        "skipped": bool(update and scale is not None and not math.isfinite(norm)),
    }


def _comparison(run: Rebuilt, done: _Done, step: int) -> str:
    """Returns whether a step gave what the run computed, as far as it was kept."""
    if int(done.logs.bad_step) >= 0:
        noted = run.folder / f"nonfinite_step_{step}.json"
        if not noted.is_file():
            return "the one before it: the step is not finite and changes nothing"
        losses = json.loads(noted.read_text(encoding="utf-8"))["losses"]
        here = [
            v if math.isfinite(v) else str(v) for v in map(float, done.logs.bad_terms)
        ]
        same = here == list(losses.values())
        words = "the same loss terms as" if same else "other loss terms than"
        return f"the one before it; {words} the run noted of this step"
    found = compared(run, done.after)
    if found is None:
        return "not compared: the run has kept no state of after this step"
    if not found.others:
        return f"the same bytes as state {found.kept.name} of the run"
    return (
        f"not the bytes of state {found.kept.name} of the run: {len(found.others)} of"
        f" {found.leaves} arrays differ, by {found.largest:.3g} at most (the run used"
        " another machine, version or plan, or its data are others now)"
    )


def _add_figures(told: dict[str, Any], run: Rebuilt, done: _Done, step: int) -> Spread:
    """Adds losses and layers to what is told; returns how the loss is spread."""
    program, names = run.program, run.program.net.task.loss_names
    batch = devices.put_batch(done.host, program.mesh, rows=program.rows)
    hyper = devices.replicate(feed.hyper_at(program.schedule, step), program.mesh)
    size = program.size_at(step)
    terms, grads = figures.gradient(program, done.state, batch, hyper, size)
    spread = figures.spread(program, done.state, batch, size)
    losses = {n: float(v) for n, v in zip(names, terms, strict=True)}
    told["losses"] = losses
    told["bad"] = _bad(losses) if int(done.logs.bad_step) >= 0 else []
    told["levels"] = figures.levels(spread, names)
    rows = figures.objects(spread, done.host, names)
    for row in rows:
        row["name"] = _class_name(run, row["class"])
        row["picture"] = _file(run, done.host, row["image"])
    told["objects"] = rows
    rows = figures.layers(grads, done.state.params, done.after.params)
    if told["bad"]:  # the step keeps no gradient
        rows = [row | {"gradient": None} for row in rows]
    told["layers"] = rows
    return spread


def _bad(losses: dict[str, float]) -> list[str]:
    """Returns the names of the terms that are not finite, or what else is not."""
    return [n for n, v in losses.items() if not math.isfinite(v)] or ["gradient"]


def _origin(run: Rebuilt, done: _Done, step: int, spread: Spread) -> dict[str, Any]:
    """Returns why a step is not finite, as plain values."""
    program = run.program
    looked = hunt.Step(
        program=program,
        config=run.config,
        state=done.state,
        host=done.host,
        hyper=feed.hyper_at(program.schedule, step),
        size=program.size_at(step),
    )
    verdict = hunt.hunt(looked)
    found = verdict.found
    told: dict[str, Any] = {
        "kind": verdict.kind,
        "why": verdict.text,
        "result": None if found is None else found.result,
        "operation": None,
        "also": {name: _elsewhere(other) for name, other in verdict.also.items()},
    }
    if found is None or not found.origins:
        return told
    first = found.origins[0]
    place = hunt.where(first, done.host, spread)
    return told | {
        "operation": first.operation,
        "layer": first.layer,
        "backward": found.backward,
        "code": first.code,
        "dtype": first.dtype,
        "shape": list(first.shape),
        "index": list(first.index),
        "value": str(first.value),
        "count": first.bad,
        "inputs": list(first.inputs),
        "place": place,
        "where": _where(run, done.host, place),
    }


def _elsewhere(found: hunt.Found | None) -> str:
    """Returns in words what is found in another precision."""
    if found is None:
        return "finite"
    if not found.origins:
        return f"{found.result} not finite"
    first = found.origins[0]
    return f"not finite: {first.operation} in {first.layer or 'the loss'}"


def _where(run: Rebuilt, host: dict[str, Any], place: dict[str, Any]) -> str:
    """Returns in words which picture and object a value is of."""
    if not place:
        return "of no single picture: the value is of the whole batch or of a weight"
    text = _file(run, host, place["image"])
    if "point" in place:
        x, y = place["point"]
        text += f", x {x:g}, y {y:g} (a cell of {place['stride']} pixels)"
    if "object" in place:
        number = place["object"]
        label = int(host["classes"][place["image"], number])
        return f"{text}, object #{number} ({_class_name(run, label)})"
    return f"{text}, at no object" if "valid" in host else text


def _class_name(run: Rebuilt, label: int) -> str:
    names = run.source.names
    return names[label] if label < len(names) else str(label)


def _file(run: Rebuilt, host: dict[str, Any], image: int) -> str:
    """Returns the file name of a picture of a batch."""
    number = int(host["image_id"][image])
    return Path(run.source.paths[number]).name if number >= 0 else "padding"
