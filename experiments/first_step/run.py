"""Times what happens between the command and the end of the first step, cold and warm.

python experiments/first_step/run.py [config] [KEY=VALUE ...]
"""

import ast
import collections
import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PARTS = {
    "imports": "Python starts and loads the package; settings are checked",
    "devices": "devices are made",
    "scan": "pictures and labels are found, or what was found before is read",
    "program": "network, optimiser and schedule are put together",
    "state": "parameters are drawn, and put on the devices",
    "shown": "statistics and pictures of the data",
    "batch": "the loader starts, and makes the first batch",
    "step": "the step is traced, compiled or loaded, and done",
}
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile or load",
}
LEAST = 0.2  # seconds of what is listed on its own
PICTURES = {"train": 128, "val": 32}


class Marks:
    """Wall and processor time at the end of each part, and what JAX did meanwhile."""

    def __init__(self, start):
        """Begins when the process was started, seconds since the epoch."""
        self._start = start
        self.parts = {}
        self.events = collections.defaultdict(lambda: [0, 0.0])

    def end(self, part):
        """Ends a part, the first time."""
        if part not in self.parts:
            self.parts[part] = time.time() - self._start, time.process_time()

    def after(self, owner, name, part):
        """Ends a part when a function returns."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def wrapped(*args, **options):
            result = function(*args, **options)
            self.end(part)
            return result

        setattr(owner, name, wrapped)

    def listen(self, event, seconds, fun_name="", **_):
        """Adds up what JAX tells of."""
        if event in EVENTS:
            where = "main" if threading.current_thread().name == "MainThread" else ""
            found = self.events[f"{EVENTS[event]}: {fun_name}{where and ' (main)'}"]
            found[0] += 1
            found[1] += seconds


def child(start, config_name, data, folder, words):
    """Runs the command up to its first step, and prints what took how long."""
    marks = Marks(start)
    from yolojax import config as config_lib
    from yolojax.config import shipped
    from yolojax.program.start import set_up_jax

    config = shipped.read(config_name, data)
    for word in words:
        key, _, text = word.partition("=")
        try:
            config[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            config[key] = text
    config = config_lib.check(config, "train")
    set_up_jax(config, "train")  # as the command does, before what it imports
    import jax

    from yolojax.commands import train
    from yolojax.training import loop

    marks.end("imports")
    jax.monitoring.register_event_duration_secs_listener(marks.listen)
    jax.devices()
    marks.end("devices")
    marks.after(train, "_sources", "scan")
    marks.after(train, "make_program", "program")
    marks.after(train, "make_run", "state")
    marks.after(loop.outputs, "show_training_data", "shown")
    step = loop.do_steps

    def first(*arguments):
        marks.end("batch")
        jax.block_until_ready(step(*arguments))
        marks.end("step")
        sys.stdout = out
        print(json.dumps([marks.parts, marks.events]), flush=True)
        compiler, kept = arguments[0].steps.train.compiler, threading.Event()
        compiler.wait()
        compiler.later(kept.set)  # after all that the next start is to find
        kept.wait()
        os._exit(0)

    loop.do_steps = first
    out = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):
        train.run(config, Path(folder))


def timed(place, name, config_name, words):
    """Returns marks and events of one start."""
    environment = os.environ | {"YOLOJAX_CACHE": str(place / "cache")}
    place_of_data, folder = str(place / "data"), str(place / name)
    start = [repr(time.time()), config_name, place_of_data, folder, *words]
    done = subprocess.run(
        [sys.executable, __file__, "--child", *start],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Prints a table of parts, and one of what was traced, lowered and compiled."""
    if sys.argv[1:2] == ["--child"]:
        start, config_name, data, folder, *words = sys.argv[2:]
        child(float(start), config_name, data, folder, words)
        return
    from yolojax.data.shapes import folder as shapes

    config_name, *words = sys.argv[1:] or ["yolo11n"]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        shapes.write_yolo_folder(
            place / "data", task="detect", size=640, counts=PICTURES, seed=0
        )
        found = {
            name: timed(place, name, config_name, words) for name in ("cold", "warm")
        }
    print("seconds, wall (processor):\n\n| part | cold | warm | |\n|---|---|---|---|")
    before = dict.fromkeys(found, (0.0, 0.0))
    for part, meaning in PARTS.items():
        cells = []
        for name, (parts, _) in found.items():
            wall, cpu = parts[part]
            cells.append(f"{wall - before[name][0]:.1f} ({cpu - before[name][1]:.1f})")
            before[name] = wall, cpu
        print(f"| {part} | {cells[0]} | {cells[1]} | {meaning} |")
    cells = [f"{wall:.1f} ({cpu:.1f})" for wall, cpu in before.values()]
    print(f"| all | {cells[0]} | {cells[1]} | |")
    for name, (_, events) in found.items():
        print(f"\n{name}: what JAX did, times and seconds (parts of others included)\n")
        for what, (count, seconds) in sorted(events.items(), key=lambda e: -e[1][1]):
            if seconds >= LEAST:
                print(f"- {what}: {count}, {seconds:.1f} s")


if __name__ == "__main__":
    main()
