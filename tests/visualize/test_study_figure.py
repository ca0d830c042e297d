"""The figure of a study."""

import numpy as np
import pytest
from PIL import Image

from yolojax.visualize import ArmRuns, study_png


def arms(count, seeds):
    base = {seed: 0.4 + 0.01 * seed for seed in range(seeds)}
    drawn = [ArmRuns("base", base, 0.42)]
    for i in range(1, count):
        values = {seed: v + 0.01 * i for seed, v in base.items()}
        low, high = 0.01 * i - 0.005, 0.01 * i + 0.005
        drawn.append(
            ArmRuns(
                "a name " * 20, values, 0.43, [0.01 * i], 0.01 * i, (low, high), True
            )
        )
    return drawn


def gray(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def inked(path):
    """Returns the share of pixels that are no paper."""
    return float((gray(path) < 200).mean())


@pytest.mark.parametrize(("count", "seeds"), [(2, 3), (12, 30)])
def test_every_arm_has_a_row(tmp_path, count, seeds):
    study_png(tmp_path / "a.png", {"shapes": arms(count, seeds)}, "mAP50-95")
    height, width = gray(tmp_path / "a.png").shape
    assert width < 1500
    assert height > 45 * count
    assert inked(tmp_path / "a.png") > 0.01


def test_several_data_sets_stand_one_below_the_other(tmp_path):
    study_png(tmp_path / "1.png", {"a": arms(3, 3)}, "m")
    study_png(tmp_path / "2.png", {"a": arms(3, 3), "b": arms(3, 3)}, "m")
    one, two = (len(gray(tmp_path / f"{i}.png")) for i in (1, 2))
    assert two > 1.6 * one


def test_without_values_it_says_so(tmp_path):
    study_png(tmp_path / "a.png", {"": [ArmRuns("base", {}, float("nan"))]}, "m")
    assert inked(tmp_path / "a.png") > 0
