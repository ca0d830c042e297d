"""Predictors with a network of a few layers, or with none, for tests around it."""

import contextlib
import functools
import threading
from unittest import mock

import jax
import numpy as np

from yolojax import config as config_lib
from yolojax.assembly import network, prediction
from yolojax.inference import session
from yolojax.inference.backends.compiled import Compiled
from yolojax.inference.backends.types import Times
from yolojax.inference.predictor import Predictor
from yolojax.inference.sources import frames, listing

NAMES = ("circle", "square", "star")
KEYPOINTS = network.Keypoints((2, 3), None)


def settings(task="detect", command="predict", **values):
    """Returns checked settings of a command that looks at 64 pixels with one device."""
    config = config_lib.default(task, command)
    config.update(model=model_of(task), imgsz=64, device="cpu:1")
    if task != "classify":
        config.update(max_det=20)
    config.update(values)
    return config_lib.check(config, command)


def model_of(task):
    return "tiny_model:bare" if task == "detect" else "tiny_model:build"


def trained(task="detect", model=None):
    """Returns the network of a task, with weights to which pictures look different."""
    return _trained(task, model or model_of(task))


@functools.cache
def _trained(task, model):
    config = settings(task, model=model)
    net = network.network(config, len(NAMES), keypoints=KEYPOINTS)
    rng = np.random.default_rng(3)

    def lively(path, weights):
        if weights.ndim == 4:
            spread = 2 / np.sqrt(np.prod(weights.shape[:-1]))
            return rng.normal(0, spread, weights.shape).astype(np.float32)
        if path[-1].key == "bias" and weights.shape == (64,):  # of the sides of boxes
            return np.tile(np.linspace(0, -8, 16, dtype=np.float32), 4)
        return 0 * weights if path[-1].key == "bias" else weights

    variables = network.initial_variables(net, 0)
    params = jax.tree_util.tree_map_with_path(lively, variables["params"])
    variables = {**variables, "params": params}
    return prediction.Trained(net, variables, NAMES, f"{task} {model}", 64, None)


def programs(task="detect"):
    """Returns the programs of a task, which tests share."""
    return _programs(trained(task).source)


@functools.cache
def _programs(source):
    return Compiled(_trained(*source.split()), "cpu:1")


@contextlib.contextmanager
def in_place_of_trained():
    """Has the commands use these networks, whatever their weights are said to be."""

    def opened(config):
        model = trained(config.task, config.model)
        return _programs(model.source), prediction.predict_options(config, model)

    with mock.patch.object(session, "opened", opened):
        yield


def predictor(task="detect", programs=programs, **values):
    """Returns a predictor with other settings."""
    options = prediction.predict_options(settings(task, **values), trained(task))
    return Predictor(programs(task), options)


def seen(source, task="detect", told=None, times=None, programs=programs, **values):
    """Returns what a predictor finds in a source, as a list."""
    skipped = [] if told is None else told
    jobs = frames.jobs(listing.listed(source), frames.Reading(), skipped.append)
    look = predictor(task, programs, **values)
    found = [*look(jobs, skipped.append, times or Times())]
    assert told is not None or not skipped
    return found


class Looker:
    """Stands for the programs: finds one object in an input, its level of grey.

    The box is the whole input, the score a 255th of the first pixel of the middle row
    and column.
    """

    names, whole = NAMES, False

    def __init__(self, before=lambda images: None):
        """Calls `before` with the images of each batch."""
        self.shapes, self.threads, self._before = [], set(), before

    def ready(self, options, images):
        return True

    def launch(self, options, images, times):
        self._before(images)
        self.shapes.append(images.shape)
        self.threads.add(threading.get_ident())
        count, height, width, _ = images.shape
        box = np.array([0, 0, width, height], np.float32)
        grey = images[:, height // 2, width // 2, 0]
        scores = (grey[:, None] / 255).astype(np.float32)
        return [
            {
                "boxes": box[None],
                "scores": scores[row],
                "classes": np.zeros(1, np.int32),
                "valid": np.ones(1, bool),
            }
            for row in range(count)
        ]

    def collect(self, launched):
        return launched


def greys(found):
    """Returns the levels of grey that a `Looker` found."""
    return [round(float(one.found.scores[0]) * 255) for one in found]
