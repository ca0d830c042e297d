"""The end of a run whose loss is not finite: what replays that step is kept."""

import dataclasses
import json
from typing import NoReturn

import numpy as np

from yolojax import files
from yolojax.devices import hosts
from yolojax.devices import mesh as devices
from yolojax.errors import NonFiniteLoss
from yolojax.program.step import Logs
from yolojax.training.run import Run
from yolojax.types import TrainState


def stop_non_finite(run: Run, state: TrainState, seen: Logs) -> NoReturn:
    """Saves what replays the bad step, then raises NonFiniteLoss.

    Args:
        run: the run.
        state: before that step.
        seen: what a step told, on the host.
    """
    step = int(seen.bad_step)
    names = run.program.net.task.loss_names
    terms = {n: float(v) for n, v in zip(names, seen.bad_terms, strict=True)}
    bad = [n for n, v in terms.items() if not np.isfinite(v)] or ["gradient"]
    indices = run.data.batches.indices(step)
    epoch = step // run.program.schedule.batches_per_epoch + 1
    report = run.folder / f"nonfinite_step_{step}.json"
    details = {
        "step": step,
        "epoch": epoch,
        "seed": run.config.seed,
        "losses": {n: v if np.isfinite(v) else str(v) for n, v in terms.items()},
        "indices": indices,
        "images": [run.data.source.paths[i] for i in indices],
    }
    if hosts.leads():
        files.replace_text(report, json.dumps(details, indent=1) + "\n")
    none = devices.replicate(np.int32(-1), run.program.mesh)
    run.save(dataclasses.replace(state, bad_step=none))
    run.checkpoints.wait()
    hosts.wait("the bad step is saved")
    raise NonFiniteLoss(
        f"{', '.join(bad)} is not finite at step {step} (epoch {epoch}), images"
        f" {indices}. The state before that step is saved, and {report} lists the"
        f" images: yolojax replay {run.folder} says which operation, layer and object"
        " it is. Lower lr0, or check these labels."
    )
