"""How fast back ends are, how soon they answer, what a video costs beside them."""

import dataclasses
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import networks
import numpy as np

import yolojax
from yolojax.assembly.export import export_of
from yolojax.export import samples
from yolojax.inference.backends import opening, runtimes
from yolojax.inference.backends.running import Running
from yolojax.inference.predictor import Predictor
from yolojax.weights import sources

VIDEO = Path(__file__).parents[1] / "video_throughput" / "run.py"
FILES = {  # name -> format and settings
    "onnx": ("onnx", {}),
    "onnx half": ("onnx", {"half": True}),
    "openvino": ("openvino", {}),
    "openvino half": ("openvino", {"half": True}),
    "openvino int8": ("openvino", {"int8": True}),
}
PAUSE = 0.3  # seconds for the threads of the one before to fall asleep
SIZE = (360, 640)  # of the video
FIRST = """
import sys, time
import psutil
began = psutil.Process().create_time()
import yolojax
imported = time.time() - began
model = yolojax.load(sys.argv[1])
loaded = time.time() - began
found = model.predict(sys.argv[2], rect=False, verbose=False)
print(imported, loaded, time.time() - began, len(found[0]))
"""


def add_arguments(parser):
    """Adds the arguments of this part."""
    parser.add_argument("--rounds", type=int, default=10, help="speed: of all in turn")
    parser.add_argument("--starts", type=int, default=3, help="speed: fresh processes")
    parser.add_argument("--frames", type=int, default=1000, help="speed: of the video")
    parser.add_argument("--files", help="speed: folder where the files are kept")


def measured(args, pictures):
    """Measures all of it."""
    assert args.detect and args.data, "speed needs --detect and --data"
    paths = [str(path) for path in pictures[: args.count or 16]]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(args.files or place)
        files = {"jax": args.detect} | exported(folder, args)
        found = {"rounds": in_turn(files, paths, args.rounds)}
        found["first"] = {
            name: first(files[name.removesuffix(", kept")], paths[0], name, args.starts)
            for name in ["jax", "jax, kept", *FILES]
        }
        print_speeds(found)
        found["video"] = {
            name: video(str(files[name]), name, args.frames)
            for name in ("onnx", "openvino")
        }
        print_videos(found["video"])
    return found


def exported(folder, args):
    """Returns the files by name, and writes those that are not there."""
    weights = sources.read_weights(Path(args.detect))
    found = {}
    for name, (kind, settings) in FILES.items():
        place = folder / name.replace(" ", "-")
        there = [p for p in place.glob("network.onnx")] + [*place.glob("*_model")]
        if not there:
            place.mkdir(parents=True)
            config = networks.settled(
                "detect", format=kind, imgsz=640, data=args.data, **settings
            )
            export = export_of(config, weights)
            if settings.get("int8"):
                calibrated = samples.calibration(config, export)
                export = dataclasses.replace(export, calibration=calibrated)
            there = [networks.written(place, "network", export, kind)]
        found[name] = there[0]
    return found


def in_turn(files, paths, rounds):
    """Returns seconds of a picture by name and round; pictures are in memory."""
    models = {name: yolojax.load(file) for name, file in files.items()}
    images = [cv2.imread(path) for path in paths]
    found = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, model in models.items():
            time.sleep(PAUSE)
            started = time.perf_counter()
            model.predict(images, rect=False, verbose=False)
            seconds = (time.perf_counter() - started) / len(images)
            if number:  # the first is warm-up
                found[name].append(seconds)
    return found


def first(file, picture, name, starts):
    """Returns seconds until imported, loaded and answered, of fresh processes."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        kept = "kept" in name
        for number in range(starts + kept):
            where = place if kept else str(Path(place) / str(number))
            environment = os.environ | {"YOLOJAX_CACHE": where}
            environment.pop("JAX_COMPILATION_CACHE_DIR", None)
            ran = subprocess.run(
                [sys.executable, "-c", FIRST, str(file), picture],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            *seconds, objects = map(float, ran.stdout.split()[-4:])
            assert objects > 0
            if number or not kept:  # the first one fills the folder
                found.append(seconds)
    return found


def print_speeds(found):
    """Prints a table of speeds and of first answers."""
    print("| back end | ms of a picture, median (least) | pictures/s | times jax,"
          " median of rounds | first answer, s | of it after loading |")  # fmt: skip
    print("|---" * 6 + "|")
    for name, starts in found["first"].items():
        seconds = found["rounds"].get(name)
        cells = [name, "", "", ""]
        if seconds:
            middle = statistics.median(seconds)
            pairs = zip(found["rounds"]["jax"], seconds, strict=True)
            ratio = statistics.median(jax / other for jax, other in pairs)
            cells[1] = f"{1e3 * middle:.1f} ({1e3 * min(seconds):.1f})"
            cells[2:] = [f"{1 / middle:.1f}", f"{ratio:.2f}"]
        _, loaded, answered = (
            statistics.median(column) for column in np.transpose(starts)
        )
        cells += [f"{answered:.2f}", f"{answered - loaded:.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def video(file, backend, frames):
    """Returns seconds of a frame of a video, in all and in the network."""
    spec = importlib.util.spec_from_file_location("video_throughput", VIDEO)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "scene.mp4"
        other.write_video(path, other.MovingScene(0, SIZE), frames)
        found = {}
        for saving in (False, True):
            config = other.settings(file, "predict")
            config = other.config_lib.changed(config, save=saving)
            itself, runtime = runtimes.opened(Path(file), backend)
            spent = []
            running = Running(itself, timed(runtime, spent))
            predictor = Predictor(running, opening.options_of(config, itself))
            before = alone(runtime)
            folder = Path(place) / f"saving-{saving}"
            wall, times, *_ = other.end_to_end(
                predictor, config, path, folder, "predict"
            )
            assert times.pictures == frames
            after = alone(runtime)
            found["saved" if saving else "predicted"] = {
                "wall": wall / frames,
                "network": sum(spent) / frames,
                "alone": (before + after) / 2,
                "read": times.read / frames,
                "preprocess": times.preprocess / frames,
                "postprocess": times.postprocess / frames,
            }
    return found


def timed(run, spent):
    """Returns a runtime that adds its seconds to a list."""

    def timing(images):
        started = time.perf_counter()
        found = run(images)
        spent.append(time.perf_counter() - started)
        return found

    return timing


def alone(run, repeats=50):
    """Returns seconds of the program that runs a file, without all around it."""
    images = np.zeros((1, 640, 640, 3), np.uint8)
    given = runtimes.as_input(images, False)
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        run(given)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[5:])


def print_videos(found):
    """Prints a table of videos."""
    print("| back end | video | share outside the network | ms of a frame | network |"
          " read | preprocess | postprocess | network alone |")  # fmt: skip
    print("|---" * 9 + "|")
    shown = ("wall", "network", "read", "preprocess", "postprocess", "alone")
    for name, ways in found.items():
        for way, one in ways.items():
            share = 1 - one["network"] / one["wall"]
            figures = [f"{1e3 * one[key]:.1f}" for key in shown]
            print("| " + " | ".join([name, way, f"{share:.1%}", *figures]) + " |")
