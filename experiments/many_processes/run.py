"""One run over several processes of this machine: equal, killed, moved, preempted.

python experiments/many_processes/run.py FOLDER PART [PART ...]

Parts: matrix, precise, tasks, figures, kill, elastic, preempt, bad, pace. Each prints
its tables.
"""

import json
import random
import signal
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import bad_input  # noqa: E402
import clouds  # noqa: E402
from runs import CONFIGS, WHOLE_HEAD, Runs, ended, furthest, table  # noqa: E402

SHAPES = ((1, 8), (2, 4), (4, 2))  # processes x devices of each
TWENTY = {**WHOLE_HEAD, "fraction": 40, "epochs": 4}  # steps
KILLS = 10
SAVES = {"fraction": 16, "save_minutes": 1e-6}  # each of 6 steps, and 3 epochs


def matrix(runs):
    """Same batches, losses and bytes, whatever shares the eight devices."""
    _matrix(runs, "m", {}, TWENTY)


def precise(runs):
    """The same in float64."""
    wide = {index: {"float64": True} for index in range(4)}
    _matrix(runs, "w", wide, TWENTY | {"optimizer": "sgd"})


def _matrix(runs, prefix, how, settings):
    rows, first = [], None
    for processes, devices in SHAPES:
        name = f"{prefix}{processes}x{devices}"
        runs.fresh(name)
        runs.whole(name, processes, devices, how=how, **settings)
        first = first or name
        steps, usual = runs.steps(name), runs.steps(first)
        alike = sum(steps[s][0] == usual[s][0] for s in usual)
        rows.append(
            [
                f"{processes}x{devices}",
                f"{alike} of {len(usual)}",
                f"{furthest(runs.losses(name), runs.losses(first)):.1e}",
                _figures(runs, name, first),
            ]
        )
    table(["", "same batches", "losses differ by", "figures of validation"], rows)
    name = f"{prefix}2x4"
    runs.fresh(f"{name}again")
    runs.whole(f"{name}again", 2, 4, how=how, **settings)
    print(f"2x4 twice: {runs.same(name, f'{name}again')} differs\n")


def _figures(runs, name, other):
    """Returns how figures of validations compare, and the last of them."""
    unlike, shown = set(), "all 0"
    for here, there in zip(runs.rows(name), runs.rows(other), strict=True):
        for key in here:
            if key.startswith("metrics/"):
                unlike |= {key} if here[key] != there[key] else set()
                if float(here[key] or 0):
                    best = "mAP50" in key or "accuracy_top1" in key
                    shown = f"{key} {here[key]}" if best else shown
    return f"{shown}; {'the same' if not unlike else f'{sorted(unlike)} differ'}"


def tasks(runs):
    """1x4 against 2x2 for every task, input size and shape of batches."""
    cases = {task: {"task": task} for task in ("detect", "segment", "pose", "obb")}
    cases |= {"classify": {"task": "classify"}, "multi_scale": {"multi_scale": 0.5}}
    oblong = runs.data("detect", "oblong")
    cases |= {"rect": {"rect": True, "data": oblong}, "bn_groups=4": {"bn_groups": 4}}
    cases |= {"uneven, batch=9": {"batch": 9}, "uneven, batch=2": {"batch": 2}}
    cases["uneven, batch=9"] |= {"fraction": 26}
    cases["uneven, batch=2"] |= {"fraction": 10}
    rows = []
    for number, (case, settings) in enumerate(cases.items()):
        for processes, devices in ((1, 4), (2, 2)):
            name = runs.fresh(f"t{number}_{processes}x{devices}").name
            runs.whole(name, processes, devices, **settings)
        one, two = f"t{number}_1x4", f"t{number}_2x2"
        usual, steps = runs.steps(one), runs.steps(two)
        alike = sum(steps[s][0] == usual[s][0] for s in usual)
        far = furthest(runs.losses(two), runs.losses(one))
        cells = f"{alike} of {len(usual)}", f"{far:.1e}", _figures(runs, two, one)
        rows.append([case, *cells])
        print(rows[-1], flush=True)
    table(["1x4 and 2x2", "same batches", "losses differ by", "validation"], rows)


def figures(runs):
    """Validation of the same weights, which have learned something: the same bytes."""
    rows = []
    for task in CONFIGS:
        taught = f"taught_{task}"  # if it is there, nothing is trained again
        long = {"epochs": 60, "lr0": 0.01, "save_minutes": 15, "val": False}
        runs.whole(taught, task=task, **long, mosaic=0.0, close_mosaic=0)
        found = []
        for processes, devices in ((1, 4), (2, 2)):
            name = runs.fresh(f"f{processes}x{devices}_{task}").name
            own = {"mode": "val", "weights": runs.folder / taught}
            runs.whole(name, processes, devices, task=task, **own)
            found.append((runs.folder / name / "val" / "metrics.jsonl").read_bytes())
        values = json.loads(found[0])
        shown = [
            f"{k} {v:.4f}" for k, v in values.items() if "50-95" in k or "top1" in k
        ]
        alike = "the same bytes" if found[0] == found[1] else "DIFFER"
        rows.append([task, ", ".join(shown), alike])
        print(rows[-1], flush=True)
    table(["1x4 and 2x2", "figures of validation", "metrics.jsonl"], rows)


def kill(runs):
    """One of two processes is killed; the same command goes on."""
    runs.fresh("still")
    runs.whole("still", 2, 1, **SAVES)
    states, rows = runs.saved("still"), []
    for number in range(KILLS):
        dice = random.Random(number)
        at, more = dice.randrange(1, states), dice.uniform(0, 0.3)
        name, victim = runs.fresh(f"kill{number}").name, number % 2
        pair = runs.together(name, 2, 1, **SAVES)
        while runs.saved(name) < at and None in [p.poll() for p in pair]:
            time.sleep(0.005)
        time.sleep(more)
        pair[victim].send_signal(signal.SIGKILL)
        (status, seconds) = ended(pair)[1 - victim]
        words = runs.last_words(name, 1 - victim)
        runs.whole(name, 2, 1, **SAVES)
        differs = runs.same("still", name)
        when = f"{more:.2f} s after state {at}"
        rows.append([when, victim, status, f"{seconds:.1f}", words, differs])
        print(rows[-1], flush=True)
    heads = ["killed", "process", "other's status", "after, s"]
    table([*heads, "what it says", "differs after going on"], rows)


def elastic(runs):
    """A run goes on with other numbers of devices and processes."""
    runs.fresh("calm")
    runs.whole("calm", epochs=6)  # 18 steps
    rows = []
    paths = {
        "8 -> 3 -> 2 -> 1 -> 4 devices": [(1, 8), (1, 3), (1, 2), (1, 1), (1, 4)],
        "2 -> 1 -> 2 processes": [(2, 1), (1, 1), (2, 1)],
        "3 x 1 -> 1 x 5 -> 2 x 3": [(3, 1), (1, 5), (2, 3)],
    }
    for number, (what, path) in enumerate(paths.items()):
        name = runs.fresh(f"moved{number}").name
        seen = []
        for leg, (processes, devices) in enumerate(path):
            until = (leg + 1) * 18 // len(path) - 1
            stop = {"signal": ["SIGTERM", until]} if leg + 1 < len(path) else {}
            how = {processes - 1: stop}
            pair = runs.together(name, processes, devices, how=how, epochs=6)
            statuses = [status for status, _ in ended(pair)]
            want = {128 + signal.SIGTERM if stop and processes == 1 else 0}
            assert set(statuses) == want, (name, leg, runs.last_words(name, 0))
            seen.append(len(runs.steps(name)))
        far = furthest(runs.losses(name), runs.losses("calm"))
        rows.append([what, ", ".join(map(str, seen)), f"{far:.1e}"])
        print(rows[-1], flush=True)
    table(["", "steps done after each", "losses differ by"], rows)


def preempt(runs):
    """SIGTERM and notices of clouds at one of two processes."""
    slow = {"pause": 1.5}
    runs.fresh("calm2")
    runs.whole("calm2", 2, 1)
    cases = {
        "1, in validation 2, batch 1 of 6": (1, [2, 0]),
        "0, in validation 3, batch 2 of 6": (0, [3, 1]),
        "0, in validation 1, its last batch": (0, [1, 5]),
        "1, in the validation of the end, batch 1 of 6": (1, [4, 0]),
        "1, before step 5": (1, [4]),
        "0, before step 6": (0, [5]),
        "1, before the last step": (1, [8]),
    }
    rows = []
    for number, (moment, (index, where)) in enumerate(cases.items()):
        what, name = f"SIGTERM at {moment}", runs.fresh(f"term{number}").name
        told = runs.folder / f"{name}.signalled"
        how = {index: {"signal": ["SIGTERM", *where]}}
        pair = runs.together(name, 2, 1, how=how)
        rows.append(
            _left(runs, name, pair, what, lambda at=told: float(at.read_text()))
        )
    for cloud, says in clouds.NOTICES.items():
        name = runs.fresh(f"cloud{cloud}").name
        with clouds.served(cloud) as server:
            settings = {
                "preemption_notices": True,
                "preemption_address": server.address,
            }
            pair = runs.together(name, 2, 1, how={0: slow, 1: slow}, **settings)
            while runs.saved(name) < 1 and None in [p.poll() for p in pair]:
                time.sleep(0.02)
            server.says |= says
            moment = time.time()
            rows.append(_left(runs, name, pair, cloud, lambda at=moment: at))
    table(["", "statuses", "after, s", "steps", "words", "differs"], rows)


def _left(runs, name, pair, what, when):
    """Returns a row: how two processes have left, and what the run comes to."""
    statuses = [status for status, _ in ended(pair)]
    seconds = time.time() - when()
    words = [runs.last_words(name, index) for index in (0, 1)]
    steps = len(runs.steps(name))
    runs.whole(name, 2, 1)
    differs = runs.same("calm2", name)
    row = [what, statuses, f"{seconds:.1f}", steps, " / ".join(words), differs]
    print(row, flush=True)
    return row


def bad(runs):
    """Whatever is wrong with one of two processes ends both with a line."""
    rows = []
    for number, (what, starts) in enumerate(bad_input.cases(runs).items()):
        name = runs.fresh(f"bad{number}").name
        with bad_input.prepared(what, runs, name) as processes:
            found = ended(starts(name, *processes), 200)
        for index, (status, seconds) in enumerate(found):
            said = runs.last_words(name, index)
            rows.append([what, index, status, f"{seconds:.0f}", said])
            print(rows[-1], flush=True)
    table(["wrong", "process", "status", "after, s", "says"], rows)


def pace(runs):
    """Step time of 1x4 against 2x2, in pairs."""
    settings = {"model": None, "imgsz": 128, "fraction": 40, "epochs": 4, "val": False}
    real = Runs(runs.folder / "pace", quick=False)
    ratios = []
    for pair in range(6):
        times = {}
        order = ((1, 4), (2, 2)) if pair % 2 else ((2, 2), (1, 4))
        for processes, devices in order:
            name = real.fresh(f"p{processes}x{devices}").name
            real.whole(name, processes, devices, **settings)
            at = [step[2] for _, step in sorted(real.steps(name).items())]
            each = [after - before for before, after in zip(at, at[1:], strict=False)]
            times[processes] = statistics.median(each[3:])
        if pair == 0:
            continue  # it compiled
        ratios.append(times[2] / times[1])
        print(f"1x4 {times[1]:.3f} s, 2x2 {times[2]:.3f} s, ratio {ratios[-1]:.3f}")
    print(f"median of the ratios {statistics.median(ratios):.3f}\n")


PARTS = (matrix, precise, tasks, figures, kill, elastic, preempt, bad, pace)


def main():
    """Runs the parts that are named, or all."""
    parts = {part.__name__: part for part in PARTS}
    for part in sys.argv[2:] or parts:
        print(f"## {part}: {parts[part].__doc__}\n", flush=True)
        parts[part](Runs(Path(sys.argv[1]).resolve()))


if __name__ == "__main__":
    main()
