"""Compiles real training steps for an absent device and counts what they do.

python experiments/lean_program/run.py [--for h100] [--count 1] [n s segment ...]
"""

import argparse
import os
import time

SIZES = ("n", "s", "m", "l", "x")
TASKS = ("segment", "pose", "obb", "classify")
BATCH, PIXELS = 64, 640
CLASSIFY_BATCH, CLASSIFY_PIXELS = 256, 224
SLOTS = 128  # objects of an image that the batch has room for
IMAGES = 118_287  # of COCO's training split


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", nargs="*", default=["n"], help="sizes and tasks")
    parser.add_argument("--for", dest="target", default="h100")
    parser.add_argument("--count", type=int, default=1, help="of devices")
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--pixels", type=int, default=None)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--text", default="", help="folder for the programs' texts")
    parser.add_argument("--set", nargs="*", default=[], help="key=value settings")
    return parser.parse_args()


class Coco:
    """As much of a data set as a program depends on."""

    def __init__(self, task):
        self.names = tuple(
            f"class {i}" for i in range(1000 if task == "classify" else 80)
        )
        self.keypoints = True if task == "pose" else None
        self.kpt_shape, self.kpt_sigmas = (17, 3), None
        if task == "pose":
            self.names = ("person",)
        if task == "obb":
            self.names = self.names[:15]

    @property
    def labels(self):
        """One object of each class: weights of classes are off."""
        import numpy as np

        return [np.array([[i, 0.5, 0.5, 0.2, 0.2]]) for i in range(len(self.names))]

    def __len__(self):
        return IMAGES


def host_batch(task, batch, pixels):
    """Returns a batch whose shapes alone are read."""
    import numpy as np

    quarter = pixels // 4
    fields = {
        "image": np.broadcast_to(np.uint8(0), (batch, pixels, pixels, 3)),
        "example_valid": np.ones(batch, bool),
    }
    if task == "classify":
        return fields | {"labels": np.zeros(batch, np.int32)}
    fields |= {
        "boxes": np.zeros((batch, SLOTS, 4), np.float32),
        "classes": np.zeros((batch, SLOTS), np.int32),
        "valid": np.zeros((batch, SLOTS), bool),
    }
    if task == "segment":
        fields["masks"] = np.zeros((batch, quarter, quarter), np.int32)
    if task == "pose":
        fields["keypoints"] = np.zeros((batch, SLOTS, 17, 3), np.float32)
    if task == "obb":
        fields["angles"] = np.zeros((batch, SLOTS), np.float32)
    return fields


def lowered(name, mesh, options):
    """Returns a program by its short name, lowered, and its label."""
    from yolojax import config as config_lib
    from yolojax.program.train_program import make_program

    task = name if name in TASKS else "detect"
    size = name if name in SIZES else "n"
    batch, pixels = BATCH, PIXELS
    if task == "classify":
        batch, pixels = CLASSIFY_BATCH, CLASSIFY_PIXELS
    batch, pixels = options.batch or batch, options.pixels or pixels
    config = config_lib.default(task)
    config.update(model=f"yolo11{size}", batch=batch, imgsz=pixels, amp="bf16")
    config.update(optimizer=options.optimizer)
    for text in options.set:
        key, _, value = text.partition("=")
        config[key] = type(config[key])(value)
    program = make_program(config_lib.check(config), Coco(task), mesh)
    shapes = program.shapes(host_batch(task, batch, pixels))
    label = f"{size} {task} {pixels} px batch {batch}"
    return program, program.lowered(*shapes, size=program.size_at(0)), label


EXCHANGES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute")


def exchanged(counts):
    """Returns how often devices exchange something, and MB of results of each kind."""
    shown = []
    for kind in EXCHANGES:
        rows = [row for row in counts.kinds if row[0] in (kind, f"{kind}-start")]
        if rows:
            times, size = sum(row[1] for row in rows), sum(row[2] for row in rows)
            shown.append(f"{kind} {times} ({size / 2e6:.1f} MB)")
    return ", ".join(shown) or "nothing"


def main():
    options = arguments()
    from yolojax.planning.compiled import environment
    from yolojax.program.absent import targets

    os.environ.update(environment(targets.target_of(options.target).platform))
    from yolojax.program import memory
    from yolojax.program.absent.counted import counted

    mesh = targets.absent_mesh(options.target, options.count)
    for name in options.programs:
        started = time.perf_counter()
        program, step, label = lowered(name, mesh, options)
        traced = time.perf_counter() - started
        started = time.perf_counter()
        compiled = step.compile()
        took = time.perf_counter() - started
        text = compiled.as_text()
        if options.text:
            with open(os.path.join(options.text, f"{name}.txt"), "w") as file:
                file.write(text)
        counts, need = counted(text), memory.need_of(compiled, mesh)
        print(
            f"{options.target}:{options.count} {label} {program.net.policy.name}"
            f" | {counts.launches} launches | {counts.traffic / 1e9:.1f} GB"
            f" | {need.total / 2**30:.2f} GiB | {counts.all_reduces} all-reduces"
            f" | traced {traced:.0f} s, compiled {took:.0f} s",
            flush=True,
        )
        if mesh.size > 1:
            print(f"    exchanged: {exchanged(counts)}", flush=True)
        for kind, launches, size in counts.kinds[:12]:
            print(f"    {kind:<24}{launches:6}{size / 1e9:9.2f} GB", flush=True)


if __name__ == "__main__":
    main()
