"""Times the training step and the forward pass of two trees in turn, on this machine.

python experiments/lean_program/pairs.py path/to/the/other/tree [--pairs 5]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
STEPS, PASSES = 4, 8  # of one turn


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", nargs="?", help="the tree to compare with")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(options):
    """Compiles both programs of the tree that is imported, then times on demand."""
    import jax
    import numpy as np
    from run import Coco, host_batch

    from yolojax import config as config_lib
    from yolojax.devices import mesh as devices
    from yolojax.models.blocks import INFERENCE
    from yolojax.program import feed
    from yolojax.program.train_program import make_program

    mesh = devices.make_mesh("cpu:1", options.batch)
    config = config_lib.default("detect")
    config.update(model="yolo11n", batch=options.batch, imgsz=options.pixels)
    config.update(optimizer="sgd", device="cpu:1", amp=False)
    program = make_program(config_lib.check(config), Coco("detect"), mesh)
    host = host_batch("detect", options.batch, options.pixels)
    rng = np.random.default_rng(0)
    host["image"] = rng.integers(0, 256, host["image"].shape, np.uint8)
    host["boxes"][:, :8] = options.pixels * np.array([0.2, 0.3, 0.6, 0.8])
    host["valid"][:, :8] = True
    batch, hyper = feed.put([host], program.schedule, 0, mesh)
    state = program.random_state()
    started = time.perf_counter()
    step = program.lowered(state, batch, hyper).compile()
    compiled = time.perf_counter() - started
    variables = jax.device_put(
        jax.tree.map(
            lambda shape: np.zeros(shape.shape, shape.dtype),
            jax.eval_shape(
                lambda k: program.net.model.init(
                    k, batch.image[:1] / 255, mode=INFERENCE
                ),
                jax.random.key(0),
            ),
        )
    )
    image = jax.device_put(host["image"].astype(np.float32) / 255)
    forward = jax.jit(lambda v, x: program.net.model.apply(v, x, mode=INFERENCE))
    state, logs = step(state, batch, hyper, None)
    jax.block_until_ready((logs, forward(variables, image)))
    print(f"{compiled:.1f}", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for _ in range(STEPS):
            state, logs = step(state, batch, hyper, None)
        jax.block_until_ready(logs)
        middle = time.perf_counter()
        for _ in range(PASSES):
            out = forward(variables, image)
        jax.block_until_ready(out)
        took = time.perf_counter() - middle
        print(f"{(middle - started) / STEPS} {took / PASSES}", flush=True)


def start(tree, options):
    """Starts the worker of a tree and returns it with its seconds of compiling."""
    command = [sys.executable, str(HERE), "--worker"]
    command += [f"--pixels={options.pixels}", f"--batch={options.batch}"]
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), str(HERE.parent)])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, float(process.stdout.readline())


def turn(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return [float(word) for word in process.stdout.readline().split()]


def main():
    options = arguments()
    if options.worker:
        worker(options)
        return
    trees = {"other": Path(options.other).resolve(), "this": HERE.parents[2]}
    workers = {}
    for name, tree in trees.items():
        workers[name], compiled = start(tree, options)
        print(f"{name}: traced and compiled in {compiled:.1f} s", flush=True)
    seconds = {name: [] for name in trees}
    for pair in range(options.pairs):
        order = list(trees) if pair % 2 == 0 else list(trees)[::-1]
        for name in order:
            seconds[name].append(turn(workers[name]))
    for process in workers.values():
        process.stdin.close()
        process.wait()
    for place, what in enumerate(("training step", "forward pass")):
        pairs = [[row[place] for row in seconds[name]] for name in trees]
        ratios = [b / a for a, b in zip(*pairs, strict=True)]
        texts = [f"{1e3 * statistics.median(times):.1f} ms" for times in pairs]
        shown = " ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{what}: other {texts[0]}, this {texts[1]}, this / other {shown}")


if __name__ == "__main__":
    main()
