"""Compares devices that share the height of pictures with one that holds them whole.

python experiments/huge_pictures/run.py [--pixels 1536] [--batch 2] [--model yolo11n]
"""

import argparse
import os
import re
import time

LAYOUTS = ((1, 1), (2, 2), (4, 2), (4, 4))  # devices, of which so many share a height
STEPS = 3
CLASSES = 80
EXCHANGES = ("collective-permute", "all-reduce", "all-gather", "all-to-all")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=1536)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--model", default="yolo11n")
    return parser.parse_args()


class Pictures:
    """As much of a data set as a program depends on."""

    names = tuple(f"class {i}" for i in range(CLASSES))
    keypoints = None

    @property
    def labels(self):
        """One object of each class."""
        import numpy as np

        return [np.array([[i, 0.5, 0.5, 0.2, 0.2]]) for i in range(CLASSES)]

    def __len__(self):
        return 1024


def host_batch(batch, pixels):
    """Returns a batch of noise with ten objects in each picture."""
    import numpy as np

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.6 * pixels, (batch, 10, 2))
    return {
        "image": rng.integers(0, 256, (batch, pixels, pixels, 3), np.uint8),
        "boxes": np.concatenate(
            [corners, corners + 0.3 * pixels], axis=-1, dtype=np.float32
        ),
        "classes": rng.integers(0, CLASSES, (batch, 10), np.int32),
        "valid": np.ones((batch, 10), bool),
        "example_valid": np.ones(batch, bool),
    }


def measured(options, count, spatial):
    """Returns losses, what an evaluation finds and figures of both programs."""
    import jax

    from yolojax import config as config_lib
    from yolojax.assembly import network
    from yolojax.devices import mesh as devices
    from yolojax.program import feed, memory
    from yolojax.program.train_program import evaluation, make_program

    mesh = devices.make_mesh(f"cpu:{count}", options.batch, spatial)
    config = config_lib.default("detect")
    config.update(model=options.model, batch=options.batch, imgsz=options.pixels)
    config.update(optimizer="sgd", lr0=1e-4, amp=False, spatial=spatial)
    config = config_lib.check(config, "train")
    program = make_program(config, Pictures(), mesh)
    host = host_batch(options.batch, options.pixels)
    batch, hyper = feed.put([host], program.schedule, 0, mesh)
    state = program.random_state()
    variables = program.averaged(state)
    figures, results = {}, {}
    rules = network.detection_rules(config, 10)
    for name, lowered in (
        ("forward", evaluation(program.net, rules)(batch).lower(variables, batch)),
        ("training", program.lowered(state, batch, hyper)),
    ):
        started = time.perf_counter()
        compiled = lowered.compile()
        compiling, text = time.perf_counter() - started, compiled.as_text()
        started = time.perf_counter()
        if name == "forward":
            results[name] = jax.device_get(compiled(variables, batch))
        else:
            losses = []
            for _ in range(STEPS):
                state, logs = compiled(state, batch, hyper, None)
                losses.append(jax.device_get(logs.losses))
            results[name] = losses
        need = memory.need_of(compiled, mesh)
        figures[name] = {
            "MiB of a device": round(need.total / 2**20),
            "compiling, s": round(compiling),
            "computing, s": round(time.perf_counter() - started, 1),
        } | {x: len(re.findall(rf" {x}(?:-start)?\(", text)) for x in EXCHANGES}
    return results, figures


def main():
    options = arguments()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_NUM_CPU_DEVICES"] = str(max(count for count, _ in LAYOUTS))
    import numpy as np

    whole = None
    for count, spatial in LAYOUTS:
        results, figures = measured(options, count, spatial)
        whole = whole or results
        print(f"{count} devices, spatial={spatial}", flush=True)
        terms, found = results["forward"]
        sure = whole["forward"][1]
        away = {
            "forward": np.abs(terms / whole["forward"][0] - 1).max(),
            "training": np.abs(
                np.array(results["training"]) / np.array(whole["training"]) - 1
            ).max(),
        }
        print(f"    scores differ by {np.abs(found.scores - sure.scores).max():.1e}")
        for name, row in figures.items():
            shown = ", ".join(f"{what} {value}" for what, value in row.items())
            print(f"    {name}: losses differ by {away[name]:.1e}; {shown}", flush=True)


if __name__ == "__main__":
    main()
