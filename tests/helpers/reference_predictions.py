"""What a reference found in pictures; the assets' README says how it was asked."""

import json

import numpy as np

NAMES = (
    "detect",
    "detect_lowconf_agnostic",
    "detect_classes_320",
    "detect_square",
    "detect_augment",
    "segment",
    "segment_retina",
)
PIXELS, SCORE, PIXEL_SHARE = 0.05, 1e-4, 1e-4  # tolerances


class Golden:
    """One file of values: pictures, settings and what is found in each."""

    def __init__(self, assets, name):
        """Reads it.

        Args:
            assets: the folder of pictures, weights and values.
            name: one of NAMES.
        """
        path = assets / "golden" / f"predict_{name}.npz"
        self._values = dict(np.load(path, allow_pickle=False))
        self.files = [str(assets / file) for file in self._values["files"]]
        self.settings = json.loads(str(self._values["settings"]))
        self.task = name.partition("_")[0]
        weights = {"detect": "yolo11n-coco.pt", "segment": "yolo11n-seg-coco.pt"}
        self.weights = str(assets / "weights" / weights[self.task])

    def check(self, number, hw, boxes, scores, classes):
        """Fails unless the objects of a picture are the same, in the same order."""
        expected = self._values[f"{number}_boxes"]
        assert tuple(hw) == tuple(self._values[f"{number}_shape"])
        assert len(boxes) == len(expected)
        boxes = np.reshape(boxes, (-1, 4))
        np.testing.assert_allclose(boxes, expected[:, :4], rtol=0, atol=PIXELS)
        np.testing.assert_allclose(scores, expected[:, 4], rtol=0, atol=SCORE)
        np.testing.assert_array_equal(classes, expected[:, 5])

    def check_masks(self, number, masks):
        """Fails unless the masks of a picture are the same."""
        shape = tuple(self._values[f"{number}_masks_shape"])
        bits = np.unpackbits(self._values[f"{number}_masks"], axis=-1)
        expected = bits[..., : shape[-1]].astype(bool).reshape(shape)
        assert masks.shape == shape
        assert (masks != expected).mean() < PIXEL_SHARE

    def outlines(self, number):
        """Returns the outlines [P, 2] of the objects of a picture, pixels."""
        if f"{number}_poly" not in self._values:
            return []
        lengths = self._values[f"{number}_poly_len"]
        return np.split(self._values[f"{number}_poly"], np.cumsum(lengths)[:-1])
