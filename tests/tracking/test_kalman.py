"""The filter of all tracks against a plain one for a single track."""

import numpy as np
import pytest

from yolojax.tracking import kalman

BOTH = pytest.mark.parametrize(
    "motion", [kalman.ASPECT, kalman.SIZE], ids=["aspect", "size"]
)
BOXES = np.array([[100.0, 80, 40, 60], [30, 200, 90, 12], [5, 5, 3, 4]])  # cxcywh


def plain_step(motion, x, P, box):
    """Returns one prediction and one update of one track, as textbooks write it."""

    def scale(x):
        return motion.scale(x[None, :4])[0]

    F = np.eye(8)
    F[:4, 4:] = np.eye(4)
    H = np.eye(4, 8)
    Q = np.diag((motion.step * np.concatenate([scale(x), scale(x)])) ** 2)
    x, P = F @ x, F @ P @ F.T + Q
    R = np.diag((motion.noise * scale(x)) ** 2)
    K = P @ H.T @ np.linalg.inv(H @ P @ H.T + R)
    x = x + K @ (motion.measured(box[None])[0] - H @ x)
    return x, (np.eye(8) - K @ H) @ P


@BOTH
def test_all_tracks_at_once_are_each_track_alone(motion):
    rng = np.random.default_rng(0)
    mean, covariance = kalman.start(motion, BOXES)
    alone = [(m, c) for m, c in zip(mean, covariance, strict=True)]
    for _ in range(10):
        seen = BOXES * rng.uniform(0.95, 1.05, BOXES.shape)
        predicted = kalman.predict(motion, mean, covariance)
        mean, covariance = kalman.update(motion, *predicted, seen)
        alone = [
            plain_step(motion, x, P, box)
            for (x, P), box in zip(alone, seen, strict=True)
        ]
    np.testing.assert_allclose(mean, [x for x, _ in alone], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(covariance, [P for _, P in alone], rtol=1e-6, atol=1e-9)


@BOTH
def test_deviations_of_a_first_box(motion):
    covariance = kalman.start(motion, BOXES[:1])[1][0]
    assert not (covariance - np.diag(np.diag(covariance))).any()
    w, h = 40, 60
    sides = (h, h, None, h) if motion is kalman.ASPECT else (w, h, w, h)
    expected = [1e-2 if side is None else 2 * side / 20 for side in sides]
    expected += [1e-5 if side is None else 10 * side / 160 for side in sides]
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), expected)


@BOTH
def test_a_constant_velocity_is_learned(motion):
    velocity = np.array([3.0, -2, 0, 0])
    mean, covariance = kalman.start(motion, BOXES)
    for frame in range(1, 60):
        predicted = kalman.predict(motion, mean, covariance)
        mean, covariance = kalman.update(motion, *predicted, BOXES + frame * velocity)
    np.testing.assert_allclose(mean[:, 4:6], np.tile([3.0, -2], (3, 1)), atol=0.02)
    np.testing.assert_allclose(motion.cxcywh(mean)[:, 2:], BOXES[:, 2:], rtol=1e-3)
    ahead = kalman.predict(motion, mean, covariance)[0]
    np.testing.assert_allclose(ahead[:, :2] - mean[:, :2], mean[:, 4:6])


@BOTH
def test_a_warp_moves_turns_and_grows_what_is_known(motion):
    mean, covariance = kalman.start(motion, BOXES)
    mean[:, 4:6] = (4.0, 1.0)
    zoom = 1.5  # a quarter turn, one and a half times as large, shifted
    matrix = np.array([[0, -zoom, 10], [zoom, 0, 20.0]])
    moved, spread = kalman.warp(motion, mean, covariance, matrix)
    boxes = motion.cxcywh(moved)
    np.testing.assert_allclose(boxes[:, 0], -zoom * BOXES[:, 1] + 10)
    np.testing.assert_allclose(boxes[:, 1], zoom * BOXES[:, 0] + 20)
    np.testing.assert_allclose(boxes[:, 2:], zoom * BOXES[:, 2:])
    np.testing.assert_allclose(moved[:, 4:6], np.tile([-1.5, 6.0], (3, 1)))
    np.testing.assert_allclose(
        spread[:, 0, 0], zoom**2 * covariance[:, 1, 1], rtol=1e-12
    )


def test_a_box_that_shrank_away_does_not_stop_the_filter():
    for motion in (kalman.ASPECT, kalman.SIZE):
        mean, covariance = kalman.start(motion, BOXES)
        mean[:, 2:4] = -1.0
        step = kalman.predict(motion, mean, covariance)
        mean, covariance = kalman.update(motion, *step, BOXES)
        assert np.isfinite(mean).all() and np.isfinite(covariance).all()
