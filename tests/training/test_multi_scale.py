"""multi_scale: pixels and labels at another size; runs that change it every step."""

import re
import signal

import forked_runs
import jax.numpy as jnp
import numpy as np
import pytest
from forked_runs import job, results, state_of

from yolojax.program import step
from yolojax.types import Batch

SIZES = (32, 64)
RUN = {"multi_scale": 0.5, "multi_scale_sizes": SIZES}


def batch_of(image, **labels):
    return Batch(image=jnp.asarray(image), example_valid=jnp.ones(len(image), bool),
                 **labels)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [("img", "resized_32"), ("img", "resized_96"), ("img", "resized_128")]
    + [("img_rect", "rect_resized_32"), ("img_rect", "rect_resized_96")],
)
def test_pixels_match_the_reference(golden, given, expected):
    stored = golden("augment_multiscale")
    image = np.rint(stored[given].transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    size = int(expected.rsplit("_", 1)[1])
    found = step.network_input(batch_of(image), size).image
    want = stored[expected].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_labels_move_with_the_pixels():
    image = np.zeros((2, 64, 64, 3), np.uint8)
    boxes = jnp.array([[[8.0, 16, 32, 64]]] * 2)
    points = jnp.array([[[[8.0, 16, 2]]]] * 2)
    found = step.network_input(batch_of(image, boxes=boxes, keypoints=points), 96)
    assert found.image.shape == (2, 96, 96, 3)
    np.testing.assert_allclose(found.boxes, boxes * 1.5)
    np.testing.assert_allclose(found.keypoints, [[[[12, 24, 2]]]] * 2)
    same = step.network_input(batch_of(image, boxes=boxes), 64)
    assert same.image.shape == image.shape and same.boxes is boxes


def steps_of(out):
    """Returns what the log says of the programs that were compiled."""
    return re.findall(r"compiled the training step for (\d+) pixels", out)


@pytest.mark.slow
@pytest.mark.process
def test_a_run_compiles_each_size_once_and_resumes_exactly(place):
    """The same bytes after a kill, and not those of a run at one size."""
    whole, killed, resumed, plain = forked_runs.run_all(
        [
            job(place, "sizes", **RUN),
            job(place, "sizes-killed", ("kill_at", 8), save_minutes=1e-9, **RUN),
            job(place, "sizes-killed", **RUN),
            job(place, "one-size"),
        ],
        place,
    )
    assert [killed[0], whole[0], resumed[0], plain[0]] == [-signal.SIGKILL, 0, 0, 0]
    assert whole[2] == resumed[2] == ""
    assert "at 32, 64 px" in whole[1]
    for _, out, _ in (whole, resumed):
        # One size is needed at once. The other is compiled beside the run, or by the
        # run itself if it is needed before its turn: never twice, nor after an epoch.
        made = steps_of(out)
        assert len(made) <= 1
        first_row = re.search(r"\n +\d/3 ", out)
        assert first_row and "compiled" not in out[first_row.end() :]
    assert results(place / "sizes") == results(place / "sizes-killed")
    one, two = state_of(place / "sizes"), state_of(place / "sizes-killed")
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    other = state_of(place / "one-size")
    assert any(one[name].tobytes() != other[name].tobytes() for name in one)
