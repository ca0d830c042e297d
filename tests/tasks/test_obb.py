"""Rotated boxes: overlap, assignment, loss, suppression, the task."""

import dataclasses
import functools
import math

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

from yolojax.losses import assign as assign_module
from yolojax.losses.assign import ROTATED, assign
from yolojax.losses.detection import Gains
from yolojax.losses.rotated import angle_loss
from yolojax.ops import anchors, boxes, nms, rotated
from yolojax.tasks.detect import Detect, DetectionRules
from yolojax.tasks.obb import OBB

GAINS = Gains(7.5, 0.5, 1.5)
OUTPUTS = {"boxes": "boxes", "scores": "scores", "angles": "angle_raw"}


def task_of(classes, weights=None, angle=1.0):
    return OBB(Detect(classes, GAINS, weights), angle)


@pytest.fixture
def reference(assets):
    """Returns a loader of reference arrays too large for this tree."""
    return lambda stem: dict(np.load(assets / "golden" / f"{stem}.npz"))


def textbook_iou(box1, box2, floor=0.0, eps=1e-7):
    """probIoU as the paper writes it, in float64."""

    def covariance(box):
        a, b, r = (
            box[..., 2] ** 2 / 12 + floor,
            box[..., 3] ** 2 / 12 + floor,
            box[..., 4],
        )
        cos, sin = np.cos(r), np.sin(r)
        return (
            a * cos**2 + b * sin**2,
            a * sin**2 + b * cos**2,
            (a - b) * cos * sin,
        )

    box1, box2 = np.float64(box1), np.float64(box2)
    (a1, b1, c1), (a2, b2, c2) = covariance(box1), covariance(box2)
    dx, dy = box2[..., 0] - box1[..., 0], box1[..., 1] - box2[..., 1]
    d = (a1 + a2) * (b1 + b2) - (c1 + c2) ** 2
    t1 = ((a1 + a2) * dy**2 + (b1 + b2) * dx**2) / (d + eps) / 4
    t2 = (c1 + c2) * dx * dy / (d + eps) / 2
    dets = np.maximum(a1 * b1 - c1**2, 0) * np.maximum(a2 * b2 - c2**2, 0)
    t3 = np.log(d / (4 * np.sqrt(dets) + eps) + eps) / 2
    bd = np.clip(t1 + t2 + t3, eps, 100)
    return 1 - np.sqrt(1 - np.exp(-bd) + eps)


@pytest.mark.parametrize(
    ("floor", "name"), [(0.0, "probiou"), (0.01, "probiou_floor01")]
)
def test_overlap_matches_reference(floor, name, golden):
    values = golden("iou")
    pair = jnp.array(values["obb1"]), jnp.array(values["obb2"])
    overlap = functools.partial(rotated.probabilistic_iou, floor=floor)
    got, want = jax.jit(overlap)(*pair), values[name]
    # Near 1 the square root magnifies the rounding of its argument.
    limit = np.where(want > 0.99, 5e-5, 2e-6)
    assert (np.abs(got - want) <= limit).all()
    total = lambda a, b: overlap(a, b).sum()
    grads = jax.jit(jax.grad(total, (0, 1)))(*pair)
    n = int(values["n_ordinary_obb"])
    for got, side in zip(grads, ("obb1", "obb2"), strict=True):
        wanted = values[f"{name}_grad_{side}"]
        np.testing.assert_allclose(got[:n], wanted[:n], rtol=1e-4, atol=3e-6)
        assert jnp.isfinite(got).all()


def test_overlap_of_all_pairs_matches_reference(golden):
    values = golden("iou")
    one, two = jnp.array(values["obb1"][:8]), jnp.array(values["obb2"][:8])
    got = jax.jit(rotated.probabilistic_iou)(one[:, None], two[None])
    np.testing.assert_allclose(got, values["batch_probiou_8x8"], atol=5e-5)


def test_overlap_of_long_thin_boxes_keeps_its_digits():
    rng = np.random.default_rng(0)
    box1 = rng.uniform([0, 0, 200, 1, -1], [9, 9, 900, 3, 3], (400, 5))
    box2 = box1 + rng.normal(0, [5, 5, 20, 0.2, 0.02], (400, 5))
    box1, box2 = np.float32(box1), np.float32(box2)
    got = jax.jit(rotated.probabilistic_iou)(box1, box2)
    want = textbook_iou(box1, box2)
    assert np.abs(want - 0.5).min() < 0.1  # neither all alike nor all apart
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_overlap_has_finite_gradients_everywhere(floor):
    sides, angles = (0.0, 1e-20, 1e-6, 0.5, 30.0, 2000.0), (-0.7, 0.0, math.pi / 2)
    grid = np.meshgrid((0.0, 1e-4, 700.0), sides, sides, angles, indexing="ij")
    x, w, h, r = (axis.reshape(-1) for axis in grid)
    every = jnp.array(np.stack([x, -x, w, h, r], axis=-1), jnp.float32)
    count = len(every)
    pair = [every[index] for index in np.indices((count, count)).reshape(2, -1)]
    total = lambda a, b: rotated.probabilistic_iou(a, b, floor).sum()
    value, grads = jax.jit(jax.value_and_grad(total, (0, 1)))(*pair)
    assert jnp.isfinite(value)
    for grad in grads:
        assert jnp.isfinite(grad).all()


def test_distances_round_trip_and_an_angle_turns_from_x_to_y():
    rng = np.random.default_rng(0)
    points = jnp.array(rng.uniform(0, 50, (30, 2)), jnp.float32)
    ltrb = jnp.array(rng.uniform(0, 14, (30, 4)), jnp.float32)
    angles = jnp.array(rng.uniform(-1, 3, 30), jnp.float32)
    turn = jax.jit(rotated.ltrb_to_xywhr)
    box = turn(points, ltrb, angles)
    back = jax.jit(rotated.xywhr_to_ltrb)(points, box)
    np.testing.assert_allclose(back, ltrb, atol=2e-5)
    quarter = turn(
        jnp.array([[10.0, 10.0]]),
        jnp.array([[1.0, 2.0, 5.0, 2.0]]),
        jnp.array([math.pi / 2]),
    )
    np.testing.assert_allclose(quarter[0, :4], [10, 12, 6, 4], atol=1e-5)


def test_contains_agrees_with_corners():
    rng = np.random.default_rng(1)
    box = np.float32(rng.uniform([0, 0, 5, 5, -3], [50, 50, 40, 40, 3], (20, 5)))
    points = np.float32(rng.uniform(-10, 60, (500, 2)))
    contains = jax.jit(rotated.contains)
    got = contains(box[:, None], points[None])
    corner = rotated.corners(box)
    edges = np.roll(corner, -1, axis=1) - corner
    to = points[None, :, None] - corner[:, None]  # [box, point, corner, 2]
    cross = edges[:, None, :, 0] * to[..., 1] - edges[:, None, :, 1] * to[..., 0]
    same = (cross > 0).all(-1) | (cross < 0).all(-1)
    np.testing.assert_array_equal(got, same)
    assert 0.05 < same.mean() < 0.95
    border = jnp.array([[30.0, 17.0], [30.1, 17.0]])
    square = jnp.array([[20.0, 12.0, 20.0, 10.0, 0.0]])
    np.testing.assert_array_equal(contains(square, border), [True, False])


@pytest.mark.parametrize("chunk", [2, 16])
@pytest.mark.parametrize("case", ["basic", "overlap", "tiny_padded"])
def test_assignment_matches_reference(case, chunk, golden, monkeypatch):
    monkeypatch.setattr(assign_module, "CHUNK", chunk)
    values = golden(f"tal_rot_{case}")
    got = jax.jit(lambda *arrays: assign(*arrays, match=ROTATED))(
        jnp.array(values["pd_scores"]),
        jnp.array(values["pd_bboxes"]),
        jnp.array(values["anc_points"]),
        jnp.array(values["gt_bboxes"]),
        jnp.array(values["gt_labels"][..., 0].astype(np.int32)),
        jnp.array(values["mask_gt"][..., 0] > 0),
    )
    np.testing.assert_array_equal(got.foreground, values["fg_mask"] > 0)
    np.testing.assert_array_equal(got.slot, values["target_gt_idx"])
    want = values["target_scores"].sum(-1)
    np.testing.assert_allclose(got.score, want, rtol=2e-5, atol=2e-5)


def test_candidates_match_reference(golden):
    values = golden("tal_rot_tiny_padded")
    inside = jax.jit(ROTATED.inside)(
        values["anc_points"][None, None], values["gt_bboxes"][:, :, None]
    )
    valid = values["mask_gt"][..., 0] > 0  # what empty slots get does not matter
    want = values["mask_candidates"][valid] > 0
    np.testing.assert_array_equal(np.asarray(inside)[valid], want)
    assert 0 < want.mean() < 0.2


def activated(outputs):
    """Returns the outputs as the head gives them, angles in radians."""
    angles = (jax.nn.sigmoid(outputs["angles"]) - 0.25) * math.pi
    return {**outputs, "angles": angles}


LOSS_CASES = (
    *(("basic", 5), ("basic", 24), ("thin_and_square", 24), ("tiny_filtered", 5)),
    *(("one_image_empty", 24), ("all_empty", 5)),
)


@pytest.mark.parametrize(("case", "slots"), LOSS_CASES)
def test_loss_matches_reference(case, slots, reference):
    values = reference(f"loss_obb_{case}")
    height, width = map(int, values["imgsz_hw"])
    task = task_of(values["scores"].shape[1], angle=float(values["gain_angle"]))
    assert task.boxes.gains == tuple(values["gains_box_cls_dfl"])
    batch = batch_of(values, (2, height, width), slots)
    outputs = {
        name: jnp.array(values[theirs].transpose(0, 2, 1))
        for name, theirs in OUTPUTS.items()
    }
    outputs["angles"] = outputs["angles"][..., 0]
    terms, grads = value_and_grad(task, outputs, batch, activated)
    assert list(task.loss_names) == list(values["loss_item_names"])
    np.testing.assert_allclose(terms, values["loss_item_values"], rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(terms * 2, values["loss_vector"], rtol=2e-5, atol=1e-7)
    for name, theirs in OUTPUTS.items():
        want = values[f"grad_{theirs}"].transpose(0, 2, 1)
        got = grads[name].reshape(want.shape)
        limit = 3e-4 * max(np.abs(want).max(), 1e-6)
        assert np.abs(got - want).max() <= limit


@pytest.mark.slow
def test_whole_network_gradients_match_reference(golden):
    values = golden("trainstep_n_obb")
    count, _, height, width = map(int, values["input_shape"])
    task = task_of(int(values["nc"]))
    batch = batch_of(values, (count, height, width), 8)
    check_network_gradients(task, batch, values)


def test_angle_loss_by_hand():
    target = jnp.array([[0, 0, 8, 8, 0.3]] * 4 + [[0, 0, 80, 8, 0.3]], jnp.float32)
    error = np.array([0, math.pi / 4, math.pi / 2, -math.pi, math.pi / 4])
    got = jax.jit(angle_loss)(jnp.array(0.3 + error, jnp.float32), target)
    long = math.exp(-(math.log(10) ** 2) / 9)
    np.testing.assert_allclose(got, [0, 1, 0, 0, long], atol=1e-6)


def scene(seed=0, images=3, slots=4, size=(64, 96), padding=2):
    """Returns outputs and a batch with `padding` empty slots in each image."""
    rng = np.random.default_rng(seed)
    height, width = size
    count = len(anchors.anchor_points(size, (8, 16, 32))[0])
    draw = lambda *shape: jnp.array(rng.standard_normal(shape), jnp.float32)
    outputs = {
        "boxes": draw(images, count, 64),
        "scores": draw(images, count, 2),
        "angles": draw(images, count),
    }
    rows = images * slots
    low, high = [0.2, 0.2, 0.2, 0.2, -0.7], [0.7, 0.7, 0.6, 0.6, 2.3]
    values = {
        "target_batch_idx": np.repeat(np.arange(images), slots),
        "target_cls": rng.integers(0, 2, (rows, 1)),
        "target_bboxes": rng.uniform(low, high, (rows, 5)),
    }
    return outputs, batch_of(values, (images, height, width), slots + padding)


@pytest.mark.slow
def test_padded_images_and_slots_change_nothing():
    outputs, batch = scene()
    task = task_of(2)
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


def test_objects_thinner_than_two_pixels_do_not_count():
    outputs, batch = scene()
    task = task_of(2, weights=(1.0, 2.0))
    loss = jax.jit(functools.partial(task.loss, padded=False))
    want = loss(outputs, batch)

    def add(box):
        more = jax.tree.map(np.array, batch)
        more.boxes[:, 4], more.valid[:, 4] = box, True
        return more

    for box in ([30.0, 20.0, 60.0, 21.9], [20.0, 30.0, 21.9, 60.0]):
        got = loss(outputs, add(box))
        np.testing.assert_array_equal(got, want)
    got = loss(outputs, add([30.0, 20.0, 60.0, 22.0]))
    assert (np.asarray(got) != np.asarray(want)).all()


@pytest.mark.parametrize("slots", [0, 1])
def test_no_objects_have_a_class_loss_alone(slots):
    outputs, _ = scene()
    nothing = {
        "target_batch_idx": np.zeros(0),
        "target_cls": np.zeros((0, 1)),
        "target_bboxes": np.zeros((0, 5)),
    }
    batch = batch_of(nothing, (3, 64, 96), slots)
    terms, grads = value_and_grad(task_of(2), outputs, batch)
    np.testing.assert_array_equal(terms != 0, [False, True, False, False])
    assert all(jnp.isfinite(g).all() for g in grads.values())


def test_gradients_are_finite():
    """With predictions of no size, objects on padding and perfect predictions."""
    outputs, batch = scene(seed=1)
    outputs, batch = jax.tree.map(np.array, (outputs, batch))
    peaks, two = np.zeros((2, 4, 16))
    peaks[:, 0], two[:, 2] = 200.0, 200.0
    outputs["boxes"][:, ::2] = peaks.reshape(-1)  # every distance exactly 0
    outputs["boxes"][:, 96] = two.reshape(-1)  # stride 16
    outputs["angles"][:] = 0.25
    batch.boxes[:, 0] = [8.0 - 32, 8.0 - 32, 8.0 + 32, 8.0 + 32]  # exactly
    batch.angles[:, 0] = 0.25
    terms, grads = value_and_grad(task_of(2), outputs, batch)
    assert jnp.isfinite(terms).all()
    assert all(jnp.isfinite(g).all() for g in grads.values())


def test_loss_on_several_devices_is_that_on_one():
    check_sharding(task_of(2), *scene(images=4))


def run_select(values, prediction, **changes):
    settings = {
        "conf": float(values["opt_conf"]),
        "iou": float(values["opt_iou"]),
        "max_det": int(values["opt_max_det"]),
        "multi_label": bool(values["opt_multi_label"]),
        "agnostic": bool(values["opt_agnostic"]),
        "max_candidates": int(values["opt_max_nms"]),
    }
    select = functools.partial(nms.select_rotated, **settings | changes)
    nc = int(values["nc"])
    box = np.concatenate([prediction[..., :4], prediction[..., 4 + nc :]], axis=-1)
    found = jax.jit(jax.vmap(select))(box, prediction[..., 4 : 4 + nc])
    return jax.device_get(found)


@pytest.mark.parametrize("block", [7, pytest.param(256, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", ["obb_predict", "obb_val_multilabel", "chain_rotated"])
def test_suppression_matches_reference(case, block, golden, monkeypatch):
    monkeypatch.setattr(nms, "BLOCK", block)
    values = golden(f"nms_{case}")
    prediction = values["prediction"].transpose(0, 2, 1)
    for max_det in (300, 10):
        found = run_select(values, prediction, max_det=max_det)
        for i in range(prediction.shape[0]):
            box, score, label, anchor = (x[i] for x in found)
            n = int((anchor >= 0).sum())
            want = values[f"det{i}"][:max_det]
            assert n == len(want)
            np.testing.assert_array_equal(anchor[:n], values[f"keep{i}"][:max_det])
            np.testing.assert_allclose(box[:n], want[:, [0, 1, 2, 3, 6]], atol=1e-4)
            np.testing.assert_allclose(score[:n], want[:, 4], atol=1e-6)
            np.testing.assert_array_equal(label[:n], want[:, 5])
            assert not score[n:].any()
            assert not box[n:].any()


@pytest.mark.parametrize("agnostic", [False, True])
def test_suppression_is_that_of_the_whole_matrix(agnostic, monkeypatch):
    monkeypatch.setattr(nms, "BLOCK", 64)
    rng = np.random.default_rng(0)
    count, conf, iou = 700, 0.1, 0.5
    low, high = [0, 0, 10, 10, -1], [150, 150, 60, 60, 2]
    box = np.float32(rng.uniform(low, high, (count, 5)))
    score = np.float32(rng.uniform(0, 1, (count, 3)))
    rows, labels = np.nonzero(score > conf)
    order = np.argsort(-score[rows, labels], kind="stable")
    rows, labels = rows[order], labels[order]
    pairs = textbook_iou(box[rows][:, None], box[rows][None])
    same = agnostic | (labels[:, None] == labels[None])
    assert np.abs(pairs[same] - iou).min() > 1e-7
    kept = ~np.triu(same & (pairs > iou), 1).any(0)
    for max_det in (20, 300):
        select = functools.partial(
            nms.select_rotated,
            conf=conf,
            iou=iou,
            max_det=max_det,
            multi_label=True,
            agnostic=agnostic,
        )
        got = jax.device_get(jax.jit(select)(box, score))
        want = np.stack([rows[kept], labels[kept]])[:, :max_det]
        n = want.shape[1]
        assert n > 10
        np.testing.assert_array_equal(np.stack([got[3], got[2]])[:, :n], want)
        assert (got[3][n:] == -1).all()


def test_back_in_the_original_matches_reference(golden):
    values = golden("decode_obb")
    prediction = values["prediction"].transpose(0, 2, 1)
    conf, iou = map(float, values["conf_iou"])
    size, original = (tuple(map(int, values[k])) for k in ("input_hw", "orig_hw"))
    select = jax.jit(
        functools.partial(
            nms.select_rotated,
            conf=conf,
            iou=iou,
            max_det=300,
            multi_label=False,
            agnostic=False,
        )
    )
    for i in range(2):
        box = np.concatenate([prediction[i, :, :4], prediction[i, :, 7:]], axis=-1)
        found = select(box, prediction[i, :, 4:7])
        box = np.asarray(found[0])[np.asarray(found[3]) >= 0]
        np.testing.assert_allclose(
            box, values[f"det{i}"][:, [0, 1, 2, 3, 6]], atol=1e-4
        )
        box = rotated.scale_rotated(box, size, original)
        np.testing.assert_allclose(box, values[f"xywhr{i}"], atol=1e-3)
        np.testing.assert_allclose(
            rotated.corners(box), values[f"corners{i}"], atol=1e-3
        )
        np.testing.assert_allclose(
            rotated.regularised(box), values[f"regularized{i}"], atol=1e-3
        )


def test_scaled_boxes_match_reference(golden):
    values = golden("scale_back")
    for i, case in enumerate(values["cases_in_h_in_w_orig_h_orig_w"]):
        size, original = tuple(map(int, case[:2])), tuple(map(int, case[2:]))
        given = np.pad(values[f"c{i:02d}_xywh"], ((0, 0), (0, 1)), constant_values=0.5)
        got = rotated.scale_rotated(given, size, original)
        want = values[f"c{i:02d}_xywh_out"]
        np.testing.assert_allclose(got[:, :4], want, atol=1e-5 * max(original))
        assert (got[:, 4] == 0.5).all()


def test_decoded_outputs_match_reference(golden):
    values = golden("forward_n_obb")  # every 7th anchor
    _, step = map(int, values["stride_channel_anchor"])
    height, width = map(int, values["input_shape"][2:])
    points, strides = anchors.anchor_points((height, width), (8, 16, 32))
    points, strides = jnp.array(points[::step]), jnp.array(strides[::step])
    logits = jnp.array(values["boxes"].transpose(0, 2, 1))

    @jax.jit
    def decoded(logits, angles):
        distances = boxes.expected_distance(logits, 16)
        grid = jnp.broadcast_to(points[None], (2, *points.shape))
        return rotated.scaled(rotated.ltrb_to_xywhr(grid, distances, angles), strides)

    got = decoded(logits, values["angle"][:, 0])
    want = values["decoded"].transpose(0, 2, 1)[..., [0, 1, 2, 3, -1]]
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-3)


def test_decode_gives_boxes_before_their_rotation():
    points, _ = anchors.anchor_points((64, 96), (8, 16, 32))
    count = len(points)
    logits = np.full((2, count, 2), -9.0, np.float32)
    logits[0, 100, 1] = 3.0  # a cell of stride 16
    sides = np.zeros((2, count, 4, 16), np.float32)
    sides[0, 100, range(4), [2, 1, 2, 3]] = 200.0  # distances in cells
    angles = np.zeros((2, count), np.float32)
    angles[0, 100] = math.pi / 2
    outputs = {
        "boxes": jnp.array(sides.reshape(2, count, 64)),
        "scores": jnp.array(logits),
        "angles": jnp.array(angles),
    }
    rules = DetectionRules(0.25, 0.7, 4, False, False)
    decode = functools.partial(task_of(2).decode, image_hw=(64, 96), rules=rules)
    found = jax.device_get(jax.jit(decode)(outputs))
    assert found.boxes.shape == (2, 4, 4)
    np.testing.assert_array_equal(found.valid[:, :2], [[1, 0], [0, 0]])
    x, y = points[100] * 16 - [16, 0]  # one cell "down" its own axes is left
    want = [x - 32, y - 32, x + 32, y + 32]
    np.testing.assert_allclose(found.boxes[0, 0], want, atol=1e-4)
    np.testing.assert_allclose(found.angles[0, 0], math.pi / 2, rtol=1e-6)
    assert found.classes[0, 0] == 1
    assert not found.boxes[~found.valid].any()
    assert not found.angles[~found.valid].any()


def test_task_is_made_from_settings():
    change = {"class_weights": (1.0, 2.0), "class_width": 80, "angle": 0.5}
    spec = dataclasses.replace(SPEC, **change)
    task = OBB.make(spec)
    assert task.angle_gain == 0.5
    assert task.boxes.class_weights == (1.0, 2.0)
    assert task.head()().class_width == 80
    assert len(task.loss_names) == len(task.metric_names) == 4
    task.metrics()
