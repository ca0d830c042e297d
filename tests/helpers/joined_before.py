"""Commands in processes that somebody else has joined, as trainers of Ray do.

As a program it reads where the processes meet and what they do (JSON) from its
argument, joins JAX and does it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from places import HELPERS, ROOT
from quick_compiler import set_flags


def start(address, count, work, place):
    """Starts the processes, which have two devices each.

    Args:
        address: where they meet.
        count: of processes.
        work: [command, settings other than the usual ones, folder or None] of each.
        place: for caches; relative paths are meant from there.
    """
    environment = os.environ | {
        "PYTHONPATH": f"{HELPERS}{os.pathsep}{ROOT}",
        "YOLOJAX_CACHE": str(place / "cache"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    set_flags(environment)
    return [
        subprocess.Popen(
            [sys.executable, __file__, json.dumps([address, count, index, work])],
            env=environment,
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]


def do(command, values, folder):
    """Does what the command line does, and returns."""
    import tiny_predictor

    from yolojax import main
    from yolojax.devices import hosts
    from yolojax.program import start as starting

    settings = {"device": None, "hosts_timeout": 60} | values
    config = tiny_predictor.settings(command=command, **settings)
    starting.set_up_jax(config, command)
    main._load(main.MODES[command])(config, None if folder is None else Path(folder))
    hosts.leave()


def _work(address, count, index, work):
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(address, count, index)
    for command, values, folder in work:
        do(command, values, folder)
    jax.distributed.shutdown()


if __name__ == "__main__":
    _work(*json.loads(sys.argv[1]))
