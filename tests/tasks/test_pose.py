"""Pose: keypoint loss, decoding, the task."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_cases import (
    SPEC,
    batch_of,
    check_network_gradients,
    check_sharding,
    value_and_grad,
)

from yolojax.losses.detection import Gains
from yolojax.losses.pose import PoseGains
from yolojax.ops import anchors, boxes, keypoints, nms
from yolojax.tasks.detect import Detect, DetectionRules
from yolojax.tasks.pose import Pose

GAINS = Gains(7.5, 0.5, 1.5)
OUTPUTS = {"boxes": "boxes", "scores": "scores", "keypoints": "kpts"}


def task_of(classes, shape, sigmas=None, gains=(12.0, 1.0)):
    sigmas = keypoints.usual_sigmas(shape) if sigmas is None else sigmas
    return Pose(Detect(classes, GAINS, None), shape, sigmas, PoseGains(*gains))


@pytest.fixture
def reference(assets):
    """Returns a loader of reference arrays too large for this tree."""
    return lambda stem: dict(np.load(assets / "golden" / f"{stem}.npz"))


LOSS_CASES = (
    *(("coco17", 5), ("coco17", 24), ("custom5x3", 5), ("two_dim", 24)),
    *(("no_visible", 24), ("one_image_empty", 24), ("all_empty", 5)),
)


@pytest.mark.parametrize(("case", "slots"), LOSS_CASES)
def test_loss_matches_reference(case, slots, reference):
    values = reference(f"loss_pose_{case}")
    height, width = map(int, values["imgsz_hw"])
    shape = tuple(map(int, values["kpt_shape"]))
    classes = values["scores"].shape[1]
    task = task_of(classes, shape, gains=map(float, values["gains_pose_kobj"]))
    np.testing.assert_allclose(task.sigmas, values["oks_sigmas"], rtol=1e-6)
    assert task.boxes.gains == tuple(values["gains_box_cls_dfl"])
    batch = batch_of(values, (2, height, width), slots)
    outputs = {
        name: jnp.array(values[theirs].transpose(0, 2, 1))
        for name, theirs in OUTPUTS.items()
    }
    terms, grads = value_and_grad(task, outputs, batch)
    assert list(task.loss_names) == list(values["loss_item_names"])
    np.testing.assert_allclose(terms, values["loss_item_values"], rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(terms * 2, values["loss_vector"], rtol=2e-5, atol=1e-7)
    for name, theirs in OUTPUTS.items():
        want = values[f"grad_{theirs}"].transpose(0, 2, 1)
        limit = 3e-4 * max(np.abs(want).max(), 1e-6)
        assert np.abs(grads[name] - want).max() <= limit


@pytest.mark.slow
def test_whole_network_gradients_match_reference(golden):
    values = golden("trainstep_n_pose")
    count, _, height, width = map(int, values["input_shape"])
    task = task_of(int(values["nc"]), (17, 3))
    batch = batch_of(values, (count, height, width), 8)
    check_network_gradients(task, batch, values)


decode = jax.jit(jax.vmap(keypoints.decode, in_axes=(0, None, None)))


@pytest.mark.parametrize("shape", [(17, 3), (5, 2)])
def test_decoding_matches_reference(shape, golden):
    values = golden("decode_keypoints")  # every 9th anchor of the reference's
    step, (count, size) = int(values["step"]), shape
    points = values["anchor_points"][::step]
    strides = values["anchor_strides"][::step, 0]
    case = f"k{count}x{size}"
    raw = values[f"{case}_raw"].transpose(0, 2, 1)
    want = values[f"{case}_decoded"].transpose(0, 2, 1)
    got = decode(raw.reshape(2, -1, count, size), points, strides)
    want = want.reshape(2, -1, count, size)
    np.testing.assert_allclose(got[..., :size], want, atol=1e-3)
    if size == 2:
        assert (got[..., 2] == 1).all()


def test_decoded_outputs_match_reference(golden):
    values = golden("forward_n_pose")  # every 7th anchor
    _, step = map(int, values["stride_channel_anchor"])
    height, width = map(int, values["input_shape"][2:])
    points, strides = anchors.anchor_points((height, width), (8, 16, 32))
    raw = values["kpts"].transpose(0, 2, 1).reshape(2, -1, 17, 3)
    got = decode(raw, points[::step], strides[::step])
    want = values["decoded"].transpose(0, 2, 1)[..., 5:].reshape(2, -1, 17, 3)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * np.abs(want).max())


def test_keypoints_follow_their_boxes_through_suppression(reference):
    values = reference("nms_pose")
    rules = {
        "conf": float(values["opt_conf"]), "iou": float(values["opt_iou"]),
        "max_det": 300, "multi_label": False, "agnostic": False,
    }  # fmt: skip

    @jax.jit
    def select(prediction):
        corners = boxes.cxcywh_to_xyxy(prediction[:, :4])
        return nms.select(corners, prediction[:, 4:5], **rules)

    for i, prediction in enumerate(values["prediction"].transpose(0, 2, 1)):
        found = jax.device_get(select(prediction))
        anchor = found[3]
        count = int((anchor >= 0).sum())
        np.testing.assert_array_equal(anchor[:count], values[f"keep{i}"])
        rows = np.concatenate(
            [found[0], found[1][:, None], prediction[anchor, 5:]], axis=1
        )
        want = np.delete(values[f"det{i}"], 5, axis=1)  # the class
        np.testing.assert_allclose(rows[:count], want, atol=1e-4)


def test_scaled_keypoints_match_reference(golden):
    values = golden("scale_back")
    for i, case in enumerate(values["cases_in_h_in_w_orig_h_orig_w"]):
        size, original = tuple(map(int, case[:2])), tuple(map(int, case[2:]))
        got = keypoints.scale_keypoints(values[f"c{i:02d}_kpts"], size, original)
        want = values[f"c{i:02d}_kpts_out"]
        np.testing.assert_allclose(got, want, atol=1e-5 * max(original))
        np.testing.assert_array_equal(got[..., 2], values[f"c{i:02d}_kpts"][..., 2])


def scene(seed=0, images=3, slots=4, shape=(5, 3), size=(64, 96), padding=2):
    """Returns outputs and a batch with `padding` empty slots in each image."""
    rng = np.random.default_rng(seed)
    height, width = size
    count = len(anchors.anchor_points(size, (8, 16, 32))[0])
    draw = lambda *shape: jnp.array(rng.standard_normal(shape), jnp.float32)
    outputs = {
        "boxes": draw(images, count, 64),
        "scores": draw(images, count, 2),
        "keypoints": draw(images, count, shape[0] * shape[1]),
    }
    rows = images * slots
    values = {
        "target_batch_idx": np.repeat(np.arange(images), slots),
        "target_cls": rng.integers(0, 2, (rows, 1)),
        "target_bboxes": rng.uniform(0.2, 0.6, (rows, 4)),
        "target_keypoints": np.concatenate(
            [
                rng.uniform(0.1, 0.9, (rows, shape[0], 2)),
                rng.integers(0, 3, (rows, shape[0], 1)),
            ],
            axis=-1,
        ),
    }
    return outputs, batch_of(values, (images, height, width), slots + padding)


@pytest.mark.slow
def test_padded_images_and_slots_change_nothing():
    outputs, batch = scene()
    task = task_of(2, (5, 3))
    want, _ = value_and_grad(task, outputs, batch)
    assert (want > 0).all()
    none = dataclasses.replace(
        jax.tree.map(lambda x: jnp.full_like(x[:1], 1), batch),
        example_valid=jnp.zeros(1, bool),
        valid=jnp.zeros_like(batch.valid[:1]),
    )
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), batch, none)
    grown = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), outputs)
    got, grads = value_and_grad(task, grown, joined)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert not any(np.asarray(g[-1]).any() for g in grads.values())
    _, fewer = scene(padding=0)
    got, _ = value_and_grad(task, outputs, fewer)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_unlabelled_keypoints_have_no_place():
    outputs, batch = scene()
    task = task_of(2, (5, 3))
    want, _ = value_and_grad(task, outputs, batch)
    moved = np.array(batch.keypoints)
    moved[..., :2] = np.where(moved[..., 2:] == 0, -1e4, moved[..., :2])
    got, _ = value_and_grad(task, outputs, dataclasses.replace(batch, keypoints=moved))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_two_values_count_every_keypoint():
    outputs, batch = scene(shape=(5, 2))
    task = task_of(2, (5, 2))
    hidden = dataclasses.replace(
        batch, keypoints=batch.keypoints * jnp.array([[[[1.0, 1.0, 0.0]]]])
    )
    want, _ = value_and_grad(task, outputs, batch)
    got, _ = value_and_grad(task, outputs, hidden)
    np.testing.assert_array_equal(got, want)
    assert want[1] > 0
    assert want[2] == 0


@pytest.mark.parametrize("slots", [0, 1])
def test_no_objects_have_no_keypoint_loss(slots):
    outputs, _ = scene()
    nothing = {
        "target_batch_idx": np.zeros(0),
        "target_cls": np.zeros((0, 1)),
        "target_bboxes": np.zeros((0, 4)),
        "target_keypoints": np.zeros((0, 5, 3)),
    }
    batch = batch_of(nothing, (3, 64, 96), slots)
    terms, grads = value_and_grad(task_of(2, (5, 3)), outputs, batch)
    np.testing.assert_array_equal(terms != 0, [False, False, False, True, False])
    assert all(jnp.isfinite(g).all() for g in grads.values())
    assert not grads["keypoints"].any()


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1e4])
def test_gradients_are_finite(gap):
    """With objects of no size, keypoints in one place and hit exactly, or far off."""
    outputs, batch = scene(seed=1)
    batch, outputs = jax.tree.map(np.array, (batch, outputs))
    corner = batch.boxes[:, :, None, :2] + np.float32(gap)
    batch.boxes[:, 0, 2:] = batch.boxes[:, 0, :2]
    batch.keypoints[..., :2] = corner
    outputs["keypoints"][:] = 0.25
    terms, grads = value_and_grad(task_of(2, (5, 3)), outputs, batch)
    assert jnp.isfinite(terms).all()
    assert all(jnp.isfinite(g).all() for g in grads.values())


@pytest.mark.slow
def test_loss_on_several_devices_is_that_on_one():
    outputs, batch = scene(images=4)
    check_sharding(task_of(2, (5, 3)), outputs, batch)


def test_decode_gives_the_keypoints_of_each_box():
    task = task_of(2, (5, 3))
    points, _ = anchors.anchor_points((64, 96), (8, 16, 32))
    logits = np.full((2, len(points), 2), -9.0, np.float32)
    logits[0, 100, 1] = 3.0  # a cell of stride 16
    logits[0, 3, 0] = 4.0  # and one of stride 8
    raw = np.zeros((2, len(points), 5, 3), np.float32)
    raw[0, 100] = [1.0, -0.5, 2.0]
    outputs = {
        "boxes": jnp.zeros((2, len(points), 64)),
        "scores": jnp.array(logits),
        "keypoints": jnp.array(raw.reshape(2, -1, 15)),
    }
    rules = DetectionRules(0.25, 0.7, 4, False, False)
    decode = functools.partial(task.decode, image_hw=(64, 96), rules=rules)
    found = jax.device_get(jax.jit(decode)(outputs))
    assert found.keypoints.shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(found.valid[:, :3], [[1, 1, 0], [0, 0, 0]])
    x, y = (points[100] - 0.5 + [2.0, -1.0]) * 16
    want = np.tile([x, y, 1 / (1 + np.exp(-2.0))], (5, 1))
    np.testing.assert_allclose(found.keypoints[0, 1], want, rtol=1e-5)
    want = np.tile([*(points[3] - 0.5) * 8, 0.5], (5, 1))
    np.testing.assert_allclose(found.keypoints[0, 0], want, rtol=1e-5)
    assert not found.keypoints[~found.valid].any()


def test_task_is_made_from_settings():
    task = Pose.make(SPEC)
    assert task.sigmas == (0.2,) * 5
    assert task.gains == PoseGains(12.0, 1.0)
    assert task.head()().keypoint_shape == (5, 3)
    assert task.metric_names[4:6] == ("metrics/precision(P)", "metrics/recall(P)")
    coco = Pose.make(dataclasses.replace(SPEC, keypoint_shape=(17, 3)))
    assert coco.sigmas == keypoints.COCO_SIGMAS
    other = Pose.make(dataclasses.replace(SPEC, keypoint_shape=(17, 2)))
    assert set(other.sigmas) == {1 / 17}
    own = (0.1, 0.2, 0.3, 0.4, 0.5)
    assert Pose.make(dataclasses.replace(SPEC, keypoint_sigmas=own)).sigmas == own
    task.metrics()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"keypoint_shape": None}, "kpt_shape"),
        ({"keypoint_sigmas": (0.1, 0.2)}, "each of the 5 keypoints"),
        ({"keypoint_sigmas": (0.1, 0.2, 0.0, 0.1, 0.1)}, "positive"),
    ],
)
def test_bad_settings_are_named(change, text):
    with pytest.raises(ValueError, match=text):
        Pose.make(dataclasses.replace(SPEC, **change))
