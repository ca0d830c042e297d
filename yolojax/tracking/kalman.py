"""A Kalman filter for all tracks at once: constant velocity, one step per frame.

Axes: T tracks. A state has eight numbers: four that a box is measured by, and their
velocities per frame. What is measured is a `Motion`.

References: Kalman 1960, A new approach to linear filtering and prediction problems;
Wojke et al. 2017, Simple online and realtime tracking, arXiv:1703.07402 (ASPECT);
Aharon et al. 2022, BoT-SORT, arXiv:2206.14651 (SIZE).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_POSITION, _VELOCITY = 1 / 20, 1 / 160  # deviations, in sides of the box
_STEP = np.eye(8) + np.eye(8, k=4)  # a frame adds the velocities


@dataclass(frozen=True)
class Motion:
    """What a box is measured by, and how far a filter trusts it.

    Deviations are shares of `scale`, so that a large box may move by more pixels.
    """

    measured: Callable[[np.ndarray], np.ndarray]  # cxcywh [T, 4] -> [T, 4]
    cxcywh: Callable[[np.ndarray], np.ndarray]  # states [T, 8] -> [T, 4]
    scale: Callable[[np.ndarray], np.ndarray]  # measured [T, 4] -> [T, 4]
    start: np.ndarray  # [8] deviation of a first measurement and of its velocities
    step: np.ndarray  # [8] what a frame adds
    noise: np.ndarray  # [4] of a measurement
    kept_when_lost: tuple[int, ...]  # measured numbers that stay while nothing is seen
    zoomed: tuple[bool, bool]  # whether the last two grow when the picture does


def _aspect_measured(cxcywh: np.ndarray) -> np.ndarray:
    x, y, w, h = cxcywh.T
    return np.stack([x, y, w / h, h], axis=1)


def _aspect_cxcywh(mean: np.ndarray) -> np.ndarray:
    x, y, a, h = mean.T[:4]
    return np.stack([x, y, a * h, h], axis=1)


def _aspect_scale(measured: np.ndarray) -> np.ndarray:
    height = measured[:, 3]
    return np.stack([height, height, np.ones_like(height), height], axis=1)


# Centre, width / height, height. The aspect ratio is a number without a unit, and
# nearly constant.
ASPECT = Motion(
    measured=_aspect_measured,
    cxcywh=_aspect_cxcywh,
    scale=_aspect_scale,
    start=np.array(
        [
            *(2 * _POSITION, 2 * _POSITION, 1e-2, 2 * _POSITION),
            *(10 * _VELOCITY, 10 * _VELOCITY, 1e-5, 10 * _VELOCITY),
        ]
    ),
    step=np.array(
        [
            *(_POSITION, _POSITION, 1e-2, _POSITION),
            *(_VELOCITY, _VELOCITY, 1e-5, _VELOCITY),
        ]
    ),
    noise=np.array([_POSITION, _POSITION, 1e-1, _POSITION]),
    kept_when_lost=(3,),
    zoomed=(False, True),
)

# Centre, width, height.
SIZE = Motion(
    measured=lambda cxcywh: cxcywh,
    cxcywh=lambda mean: mean[:, :4],
    scale=lambda measured: measured[:, [2, 3, 2, 3]],
    start=np.array([2 * _POSITION] * 4 + [10 * _VELOCITY] * 4),
    step=np.array([_POSITION] * 4 + [_VELOCITY] * 4),
    noise=np.array([_POSITION] * 4),
    kept_when_lost=(2, 3),
    zoomed=(True, True),
)


def start(motion: Motion, cxcywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the states [T, 8] and covariances [T, 8, 8] of boxes seen once [T, 4]."""
    measured = motion.measured(cxcywh)
    mean = np.concatenate([measured, np.zeros_like(measured)], axis=1)
    return mean, _diagonal(motion.start, motion.scale(measured))


def predict(
    motion: Motion, mean: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the states [T, 8] and covariances [T, 8, 8] one frame later."""
    added = _diagonal(motion.step, motion.scale(mean[:, :4]))
    return mean @ _STEP.T, _STEP @ covariance @ _STEP.T + added


def update(
    motion: Motion, mean: np.ndarray, covariance: np.ndarray, cxcywh: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the states and covariances after boxes [T, 4] were measured."""
    noise = _diagonal(motion.noise, motion.scale(mean[:, :4]))
    innovation = motion.measured(cxcywh) - mean[:, :4]
    expected = covariance[:, :4, :4] + noise
    # The gain is covariance * expected^-1; both are symmetric.
    gain = np.linalg.solve(expected, covariance[:, :4]).swapaxes(1, 2)  # [T, 8, 4]
    mean = mean + (gain @ innovation[..., None])[..., 0]
    return mean, covariance - gain @ expected @ gain.swapaxes(1, 2)


def warp(
    motion: Motion, mean: np.ndarray, covariance: np.ndarray, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the states and covariances after the picture moved.

    Args:
        motion: what the states are made of.
        mean: [T, 8].
        covariance: [T, 8, 8].
        matrix: [2, 3] rotation, zoom and shift, from the last frame to this one.
    """
    turn = matrix[:, :2]
    zoom = np.sqrt(abs(np.linalg.det(turn)))
    half = np.diag([1.0, 1.0, *(zoom if zoomed else 1.0 for zoomed in motion.zoomed)])
    half[:2, :2] = turn
    whole = np.kron(np.eye(2), half)
    mean = mean @ whole.T
    mean[:, :2] += matrix[:, 2]
    return mean, whole @ covariance @ whole.T


def _diagonal(shares: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Returns diagonal covariances [T, K, K] of deviations `shares` [K] of a scale.

    The scale [T, 4] counts for positions and velocities alike.
    """
    sides = np.maximum(scale, 1e-3)  # a box may have shrunk to nothing, unseen
    deviation = shares * np.tile(sides, len(shares) // 4)
    return deviation[:, :, None] ** 2 * np.eye(len(shares))
