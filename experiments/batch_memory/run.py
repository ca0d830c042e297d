"""Compares the predicted memory of a training step with what the process really takes.

python experiments/batch_memory/run.py path/to/coco128/data.yaml

Each figure comes from a process of its own, which does two steps of a run on a CPU.
"""

import json
import os
import subprocess
import sys

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.devices import mesh as devices
from yolojax.program import feed, memory
from yolojax.program.train_program import make_program

CASES = [  # model, pixels, batch
    *(("yolo11n", 320, 8), ("yolo11n", 320, 16)),
    *(("yolo11n", 640, 8), ("yolo11n", 640, 16)),
    *(("yolo11s", 320, 8), ("yolo11s", 320, 16)),
    *(("yolo11s", 640, 4), ("yolo11s", 640, 8)),
]
MALLOC = {  # how the C library gives memory
    "as a run sets it": "glibc.malloc.hugetlb=1",
    "its defaults": "glibc.malloc.hugetlb=0",
    "keeping nothing": "glibc.malloc.mmap_threshold=65536",
}


def one(data, model, imgsz, batch):
    """Returns bytes: XLA's account, what is predicted from it, and what was taken."""
    import jax

    config = config_lib.default("detect")
    config.model, config.imgsz, config.batch, config.data = model, imgsz, batch, data
    config = config_lib.check(config)
    source = loading.open_split(config, "train")
    mesh = devices.make_mesh("cpu:1", batch)
    program = make_program(config, source, mesh)
    batches = loading.train_batches(config, source)
    step = program.lowered_shapes(batches).compile()
    need = memory.need_of(step, mesh)
    host = batches[0]

    def two_steps():
        state = program.random_state()
        for iteration in range(2):
            put = feed.put([host], program.schedule, iteration, mesh)
            state, logs = step(state, *put, None)
            jax.block_until_ready((state, logs))
        assert logs.bad_step < 0

    program.random_state()  # compiles small programs, which are no part of the step
    taken = memory.peak_growth(two_steps)
    return {"account": need.total - need.scratch, "predicted": need.total} | {
        "temporaries": need.temporaries,
        "taken": taken,
    }


def fresh(tunables, *case):
    """Returns the figures of one case, measured in a process of its own."""
    command = [sys.executable, __file__, *map(str, case)]
    environment = os.environ | {"GLIBC_TUNABLES": tunables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(data):
    print("MiB; error: of the prediction against what a run takes")
    print(f"| model | px | batch | XLA's account | predicted | {' | '.join(MALLOC)} |"
          " error |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        found = [fresh(tunables, data, *case) for tunables in MALLOC.values()]
        sizes = [found[0]["account"], found[0]["predicted"]]
        sizes += [figures["taken"] for figures in found]
        error = 100 * (sizes[1] / sizes[2] - 1)
        cells = [*case, *(f"{size / 2**20:.0f}" for size in sizes), f"{error:+.1f} %"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        data, model, *numbers = sys.argv[1:]
        print(json.dumps(one(data, model, *map(int, numbers))))
