"""What anchors add to the loss of every task sums up to its terms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_cases import SPEC

from yolojax.tasks import TASKS
from yolojax.types import Batch

B, SIDE, SLOTS = 2, 64, 3
ANCHORS = 8 * 8 + 4 * 4 + 2 * 2


@pytest.fixture(scope="module")
def batch():
    """Two images with two objects and one; the last slot is padding."""
    boxes = np.zeros((B, SLOTS, 4), np.float32)
    boxes[:, :2] = [[4, 6, 40, 44], [30, 20, 62, 60]]
    valid = np.array([[True, True, False], [True, False, False]])
    points = np.full((B, SLOTS, 5, 3), 20.0, np.float32)
    masks = np.zeros((B, 16, 16), np.int32)
    masks[:, 2:10, 2:10], masks[0, 8:14, 9:15] = 1, 2
    return Batch(
        image=jnp.zeros((B, SIDE, SIDE, 3)),
        example_valid=jnp.array([True, True]),
        boxes=jnp.array(boxes),
        classes=jnp.array([[0, 1, 0], [1, 0, 0]], jnp.int32),
        valid=jnp.array(valid),
        masks=jnp.array(masks),
        keypoints=jnp.array(points),
        angles=jnp.full((B, SLOTS), 0.3),
        labels=jnp.array([0, 1], jnp.int32),
    )


def outputs():
    """Returns raw outputs as heads give them, random."""
    rng = np.random.default_rng(3)
    shapes = {
        "boxes": (B, ANCHORS, 64),
        "scores": (B, ANCHORS, 2),
        "angles": (B, ANCHORS),
        "keypoints": (B, ANCHORS, 15),
        "masks": (B, ANCHORS, 32),
        "protos": (B, 16, 16, 32),
        "logits": (B, 2),
    }
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


@functools.partial(jax.jit, static_argnames=("task", "padded"))
def both(task, outputs, batch, padded):
    found = task.losses(outputs, batch, padded=padded)
    return task.loss(outputs, batch, padded=padded), found


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_what_anchors_add_sums_up_to_the_terms(name, padded, batch):
    if padded:
        batch = batch.replace(
            example_valid=jnp.array([True, False]),
            valid=batch.valid.at[1].set(False),
        )
    task = TASKS[name].make(SPEC)
    terms, found = both(task, outputs(), batch, padded)
    assert found.values.shape[2] == len(task.loss_names)
    assert np.asarray(terms).min() > 0
    np.testing.assert_allclose(found.values.sum((0, 1)), terms, rtol=2e-5)
    if name == "classify":
        assert found.assignment is None and found.values.shape == (B, 1, 1)
        return
    foreground = np.asarray(found.assignment.foreground)
    assert foreground.any(1).tolist() == [True, not padded]
    # All but the class term is of the objects' anchors alone.
    others = [k for k, term in enumerate(task.loss_names) if term != "cls_loss"]
    assert not np.asarray(found.values)[~foreground][:, others].any()
