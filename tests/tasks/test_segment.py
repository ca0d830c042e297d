"""Segmentation: mask loss, masks of detections, the task."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference_rule import rule_image
from task_cases import check_gradients, network_gradients, value_and_grad

from yolojax import models
from yolojax.devices import mesh as sharding
from yolojax.losses import segmentation
from yolojax.losses.assign import Assignment
from yolojax.losses.detection import Gains
from yolojax.losses.segmentation import mask_loss
from yolojax.ops import boxes as box_ops
from yolojax.ops import masks as mask_ops
from yolojax.tasks.detect import Detect, DetectionRules
from yolojax.tasks.segment import Segment
from yolojax.tasks.spec import TaskSpec
from yolojax.types import Batch

GAINS = Gains(7.5, 0.5, 1.5)
OUTPUTS = {  # name here: name in the reference files
    "boxes": "boxes",
    "scores": "scores",
    "masks": "mask_coefficient",
    "protos": "proto",
}
NOT_OURS = 4  # place of a term of other networks, which is 0 for these


def task_of(classes, gains=GAINS):
    return Segment(Detect(classes, gains, None))


@pytest.fixture
def reference(assets):
    """Returns a loader of reference arrays too large for this tree."""
    return lambda stem: dict(np.load(assets / "golden" / f"{stem}.npz"))


def batch_of(values, size, slots):
    """Packs flat targets into a batch of `size` (B, H, W).

    In float32, as the reference computes: some boxes end exactly between two pixels.
    """
    count, height, width = size
    boxes = np.zeros((count, slots, 4), np.float32)
    classes = np.zeros((count, slots), np.int32)
    valid = np.zeros((count, slots), bool)
    masks = values["target_masks"]
    overlap = bool(values.get("overlap_mask", 1))
    if not overlap:
        flat, masks = masks, np.zeros((count, slots, *masks.shape[1:]), np.uint8)
    for row, image in enumerate(values["target_batch_idx"].astype(int)):
        slot = valid[image].sum()
        pixels = values["target_bboxes"][row] * np.float32([width, height] * 2)
        centre, half = pixels[:2], pixels[2:] / 2
        boxes[image, slot] = np.concatenate([centre - half, centre + half])
        classes[image, slot] = int(values["target_cls"][row, 0])
        valid[image, slot] = True
        if not overlap:
            masks[image, slot] = flat[row]
    masks = masks.astype(np.int32 if overlap else np.uint8)
    image = np.zeros((count, height, width, 3), np.uint8)
    arrays = image, np.ones(count, bool), boxes, classes, valid, masks
    return Batch(*(jnp.array(x) for x in arrays))


def outputs_of(values, prefix=""):
    """Returns reference arrays as head outputs, channels last."""
    return {
        name: jnp.array(np.moveaxis(values[prefix + theirs], 1, -1))
        for name, theirs in OUTPUTS.items()
    }


LOSS_CASES = (
    *("overlap", "no_overlap", "mask_ratio2", "all_empty", "one_image_empty"),
    "tiny_boxes",
)


@pytest.mark.parametrize("slots", [5, pytest.param(24, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", LOSS_CASES)
def test_loss_matches_reference(case, slots, reference):
    values = reference(f"loss_segment_{case}")
    height, width = map(int, values["imgsz_hw"])
    task = task_of(5, Gains(*map(float, values["gains_box_cls_dfl"])))
    batch = batch_of(values, (2, height, width), slots)
    terms, grads = value_and_grad(task, outputs_of(values), batch, padded=False)
    for name, factor in (("loss_item_values", 1), ("loss_vector", 2)):
        want = np.delete(values[name], NOT_OURS)
        np.testing.assert_allclose(terms * factor, want, rtol=2e-5, atol=1e-7)
    wanted = outputs_of(values, "grad_")
    for name, want in wanted.items():
        limit = 3e-4 * max(np.abs(want).max(), 1e-6)
        assert np.abs(grads[name] - want).max() <= limit


def scene(seed=0, images=3, slots=7, anchors=60, size=(64, 96), per_slot=False):
    """Returns made-up arguments of `mask_loss`, some slots and anchors empty."""
    rng = np.random.default_rng(seed)
    height, width = size
    low = rng.uniform(-0.1, 0.7, (images, slots, 2)) * [width, height]
    high = low + rng.uniform(0.05, 0.6, (images, slots, 2)) * [width, height]
    boxes = np.concatenate([low, high], axis=-1).clip(0, [width, height] * 2)
    shape = (images, height // 4, width // 4)
    masks = rng.integers(0, slots + 1, shape).astype(np.int32)
    if per_slot:
        masks = (rng.random((images, slots, *shape[1:])) < 0.5).astype(np.uint8)
    share = np.linspace(0.5, 0, images)[:, None]
    foreground = rng.random((images, anchors)) < share
    slot = rng.integers(0, slots, (images, anchors)).astype(np.int32)
    score = np.zeros((images, anchors), np.float32)
    return {
        "coefficients": jnp.array(rng.standard_normal((images, anchors, 8)), "float32"),
        "protos": jnp.array(rng.standard_normal((*shape, 8)), "float32"),
        "assignment": Assignment(*map(jnp.array, (foreground, slot, score))),
        "gt_boxes": jnp.array(boxes, "float32"),
        "gt_masks": jnp.array(masks),
        "image_hw": size,
    }


@jax.jit
def anchor_loss(coefficients, protos, target, inside):
    """Binary cross-entropy of one anchor's mask, summed inside its box."""
    z = (protos * coefficients[None, None]).sum(-1)
    bce = -jnp.where(target, jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z))
    return jnp.where(inside, bce, 0).sum()


def plain_loss(coefficients, protos, assignment, gt_boxes, gt_masks, image_hw):
    """The definition, one anchor at a time, for automatic differentiation."""
    _, h, w, _ = protos.shape
    height, width = image_hw
    gt_boxes, gt_masks = np.asarray(gt_boxes, np.float64), np.asarray(gt_masks)
    slots, losses = np.asarray(assignment.slot), []
    for image, anchor in np.argwhere(np.asarray(assignment.foreground)):
        slot = slots[image, anchor]
        x1, y1, x2, y2 = gt_boxes[image, slot]
        rows, columns = np.mgrid[:h, :w]
        across = (columns >= x1 * w / width) & (columns < x2 * w / width)
        down = (rows >= y1 * h / height) & (rows < y2 * h / height)
        index_map = gt_masks.ndim == 3
        target = gt_masks[image] == slot + 1 if index_map else gt_masks[image, slot] > 0
        own = coefficients[image, anchor], protos[image]
        loss = anchor_loss(*own, target, across & down)
        area = (x2 - x1) * (y2 - y1) / (width * height)
        if area > 0:
            losses.append(loss / (h * w * area))
        else:
            losses.append(0.0)
    return sum(losses) / len(losses)


def grads_of(function, arguments, **options):
    rest = dict(arguments, **options)
    pair = rest.pop("coefficients"), rest.pop("protos")
    both = jax.value_and_grad(lambda pair: function(*pair, **rest))
    # The definition is the same few operations again and again.
    return (both if function is plain_loss else jax.jit(both))(pair)


@pytest.mark.parametrize("per_slot", [False, True])
@pytest.mark.parametrize(
    "chunk", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (8, 64))]
)
def test_loss_is_its_definition(chunk, per_slot, monkeypatch):
    monkeypatch.setattr(segmentation, "CHUNK", chunk)
    arguments = scene(per_slot=per_slot)
    got, grads = grads_of(mask_loss, arguments)
    want, wanted = grads_of(plain_loss, arguments)
    assert want > 0
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for grad, reference in zip(grads, wanted, strict=True):
        limit = 1e-5 * np.abs(reference).max()
        np.testing.assert_allclose(grad, reference, rtol=1e-4, atol=limit)


def test_padded_images_change_nothing():
    arguments = scene()
    want, _ = grads_of(mask_loss, arguments)
    grow = lambda x: np.concatenate([x, np.full_like(x[:1], 1)])
    grown = {n: grow(x) for n, x in arguments.items() if isinstance(x, jax.Array)}
    grown["assignment"] = Assignment(*map(grow, arguments["assignment"]))
    valid = jnp.array([True, True, True, False])
    grown = arguments | jax.device_put(grown)
    got, (by_anchor, by_pixel) = grads_of(mask_loss, grown, example_valid=valid)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert not by_anchor[3].any()
    assert not by_pixel[3].any()


def test_objects_without_area_add_nothing_but_count():
    arguments = scene()
    arguments["gt_boxes"] = jnp.zeros_like(arguments["gt_boxes"])
    value, grads = grads_of(mask_loss, arguments)
    assert value == 0
    assert not any(g.any() for g in grads)


def test_images_without_objects_have_zero_loss_and_gradients():
    arguments = scene()
    none = arguments["assignment"]._replace(
        foreground=jnp.zeros_like(arguments["assignment"].foreground)
    )
    value, grads = grads_of(mask_loss, arguments, assignment=none)
    assert value == 0
    assert not any(g.any() for g in grads)
    empty = dict(arguments, assignment=none, gt_boxes=jnp.zeros((3, 0, 4)))
    for masks in (arguments["gt_masks"], jnp.zeros((3, 0, 16, 24), jnp.uint8)):
        value, grads = grads_of(mask_loss, empty, gt_masks=masks)
        assert value == 0
        assert not any(g.any() for g in grads)


def test_short_features_are_computed_in_float32():
    arguments = scene()
    short = {
        name: arguments[name].astype(jnp.bfloat16)
        for name in ("coefficients", "protos")
    }
    wide = {name: x.astype(jnp.float32) for name, x in short.items()}
    got, grads = grads_of(mask_loss, {**arguments, **short})
    want, wanted = grads_of(mask_loss, {**arguments, **wide})
    assert got.dtype == jnp.float32
    assert got == want
    for grad, reference in zip(grads, wanted, strict=True):
        assert grad.dtype == jnp.bfloat16
        np.testing.assert_array_equal(grad, reference.astype(jnp.bfloat16))


def random_outputs(batch, size, classes, seed=0):
    rng = np.random.default_rng(seed)
    height, width = size
    anchors = sum(height // s * (width // s) for s in (8, 16, 32))
    shapes = {
        "boxes": (batch, anchors, 64),
        "scores": (batch, anchors, classes),
        "masks": (batch, anchors, 32),
        "protos": (batch, height // 4, width // 4, 32),
    }
    normal = lambda shape: rng.standard_normal(shape).astype(np.float32)
    return {name: jnp.array(normal(shape)) for name, shape in shapes.items()}


def random_batch(count, size, slots, classes, seed=0):
    rng = np.random.default_rng(seed)
    height, width = size
    low = rng.uniform(0, 0.6, (count, slots, 2))
    high = low + rng.uniform(0.1, 0.4, (count, slots, 2))
    boxes = np.concatenate([low, high], -1) * [width, height, width, height]
    valid = np.arange(slots)[None] < rng.integers(0, slots + 1, count)[:, None]
    masks = rng.integers(0, slots + 1, (count, height // 4, width // 4))
    return Batch(
        image=jnp.zeros((count, height, width, 3), jnp.uint8),
        example_valid=jnp.ones(count, bool),
        boxes=jnp.array(boxes * valid[..., None], jnp.float32),
        classes=jnp.array(rng.integers(0, classes, (count, slots)), jnp.int32),
        valid=jnp.array(valid),
        masks=jnp.array(masks, jnp.int32),
    )


@pytest.mark.slow
def test_devices_share_the_batch_and_nothing_but_sums():
    task, size = task_of(3), (64, 64)
    outputs, batch = random_outputs(8, size, 3), random_batch(8, size, 6, 3)
    want, wanted = value_and_grad(task, outputs, batch, padded=False)
    mesh = sharding.make_mesh(None, 8)
    assert mesh.size == 8
    split = NamedSharding(mesh, P("data"))
    parts = jax.device_put((outputs, batch), split)
    got, grads = value_and_grad(task, *parts, padded=False)
    assert got[1] > 0
    np.testing.assert_allclose(got, want, rtol=1e-5)
    for name, grad in grads.items():
        assert grad.sharding.is_equivalent_to(split, grad.ndim)
        limit = 1e-5 * np.abs(wanted[name]).max()
        np.testing.assert_allclose(grad, wanted[name], rtol=1e-4, atol=limit)
    rules = DetectionRules(0.9, 0.7, 20, multi_label=True, agnostic=False)
    decode = jax.jit(lambda outputs: task.decode(outputs, size, rules).masks)
    one, all_ = decode(outputs), decode(parts[0])
    assert one.any()
    np.testing.assert_array_equal(one, all_)


def test_devices_exchange_no_masks():
    mesh = sharding.make_mesh(None, 8)
    arguments = scene(images=8)
    size = arguments.pop("image_hw")
    arguments = jax.device_put(arguments, NamedSharding(mesh, P("data")))

    def loss(arguments):
        pair = {name: arguments[name] for name in ("coefficients", "protos")}
        total = lambda pair: mask_loss(**(arguments | pair), image_hw=size)
        return jax.value_and_grad(total)(pair)

    def masks(arguments):
        pair, boxes = (
            (arguments["coefficients"][:, :7], arguments["protos"]),
            "gt_boxes",
        )
        return mask_ops.packed_masks(*pair, arguments[boxes], jnp.full(8, 7))

    for function in (loss, masks):
        text = jax.jit(function).lower(arguments).compile().as_text()
        assert "all-gather" not in text
        assert "collective-permute" not in text
        assert "all-to-all" not in text
        assert ("all-reduce" in text) == (function is loss)


@pytest.mark.slow
def test_whole_network_gradients_match_reference(golden):
    values = golden("trainstep_n_segment")
    batch, _, height, width = map(int, values["input_shape"])
    task = task_of(int(values["nc"]))
    model = models.build("yolo11n", task.head(), dtype=jnp.float32, remat=False)
    targets = batch_of(values, (batch, height, width), 8)
    image = rule_image((batch, 3, height, width), "train_image")
    (loss, terms), grads = network_gradients(
        model, image, lambda outputs: task.loss(outputs, targets, padded=True) * batch
    )
    terms = terms / batch
    np.testing.assert_allclose(loss, values["loss_total"], rtol=2e-5)
    want = np.delete(values["loss_item_values"], NOT_OURS)
    np.testing.assert_allclose(terms, want, rtol=2e-5)
    check_gradients(grads, values)


def test_decoded_outputs_match_reference(reference):
    values = reference("forward_n_segment")
    outputs = outputs_of(values)
    size = tuple(map(int, values["input_shape"][2:]))
    boxes, scores = jax.jit(task_of(80).boxes.predict, static_argnums=1)(outputs, size)
    got = np.concatenate(
        [box_ops.xyxy_to_cxcywh(boxes), scores, outputs["masks"]], axis=-1
    )
    want = values["decoded"].transpose(0, 2, 1)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 2e-5 * np.abs(want).max()


def unpack(masks, width):
    return np.unpackbits(np.asarray(masks), axis=-1)[..., :width].astype(bool)


def test_detections_carry_their_masks():
    task, size = task_of(3), (64, 96)
    outputs = random_outputs(2, size, 3)
    rules = DetectionRules(0.8, 0.9, 50, multi_label=True, agnostic=False)
    found = jax.jit(lambda outputs: task.decode(outputs, size, rules))(outputs)
    detect = jax.jit(lambda outputs: task.boxes.detect(outputs, size, rules))
    plain, anchor = jax.device_get(detect(outputs))
    found, outputs = jax.device_get((found, outputs))
    for field in ("boxes", "scores", "classes", "valid"):
        np.testing.assert_allclose(
            getattr(found, field), getattr(plain, field), rtol=1e-5, atol=1e-3
        )
    count = found.valid.sum(1)
    assert 16 < count.max() < 50  # more than one chunk, and some rows are empty
    masks = unpack(found.masks, 24)
    assert found.masks.shape == (2, 50, 16, 3)
    rows, columns = np.mgrid[:16, :24]
    for image in range(2):
        assert masks[image, : count[image]].any()
        assert not masks[image, count[image] :].any()
        for row in range(count[image]):
            coefficients = outputs["masks"][image, anchor[image, row]]
            logits = outputs["protos"][image] @ coefficients
            x1, y1, x2, y2 = found.boxes[image, row] / 4
            inside = (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)
            near = np.abs(logits) < 1e-4  # either side is right there
            want = (logits > 0) & inside
            np.testing.assert_array_equal(masks[image, row] & ~near, want & ~near)


def test_selected_coefficients_match_reference(reference):
    values = reference("nms_segment")
    prediction = values["prediction"].transpose(0, 2, 1)
    classes = int(values["nc"])

    @dataclasses.dataclass(frozen=True)
    class Decoded(Detect):
        """Takes outputs that are boxes and probabilities already."""

        def predict(self, outputs, image_hw):
            return box_ops.cxcywh_to_xyxy(outputs["boxes"]), outputs["scores"]

    rules = DetectionRules(
        conf=float(values["opt_conf"]),
        iou=float(values["opt_iou"]),
        max_det=int(values["opt_max_det"]),
        multi_label=bool(values["opt_multi_label"]),
        agnostic=bool(values["opt_agnostic"]),
    )
    # One prototype pixel of 640 x 640 for each coefficient: the signs are the mask.
    protos = np.eye(32, dtype=np.float32).reshape(1, 1, 32, 32)
    outputs = {
        "boxes": jnp.array(prediction[..., :4]),
        "scores": jnp.array(prediction[..., 4 : 4 + classes]),
        "masks": jnp.array(prediction[..., 4 + classes :]),
        "protos": jnp.array(np.repeat(protos, 2, axis=0)),
    }
    task = Segment(Decoded(classes, GAINS, None))
    decode = jax.jit(lambda outputs: task.decode(outputs, (640, 640), rules))
    found = jax.device_get(decode(outputs))
    for image in range(2):
        want, n = values[f"det{image}"], int(found.valid[image].sum())
        assert n == len(want)
        np.testing.assert_allclose(found.boxes[image, :n], want[:, :4], atol=1e-4)
        np.testing.assert_allclose(found.scores[image, :n], want[:, 4], atol=1e-6)
        np.testing.assert_array_equal(found.classes[image, :n], want[:, 5])
        columns = np.arange(32)[None]
        inside = (columns >= want[:, :1] / 20) & (columns < want[:, 2:3] / 20)
        inside &= want[:, 1:2] <= 0  # the only row of pixels
        masks = unpack(found.masks[image, :n, 0], 32)
        np.testing.assert_array_equal(masks, inside & (want[:, 6:] > 0))


def test_task_is_made_from_its_settings():
    spec = TaskSpec(
        num_classes=3,
        gains=GAINS,
        class_weights=None,
        class_width=80,
        keypoint_shape=None,
        keypoint_sigmas=None,
        pose=12.0,
        kobj=1.0,
        angle=1.0,
        dropout=0.0,
    )
    task = Segment.make(spec)
    head = task.head()(dtype=jnp.float32, name="head")
    assert (head.num_classes, head.class_width, head.name) == (3, 80, "head")
    assert task.initial_biases() == task.boxes.initial_biases()
    assert task.metric_names[3::4] == ("metrics/mAP50-95(B)", "metrics/mAP50-95(M)")
    assert len(task.metric_names) == len(set(task.metric_names)) == 8
    outputs, batch = random_outputs(2, (32, 32), 3), random_batch(2, (32, 32), 2, 3)
    run = functools.partial(task.loss, padded=False)
    terms = jax.eval_shape(run, outputs, batch)
    assert terms.shape == (len(task.loss_names),)
