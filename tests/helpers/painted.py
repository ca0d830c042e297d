"""Small pictures painted with colours, and samples rendered from them."""

import cv2
import numpy as np

from yolojax.data.samples import render


def pictures(sizes, seed=7):
    """Returns smooth random pictures of these sizes."""
    rng = np.random.default_rng(seed)
    return [
        cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (int(w), int(h)))
        for h, w in sizes
    ]


def four(image):
    return cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)


def draw(layer, sources, size):
    out = np.empty((size, size, 4), np.uint8)
    render.draw_layer(layer, sources.__getitem__, out)
    return out[:, :, :3]


def paint(sample_plan, sources):
    out = np.empty((*sample_plan.hw, 3), np.uint8)
    scratch = np.empty((*sample_plan.hw, 4), np.uint8)
    render.render(sample_plan, sources.__getitem__, out, scratch)
    return out


def difference(first, second):
    return np.abs(first.astype(int) - second.astype(int))
