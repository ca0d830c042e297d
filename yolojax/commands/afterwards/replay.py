"""Does one step of a run again, and says what it did: `--mode replay`."""

import logging
import sys
from pathlib import Path
from typing import Any

from yolojax import config as config_lib
from yolojax import files, models, visualize, writers
from yolojax.config import KEYS, recorded
from yolojax.runs import folder as run_folder
from yolojax.training.replay.again import Wanted, again, as_json, bad_step, picture

log = logging.getLogger("yolojax")

MOVED = ("data", "pretrained")  # settings that only say where something is
NOT_OF_THE_RUN = ("amp", "runs", "step", "state", "draw", *MOVED)


def run(config: Any, workdir: Path | None) -> None:
    """Prints what a step of a run did, and writes it to replay_step_N.json.

    Args:
        config: checked settings of the run, with its folder and the step.
        workdir: folder that is written into; None: the current one.

    Raises:
        ValueError: there is no such run or step, or a setting is not the run's.
    """
    folder = _folder(config)
    own = _own_settings(config, folder)
    models.builder_of(config.model)
    step = bad_step(folder) if config.step is None else config.step
    wanted = Wanted(step, config.amp, newest=config.state == "last")
    told = again(folder, own, wanted)
    print(writers.replay_page(told.figures, writers.console_width(sys.stdout)))
    parent = workdir or Path()
    run_folder.make(parent)
    with run_folder.unused_file(parent, f"replay_step_{step}", ".json") as path:
        files.replace_text(path, as_json(told.figures))
    log.info("all figures: %s", path)
    if config.draw:
        with run_folder.unused_file(parent, f"replay_step_{step}", ".png") as path:
            visualize.save_image(path, picture(told))
        log.info("the batch: %s", path)


def _folder(config: Any) -> Path:
    """Returns the folder of the run that is replayed.

    Raises:
        ValueError: none is given, several are, or it is no run.
    """
    given = config.runs
    named = given if isinstance(given, tuple) else (given,)
    if given is None or len(named) != 1:
        raise ValueError(
            "replay needs the folder of one run: yolojax replay runs/detect/train"
            " step=0."
        )
    folder = files.local_path(str(named[0]), "config.runs")
    if not recorded.holds_record(folder):
        raise ValueError(
            f"{folder} is not the folder of a run: it has no {recorded.RECORD}. Give"
            " one such as runs/detect/train."
        )
    return folder


def _own_settings(config: Any, folder: Path) -> Any:
    """Returns the settings that a run had, with its data where they are now.

    Raises:
        ValueError: another one is asked for, so that it would be another run.
    """
    was = config_lib.check(recorded.get_config(str(folder)), "replay")
    others = [
        name
        for name, key in KEYS.items()
        if not (key.resume or name in NOT_OF_THE_RUN) and config[name] != was[name]
    ]
    if others:
        name = others[0]
        raise ValueError(
            f"config.{name} = {config[name]!r}: a step is done again with the settings"
            f" of its run, where it is {was[name]!r}. Remove it; only amp, device and"
            " where the data are may be others."
        )
    return config_lib.changed(config, amp=was.amp)
