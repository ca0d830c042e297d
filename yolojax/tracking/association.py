"""Which detection belongs to which track: overlaps, and the best assignment.

Axes: T tracks, D detections. Rotated boxes are given as cxcywh and an angle.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

_EPS = 1e-7


def overlaps(
    tracks: np.ndarray,
    detections: np.ndarray,
    angles: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Returns the overlap of every pair [T, D], 0 .. 1.

    Args:
        tracks: [T, 4] cxcywh.
        detections: [D, 4] cxcywh.
        angles: [T] and [D] radians, if boxes are rotated.
    """
    if angles is None:
        return box_iou(tracks, detections)
    return probabilistic_iou(tracks, detections, *angles)


def box_iou(tracks: np.ndarray, detections: np.ndarray) -> np.ndarray:
    """Returns the IoU of every pair [T, D] of boxes cxcywh [T, 4], [D, 4]."""
    first, second = tracks[:, None], detections[None]
    half1, half2 = np.maximum(first[..., 2:], 0) / 2, np.maximum(second[..., 2:], 0) / 2
    low = np.maximum(first[..., :2] - half1, second[..., :2] - half2)
    high = np.minimum(first[..., :2] + half1, second[..., :2] + half2)
    common = np.maximum(high - low, 0).prod(-1)
    areas = 4 * (half1.prod(-1) + half2.prod(-1))
    return common / (areas - common + _EPS)


def probabilistic_iou(
    tracks: np.ndarray,
    detections: np.ndarray,
    track_angles: np.ndarray,
    detection_angles: np.ndarray,
) -> np.ndarray:
    """Returns one minus the Hellinger distance of the normals of every pair [T, D].

    Reference: Llerena et al. 2021, Probabilistic IoU, arXiv:2106.06072.
    """
    mean1, mean2 = tracks[:, None, :2], detections[None, :, :2]
    first = _covariance(tracks, track_angles)
    second = _covariance(detections, detection_angles)
    both = first[:, None] + second[None]  # [T, D, 2, 2]
    determinant = np.linalg.det(both) + _EPS
    dx, dy = np.moveaxis(mean1 - mean2, -1, 0)
    (xx, xy), (_, yy) = np.moveaxis(both, (-2, -1), (0, 1))
    far = (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / determinant / 4
    own = np.sqrt(
        np.maximum(np.linalg.det(first)[:, None] * np.linalg.det(second)[None], 0)
    )
    unlike = np.log(determinant / (4 * own + _EPS)) / 2
    bhattacharyya = np.maximum(far + unlike, 0)
    return 1 - np.sqrt(1 - np.exp(-bhattacharyya))


def _covariance(cxcywh: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Returns the covariances [n, 2, 2] of boxes that are filled evenly."""
    cos, sin = np.cos(angles), np.sin(angles)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return (turn * (cxcywh[:, None, 2:] ** 2 / 12)) @ turn.swapaxes(-1, -2)


def assign(cost: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of the best assignment, as two arrays of rows and columns.

    The sum of `limit - cost` over the pairs is as large as possible. No pair costs
    more than the limit, and two good pairs are not given up for three poor ones as
    they would be if as many pairs as possible were asked for.

    Args:
        cost: [T, D]; inf where a pair must not be.
        limit: largest cost of a pair.
    """
    # Whatever lies above the limit is worth as much as no pair at all.
    rows, columns = linear_sum_assignment(np.minimum(cost, limit))
    kept = cost[rows, columns] <= limit
    return rows[kept], columns[kept]
