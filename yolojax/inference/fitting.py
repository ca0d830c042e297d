"""From a picture to what the network takes, and from what it finds back to the picture.

Axes: N objects, h w pixels of the picture, H W of the network's input.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from yolojax.data.batches.whole import centre_crop
from yolojax.data.geometry import Hw, Letterbox, letterbox
from yolojax.data.store.images import letterbox_into
from yolojax.inference import tiles
from yolojax.inference.results.result import Found
from yolojax.ops import masks as mask_ops
from yolojax.ops.boxes import letterbox_geometry, scale_boxes
from yolojax.ops.keypoints import scale_keypoints


@dataclass(frozen=True)
class Fitting:
    """How pictures become inputs."""

    imgsz: int  # longer side of the input, pixels
    rect: bool  # padded as little as possible; off: to a square
    whole: bool  # classify: the middle, without padding
    tiles: int | str  # side in pixels, "auto", or 0 for none
    retina_masks: bool  # masks at the size of the picture


@dataclass(frozen=True)
class View:
    """A picture, or a tile of one, as an input of the network."""

    hw: Hw  # of the part of the picture that it shows
    input_hw: Hw  # of the input
    box: Letterbox | None  # None: a crop of the middle
    top: int = 0  # where the part lies
    left: int = 0


def views(hw: Hw, fitting: Fitting) -> list[View]:
    """Returns how a picture of a size is looked at: as a whole, then its tiles."""
    if fitting.whole:
        return [View(hw, (fitting.imgsz, fitting.imgsz), None)]
    found = [_boxed(hw, fitting)]
    asked = fitting.tiles
    # The only word that is taken is "auto".
    side = tiles.automatic(hw, fitting.imgsz) if isinstance(asked, str) else asked
    cuts = tiles.cuts(hw, side) if side else []
    if len(cuts) > 1:
        found += [_boxed((h, w), fitting, top, left) for top, left, h, w in cuts]
    return found


def _boxed(hw: Hw, fitting: Fitting, top: int = 0, left: int = 0) -> View:
    side = fitting.imgsz
    box = letterbox(hw, (side, side), minimal=fitting.rect)
    return View(hw, box.out_hw, box, top, left)


def pixels(picture: np.ndarray, view: View) -> np.ndarray:
    """Returns the input [H, W, 3] uint8 RGB that a picture [h, w, 3] BGR becomes."""
    if view.box is None:
        return centre_crop(np.ascontiguousarray(picture[..., ::-1]), view.input_hw[0])
    height, width = view.hw
    part = picture[view.top : view.top + height, view.left : view.left + width]
    bgr = np.empty((*view.input_hw, 3), np.uint8)
    letterbox_into(part, view.box, bgr)
    return bgr[..., ::-1]


def found_in(row: dict[str, Any], view: View, fitting: Fitting) -> Found:
    """Returns what the network found in one input, in pixels of the part it shows.

    Args:
        row: the fields of `Detections` or `Probabilities` for this input.
        view: the input.
        fitting: how it was made.
    """
    if view.box is None:
        shares = np.asarray(row["probabilities"], np.float32)
        nothing = np.zeros(0, np.float32)
        return Found(
            nothing.reshape(0, 4), nothing, nothing.astype(int), probabilities=shares
        )
    valid = np.asarray(row["valid"], bool)
    kept: dict[str, Any] = {
        name: np.asarray(row[name])[valid]
        for name in ("boxes", "scores", "classes", "angles", "keypoints")
        if row.get(name) is not None
    }
    inputs = kept["boxes"]
    back = _back if "angles" in kept else _clipped
    kept["boxes"] = back(inputs, view)
    kept["classes"] = kept["classes"].astype(np.int32)
    if "keypoints" in kept:
        kept["keypoints"] = scale_keypoints(kept["keypoints"], view.input_hw, view.hw)
    if row.get("coefficients") is not None:
        coefficients = np.asarray(row["coefficients"])[valid]
        protos = np.asarray(row["protos"])
        if fitting.retina_masks:
            kept["masks"] = mask_ops.masks_at_original(
                coefficients, protos, kept["boxes"], view.hw
            )
        else:
            kept["masks"] = mask_ops.masks_at_input(
                coefficients, protos, inputs, view.input_hw
            )
            kept["letterbox"] = letterbox_geometry(view.input_hw, view.hw)
    return Found(**kept)


def _clipped(boxes: np.ndarray, view: View) -> np.ndarray:
    return scale_boxes(boxes, view.input_hw, view.hw)


def _back(boxes: np.ndarray, view: View) -> np.ndarray:
    """Returns rotated boxes [N, 4] of an input in pixels of the part that it shows.

    They may reach over the border: what would be cut off is not theirs.
    """
    gain_h, gain_w, left, top = letterbox_geometry(view.input_hw, view.hw)
    gains = np.array([gain_w, gain_h] * 2)
    return ((boxes - np.array([left, top] * 2)) / gains).astype(np.float32)
