"""Measures the trackers: identities kept, and with `speed` the time of a frame.

python experiments/tracking/run.py [speed]
"""

import sys
import time
from pathlib import Path

import numpy as np

from yolojax.data.shapes.moving import MovingScene
from yolojax.tracking import TRACKERS, TrackerOptions, make

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
from moving_cases import followed, noisy  # noqa: E402
from track_cases import SCENES, frames_of, quality, scene, tracked  # noqa: E402

SIZE, OBJECTS, FRAMES, SEEDS = (360, 640), 12, 150, (0, 1, 2)
SWAY = 40  # pixels to each side, up to 15 in a frame
SHOWN = ("HOTA", "IDF1", "MOTA", "IDSW")


def row(name, results):
    """Prints the mean over scenes."""
    means = [np.mean([result[key] for result in results]) for key in SHOWN]
    print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in means) + " |")


def recorded():
    for number in SCENES:
        rows = scene(number)
        for name in TRACKERS:
            ours = tracked(make(name), rows["det"], frames_of(rows["truth"]))
            row(f"scene {number}, {name}", [quality(rows["truth"], ours)])
            theirs = quality(rows["truth"], rows[name])
            row(f"scene {number}, {name} of the reference", [theirs])


def drawn():
    follow = TrackerOptions(camera_motion=True)
    cases = {name: (name, None) for name in TRACKERS}
    for sway in (0, SWAY):
        scenes = [MovingScene(seed, SIZE, OBJECTS, sway=sway) for seed in SEEDS]
        videos = [[one.frame(k) for k in range(FRAMES)] for one in scenes]
        if sway:
            cases["botsort, camera_motion"] = ("botsort", follow)
        for kind in ("boxes", "rotated_boxes"):
            for label, (name, options) in cases.items():
                results = [followed(make(name, options), v, kind) for v in videos]
                row(f"sway {sway}, {kind}, {label}", results)


def speed():
    for count in (12, 100):
        one = MovingScene(0, SIZE, count)
        rng = np.random.default_rng(0)
        frames = [one.frame(number) for number in range(60)]
        for kind in ("boxes", "rotated_boxes"):
            found = [noisy(rng, getattr(f, kind), f.classes, SIZE) for f in frames]
            for name in TRACKERS:
                best = min(once(name, found) for _ in range(5))
                print(f"| {count} objects, {kind}, {name} | {best * 1e3:.2f} ms |")


def once(name, found):
    """Returns seconds per frame."""
    tracker = make(name)
    start = time.perf_counter()
    for arrays in found:
        tracker.update(*arrays)
    return (time.perf_counter() - start) / len(found)


def main():
    if sys.argv[1:] == ["speed"]:
        speed()
    else:
        recorded()
        drawn()


if __name__ == "__main__":
    main()
