"""The measurements of run.py, each in a process of its own: parts.py NAME JSON.

A finding is a line of JSON behind "@"; run.py saves it at once.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

ROUNDS = 3  # of a timing, whose median is taken
SLOTS = 128  # objects of an image that a batch has room for


def tell(**finding):
    print("@" + json.dumps(finding), flush=True)


class Coco:
    """As much of a data set as a program depends on."""

    names = tuple(f"class {i}" for i in range(80))
    keypoints = kpt_shape = kpt_sigmas = None

    @property
    def labels(self):
        """One object of each class: weights of classes are off."""
        import numpy as np

        return [np.array([[i, 0.5, 0.5, 0.2, 0.2]]) for i in range(len(self.names))]

    def __len__(self):
        return 118_287


def host_batch(batch, pixels):
    """Returns a batch of noise with eight objects in each picture."""
    import numpy as np

    rng = np.random.default_rng(0)
    corners = rng.uniform(0.05, 0.45, (batch, 8, 2))
    boxes = np.zeros((batch, SLOTS, 4), np.float32)
    boxes[:, :8] = pixels * np.concatenate([corners, corners + 0.4], axis=2)
    classes, valid = np.zeros((batch, SLOTS), np.int32), np.zeros((batch, SLOTS), bool)
    classes[:, :8], valid[:, :8] = rng.integers(0, 80, (batch, 8)), True
    return {
        "image": rng.integers(0, 256, (batch, pixels, pixels, 3), np.uint8),
        "example_valid": np.ones(batch, bool),
        "boxes": boxes,
        "classes": classes,
        "valid": valid,
    }


def program_of(model, batch, pixels, mesh):
    from yolojax import config as config_lib
    from yolojax.program.train_program import make_program

    config = config_lib.default("detect")
    config.update(model=model, batch=batch, imgsz=pixels, amp="bf16")
    config.update(optimizer="adamw")
    return make_program(config_lib.check(config), Coco(), mesh)


def step(
    *,
    model,
    batch,
    pixels,
    repeats,
    absent=None,
    only_compile=False,
    folder=None,
):
    """Times a training step on a batch that lies on the device already."""
    if absent:
        return counted_step(model, batch, pixels, absent)
    import jax

    from yolojax.devices import mesh as devices
    from yolojax.program import feed, memory

    mesh = devices.make_mesh(f"{jax.default_backend()}:1", batch)
    program = program_of(model, batch, pixels, mesh)
    host = host_batch(batch, pixels)
    started = time.perf_counter()
    lowered = program.lowered(*program.shapes(host))
    traced = time.perf_counter() - started
    compiled = lowered.compile()
    took = time.perf_counter() - started - traced
    if only_compile:
        return None
    need = memory.need_of(compiled, mesh)
    data, hyper = feed.put([host], program.schedule, 0, mesh)
    seconds, digest = timed(program, compiled, data, hyper, repeats)
    flops = float((lowered.cost_analysis() or {}).get("flops", 0))
    again = timed(program, compiled, data, hyper, repeats)[1]
    tell(
        ms=round(1e3 * seconds, 2),
        images_s=round(batch / seconds, 1),
        mfu=share_of_peak(flops / seconds),
        predicted_gib=need and round(need.total / 2**30, 2),
        peak_gib=peak_memory(mesh),
        traced_s=round(traced, 1),
        compiled_s=round(took, 1),
        repeats_to_the_byte=digest == again,
        device=mesh.devices.flat[0].device_kind,
    )
    return None


def timed(program, compiled, data, hyper, repeats):
    """Returns the seconds of a step, and a digest of the state that it ends in.

    The host is ahead of the device, as in a run: several steps are awaited at once.
    """
    import hashlib

    import jax

    state, logs = compiled(program.random_state(), data, hyper, None)
    state, logs = compiled(state, data, hyper, None)
    jax.block_until_ready(logs)
    durations = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(repeats):
            state, logs = compiled(state, data, hyper, None)
        jax.block_until_ready(logs)
        durations.append((time.perf_counter() - started) / repeats)
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get((state.params, state.ema))):
        digest.update(leaf.tobytes())
    return statistics.median(durations), digest.hexdigest()


def counted_step(model, batch, pixels, absent):
    """Compiles the step for a device that is not here, and counts what it does."""
    from yolojax.planning.compiled import environment
    from yolojax.program.absent import targets

    os.environ.update(environment(targets.target_of(absent).platform))
    from yolojax.program import memory
    from yolojax.program.absent.counted import counted

    mesh = targets.absent_mesh(absent)
    program = program_of(model, batch, pixels, mesh)
    lowered = program.lowered(*program.shapes(host_batch(batch, pixels)))
    started = time.perf_counter()
    compiled = lowered.compile()
    took = time.perf_counter() - started
    counts, need = counted(compiled.as_text()), memory.need_of(compiled, mesh)
    tell(
        absent=absent,
        launches=counts.launches,
        traffic_gb=round(counts.traffic / 1e9, 1),
        predicted_gib=round(need.total / 2**30, 2),
        compiled_s=round(took),
    )


def share_of_peak(rate):
    """Returns the share of the device's peak in bfloat16, None if it is not known."""
    import jax

    try:
        from yolojax.devices.known import DEVICES
    except ImportError:  # an older tree
        return None
    kind = jax.devices()[0].device_kind.lower().replace(" ", "")
    for name, device in DEVICES.items():
        if name.partition("-")[0] in kind and device.bf16:
            return round(rate / device.bf16, 4)
    return None


def peak_memory(mesh):
    """Returns the most GiB that the device held, None if it does not tell."""
    stats = mesh.devices.flat[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return round(peak / 2**30, 2) if peak else None


def trained(folder, name, config, **settings):
    """Trains in a new folder of this name; returns it, and the seconds."""
    import shutil

    from yolojax import config as config_lib
    from yolojax.commands import train

    workdir = Path(folder) / "runs" / name
    shutil.rmtree(workdir, ignore_errors=True)
    config.update(plots=False, **settings)
    started = time.perf_counter()
    train.run(config_lib.check(config, "train"), workdir)
    return workdir, time.perf_counter() - started


def drawn(folder, images, pixels):
    """Returns a data set without pictures to validate on."""
    import shutil

    from yolojax.data.shapes import folder as shapes

    root = Path(folder) / "data"
    if not root.exists():
        counts = {"train": images, "val": 1}
        shapes.write_yolo_folder(
            root, task="detect", size=pixels, counts=counts, seed=0
        )
        shutil.rmtree(root / "images" / "val")
    return str(root / "data.yaml")


def run(*, model, batch, pixels, images, epochs, cache, trace=0, folder):
    """Trains with the loader, and reads what the run says after its first epoch."""
    from yolojax import config as config_lib

    workdir, took = trained(
        folder,
        f"trace-{cache}" if trace else f"cache-{cache}",
        config_lib.default("detect"),
        model=model,
        data=drawn(folder, images, pixels),
        batch=batch,
        imgsz=pixels,
        epochs=epochs,
        cache=cache,
        close_mosaic=0,
        amp="bf16",
        val=False,
        save=False,
        profile=trace,
    )
    rows = [json.loads(x) for x in (workdir / "log.jsonl").read_text().splitlines()]
    if trace:
        files = [str(p.relative_to(folder)) for p in workdir.rglob("*.xplane.pb")]
        tell(steps=trace, trace=files[0] if files else "none was written")
        return
    tell(
        cache=cache,
        images_s=statistics.median(row["images_per_second"] for row in rows[1:]),
        waiting=statistics.median(row["data_wait"] for row in rows[1:]),
        seconds=round(took),
    )


def train(*, model, amp, toy, folder):
    """Trains the drawn shapes in a precision, by the recipe of the first run."""
    import csv

    from yolojax import config as config_lib

    config = config_lib.for_shapes(config_lib.default("detect"))
    values = {"data": "shapes", "model": model, "amp": amp}
    if toy:
        values |= {"epochs": 1, "imgsz": 64, "fraction": (16, 8), "warmup_epochs": 0.0}
    workdir, took = trained(folder, f"amp-{amp}", config, **values)
    with (workdir / "results.csv").open(newline="") as file:
        best = max(float(row["metrics/mAP50-95(B)"]) for row in csv.DictReader(file))
    tell(amp=amp, best_map=round(best, 4), seconds=round(took))


def convolutions(*, toy, folder):
    """Times forms of depthwise and 1x1 convolutions, with their gradients."""
    import functools

    import jax
    import jax.numpy as jnp

    from yolojax.ops.conv import FORMS

    images = 2 if toy else 64
    cases = [  # kernel, height, channels, features, groups, our form
        (3, 80, 64, 64, 64, "depthwise"),
        (3, 40, 128, 128, 128, "depthwise"),
        (3, 20, 256, 256, 256, "depthwise"),
        (1, 80, 64, 64, 1, "pointwise"),
        (1, 40, 128, 128, 1, "pointwise"),
        (1, 20, 256, 256, 1, "pointwise"),
    ]
    for size, height, channels, features, groups, form in cases[:: 4 if toy else 1]:
        shape = (images, height, height, channels)
        x = jax.random.normal(jax.random.key(0), shape, jnp.bfloat16)
        kernel = (size, size, channels // groups, features)
        w = jax.random.normal(jax.random.key(1), kernel, jnp.bfloat16)
        found = {}
        for name in ("native", form):
            one = functools.partial(FORMS[name], stride=1, groups=groups)

            def both(x, w, one=one):
                out, back = jax.vjp(one, x, w)
                return back(out)

            forward, gradient = jax.jit(one), jax.jit(both)
            found[f"{name}_ms"] = milliseconds(forward, x, w)
            found[f"{name}_gradient_ms"] = milliseconds(gradient, x, w)
        tell(form=form, height=height, channels=channels, **found)


def milliseconds(work, *given):
    import jax

    jax.block_until_ready(work(*given))
    durations = []
    for _ in range(10):
        started = time.perf_counter()
        jax.block_until_ready(work(*given))
        durations.append(time.perf_counter() - started)
    return round(1e3 * statistics.median(durations), 3)


WORKS = {"step": step, "run": run, "train": train, "convolutions": convolutions}

if __name__ == "__main__":
    WORKS[sys.argv[1]](**json.loads(sys.argv[2]))
