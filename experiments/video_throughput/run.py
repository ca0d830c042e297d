"""Compares a video that is predicted and tracked with the network alone.

Usage: python experiments/video_throughput/run.py WEIGHTS [FRAMES]
"""

import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import psutil

from yolojax import config as config_lib
from yolojax.config import used
from yolojax.data.shapes.moving import MovingScene, write_video
from yolojax.inference import session
from yolojax.inference.backends.opening import opened
from yolojax.inference.backends.types import Times
from yolojax.inference.outputs import Outputs
from yolojax.inference.predictor import Predictor
from yolojax.inference.sources.listing import listed
from yolojax.inference.tracked import tracked

SIZE = (360, 640)
ALONE = 50  # inputs of the network by itself


def settings(weights, command):
    config = used.usual(command, {"task": "detect", "model": "yolo11n", "imgsz": 640})
    config.weights = weights
    return config_lib.check(config, command)


def end_to_end(predictor, config, video, folder, command):
    """Returns wall time, times of the stages, and memory at frame 100 and the end."""
    process, times, resident = psutil.Process(), Times(), []
    options = session.output_options(config, command)
    follow = session.tracker_of(config) if command == "track" else None
    start = time.perf_counter()
    folder.mkdir()
    tracking = 0.0
    with Outputs(folder, options) as outputs:
        items = listed(str(video))
        stream = session.look(predictor, items, session.reading(config), print, times)
        for seen in stream if follow is None else tracked(stream, follow):
            tracking += seen.speed.get("track", 0.0)
            result = session.result_of(seen, predictor.backend.names, "detect")
            outputs.add(seen.frame, result)
            if seen.frame.number == 100:
                resident.append(process.memory_info().rss)
        outputs.close()
    resident.append(process.memory_info().rss)
    wall = time.perf_counter() - start - times.compile
    return wall, times, outputs.seconds, tracking, resident


def alone(predictor):
    """Returns seconds of the network on one input that is there already."""
    images = np.zeros((1, 384, 640, 3), np.uint8)
    taken = []
    for _ in range(ALONE):
        start = time.perf_counter()
        out = predictor.backend.launch(predictor.options, images, Times())
        jax.block_until_ready(out)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def main():
    """Prints a table."""
    weights, count = sys.argv[1], int((sys.argv[2:] or ["1000"])[0])
    with tempfile.TemporaryDirectory() as place:
        video = Path(place) / "scene.mp4"
        write_video(video, MovingScene(0, SIZE), count)
        print("| | ms per frame | of it: read | preprocess | network | postprocess |"
              " track | draw+write | memory from frame 100 to the end |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|")
        for command in ("predict", "track"):
            config = settings(weights, command)
            predictor = Predictor(*opened(config))
            alone(predictor)
            network = alone(predictor)
            folder = Path(place) / command
            wall, times, writing, tracking, resident = end_to_end(
                predictor, config, video, folder, command
            )
            assert times.pictures == count
            stages = [times.read, times.preprocess, times.network, times.postprocess]
            stages += [tracking / 1e3, writing]
            cells = " | ".join(f"{1e3 * s / count:.1f}" for s in stages)
            grown = (resident[-1] - resident[0]) / 2**20
            print(
                f"| {command} | {1e3 * wall / count:.1f} | {cells} | {grown:+.0f} MB |"
            )
            print(f"| network alone, beside it | {1e3 * network:.1f} | | | | | | | |")


if __name__ == "__main__":
    main()
