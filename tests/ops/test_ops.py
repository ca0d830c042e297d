"""Boxes, anchor points and suppression against reference values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolojax.ops import anchors, boxes, nms


def test_anchor_points_and_decoding_match_reference(golden):
    values = golden("decode_boxes")
    points, strides = anchors.anchor_points(
        tuple(map(int, values["imgsz_hw"])), (8, 16, 32)
    )
    np.testing.assert_array_equal(points, values["anchor_points"])
    np.testing.assert_array_equal(strides, values["anchor_strides"][:, 0])
    logits = jnp.array(values["box_logits"].transpose(0, 2, 1))
    ltrb = boxes.expected_distance(logits, 16)
    np.testing.assert_allclose(ltrb, values["ltrb"].transpose(0, 2, 1), atol=1e-4)
    points = jnp.broadcast_to(points[None], (2, 126, 2))
    xyxy = boxes.ltrb_to_xyxy(points, ltrb)
    pixels = xyxy * strides[None, :, None]
    np.testing.assert_allclose(pixels, values["xyxy"].transpose(0, 2, 1), atol=1e-3)
    np.testing.assert_allclose(
        boxes.xyxy_to_cxcywh(pixels), values["xywh"].transpose(0, 2, 1), atol=1e-3
    )
    np.testing.assert_allclose(
        boxes.xyxy_to_ltrb(points, xyxy).clip(0, 14.99),
        values["ltrb_from_xyxy_clamped15"],
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("iou", boxes.iou),
        ("giou", boxes.generalized_iou),
        ("diou", boxes.distance_iou),
        ("ciou", boxes.complete_iou),
    ],
)
def test_overlap_matches_reference(name, function, golden):
    values = golden("iou")
    got = jax.jit(function)(jnp.array(values["box1"]), jnp.array(values["box2"]))
    np.testing.assert_allclose(got, values[name], rtol=2e-6, atol=2e-6)


def test_ciou_gradients_match_reference(golden):
    values = golden("iou")
    n = int(values["n_ordinary"])
    total = lambda a, b: boxes.complete_iou(a, b).sum()
    pair = jnp.array(values["box1"]), jnp.array(values["box2"])
    grads = jax.jit(jax.grad(total, (0, 1)))(*pair)
    for got, name in zip(grads, ("ciou_grad_box1", "ciou_grad_box2"), strict=True):
        np.testing.assert_allclose(got[:n], values[name][:n], rtol=1e-4, atol=3e-6)
        assert jnp.isfinite(got).all()


def test_box_formats_round_trip():
    xyxy = jnp.array([[1.0, 2.0, 5.0, 9.0], [0.0, 0.0, 0.0, 0.0]])
    there = boxes.xyxy_to_cxcywh(xyxy)
    np.testing.assert_allclose(there[0], [3, 5.5, 4, 7])
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(there), xyxy)


def test_scale_boxes_matches_reference(golden):
    values = golden("scale_back")
    for i, case in enumerate(values["cases_in_h_in_w_orig_h_orig_w"]):
        size, original = tuple(map(int, case[:2])), tuple(map(int, case[2:]))
        given = values[f"c{i:02d}_boxes"]
        atol = 1e-5 * max(original)
        np.testing.assert_allclose(
            boxes.scale_boxes(given, size, original),
            values[f"c{i:02d}_boxes_out"],
            atol=atol,
        )
        if f"c{i:02d}_ratio_pad" in values:
            gain_pad = tuple(values[f"c{i:02d}_ratio_pad"])
            np.testing.assert_allclose(
                boxes.scale_boxes(given, size, original, gain_pad),
                values[f"c{i:02d}_boxes_out_ratio_pad"],
                atol=atol,
            )


NMS_CASES = (
    *("predict", "val_multilabel", "agnostic", "classes", "iou45_maxdet10"),
    *("max_nms50", "none_left", "single_class_multilabel", "chain_greedy"),
)


@pytest.mark.parametrize("case", NMS_CASES)
def test_suppression_matches_reference(case, golden):
    values = golden(f"nms_{case}")
    prediction = values["prediction"].transpose(0, 2, 1)
    nc = int(values["nc"])
    keep_classes = None
    if "opt_classes" in values:
        keep_classes = jnp.array(np.isin(np.arange(nc), values["opt_classes"]))
    select = functools.partial(
        nms.select,
        conf=float(values["opt_conf"]),
        iou=float(values["opt_iou"]),
        max_det=int(values["opt_max_det"]),
        multi_label=bool(values["opt_multi_label"]),
        agnostic=bool(values["opt_agnostic"]),
        max_candidates=int(values["opt_max_nms"]),
        keep_classes=keep_classes,
    )

    @jax.jit
    def found_in(prediction):
        corners = boxes.cxcywh_to_xyxy(prediction[..., :4])
        return jax.vmap(select)(corners, prediction[..., 4:])

    found = jax.device_get(found_in(prediction))
    for i in range(prediction.shape[0]):
        box, score, label, anchor = (x[i] for x in found)
        n = int((anchor >= 0).sum())
        want, keep = values[f"det{i}"], values[f"keep{i}"]
        assert n == len(want)
        np.testing.assert_array_equal(anchor[:n], keep)
        np.testing.assert_allclose(box[:n], want[:, :4], atol=1e-4)
        np.testing.assert_allclose(score[:n], want[:, 4], atol=1e-6)
        np.testing.assert_array_equal(label[:n], want[:, 5])
        assert not score[n:].any()
        assert not box[n:].any()


def test_suppression_picks_a_box_without_area_once():
    rules = {
        "conf": 0.1, "iou": 0.5, "max_det": 4, "multi_label": False, "agnostic": False,
    }  # fmt: skip
    found = jax.jit(functools.partial(nms.select, **rules))(
        np.float32([[5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 9.0, 9.0]]),
        np.float32([[0.9], [0.8]]),
    )
    np.testing.assert_array_equal(found[3], [0, 1, -1, -1])
