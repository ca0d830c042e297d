"""Detection metrics: reference values, scenes computed by hand, empty input."""

import json

import numpy as np
import pytest
from places import GOLDEN

from yolojax.metrics import confusion
from yolojax.metrics.average_precision import (
    CONFIDENCES,
    IOU_THRESHOLDS,
    PerClass,
    assign,
    average_precision,
    box_iou,
    match,
    per_class,
    smooth,
)
from yolojax.metrics.detection import DetectionMetrics, DetectionResult

SETS = ("det_a", "det_b", "det_coco128val")


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"metrics_{name}.npz", allow_pickle=False) as file:
        return dict(file)


def run(z: dict[str, np.ndarray], confusion_conf: float = 0.001) -> DetectionResult:
    result, _ = run_with_state(z, confusion_conf)
    return result


def run_with_state(z, confusion_conf):
    metrics = DetectionMetrics(confusion_conf=confusion_conf)
    for i in range(int(z["n_images"])):
        gt, dt = z["gt/image"] == i, z["dt/image"] == i
        metrics.update(
            z["gt/boxes"][gt],
            z["gt/cls"][gt],
            z["dt/boxes"][dt],
            z["dt/conf"][dt],
            z["dt/cls"][dt],
        )
    nc = len(z["nt_per_class"])
    return metrics.compute([f"class{i}" for i in range(nc)]), metrics


@pytest.mark.parametrize("name", SETS)
def test_reference_matches_are_exact(name):
    z = load(name)
    _, metrics = run_with_state(z, 0.25)
    # The file may interleave images; bring its rows into image order.
    order = np.argsort(z["dt/image"], kind="stable")
    np.testing.assert_array_equal(np.concatenate(metrics.correct), z["tp"][order])


def check_numbers(found: PerClass, z: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(found.classes, z["classes"])
    np.testing.assert_array_equal(found.tp, z["tp_at_max_f1"])
    np.testing.assert_array_equal(found.fp, z["fp_at_max_f1"])
    assert found.max_f1_index == int(z["max_f1_index"])
    pairs = {
        "ap": found.ap,
        "precision": found.precision,
        "recall": found.recall,
        "f1": found.f1,
        "p_curve": found.precision_curve[:, ::10],
        "r_curve": found.recall_curve[:, ::10],
        "f1_curve": found.f1_curve[:, ::10],
        "prec_values": found.prec_values[:, ::10],
    }
    for key, value in pairs.items():
        np.testing.assert_allclose(value, z[key], atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ("det_b", "det_coco128val"))
def test_reference_numbers(name):
    z = load(name)
    result = run(z)
    check_numbers(result.per_class, z)
    np.testing.assert_allclose(result.maps, z["maps_per_class"], atol=1e-6)
    summary = result.summary()
    for key, value in json.loads(str(z["results_json"])).items():
        assert summary[key] == pytest.approx(value, abs=1e-6), key


def test_reference_numbers_with_equal_scores():
    # det_a has equal scores in different images, and the reference values come from an
    # unstable sort. Given its order of the ties, the numbers agree to the last digit;
    # our own order, by image, may differ a little.
    z = load("det_a")
    order = load("det_a_order")["order"]
    rows = (z[key][order] for key in ("tp", "dt/conf", "dt/cls"))
    check_numbers(per_class(*rows, z["gt/cls"]), z)
    result = run(z)
    np.testing.assert_allclose(result.per_class.ap, z["ap"], atol=3e-3)
    summary = result.summary()
    for key, value in json.loads(str(z["results_json"])).items():
        assert summary[key] == pytest.approx(value, abs=2e-4), key


@pytest.mark.parametrize("name", SETS)
def test_reference_counts(name):
    z = load(name)
    result = run(z)
    np.testing.assert_array_equal(result.nt_per_class, z["nt_per_class"])
    np.testing.assert_array_equal(result.nt_per_image, z["nt_per_image"])


@pytest.mark.parametrize("name", ("det_a", "det_b"))
def test_reference_per_image(name):
    z = load(name)
    np.testing.assert_allclose(
        run(z).per_image, z["per_image_p_r_f1_tp_fp_fn"], atol=1e-6
    )


@pytest.mark.parametrize("name", SETS)
def test_reference_confusion_is_exact(name):
    z = load(name)
    keys = [key for key in z if key.startswith("confusion_conf_")]
    assert keys
    for key in keys:
        result = run(z, float(key.removeprefix("confusion_conf_")))
        np.testing.assert_array_equal(result.confusion, z[key], err_msg=key)


@pytest.mark.parametrize("name", ("det_a", "det_b"))
def test_reference_iou(name):
    z = load(name)
    gt, dt = (z[f"{k}/image"] == int(z["iou_example_image"]) for k in ("gt", "dt"))
    iou = box_iou(z["gt/boxes"][gt], z["dt/boxes"][dt])
    assert iou.dtype == np.float32
    np.testing.assert_allclose(iou, z["iou_example"], atol=1e-6)


def test_reference_blocks():
    z = load("blocks")
    np.testing.assert_array_equal(IOU_THRESHOLDS, z["iou_thresholds_f32"])
    np.testing.assert_allclose(
        box_iou(z["ioa/box1"], z["ioa/box2"]), z["ioa/iou"], atol=1e-6
    )
    for i in range(6):
        ap, envelope, recalls = average_precision(
            z[f"ap{i}/recall"], z[f"ap{i}/precision"]
        )
        np.testing.assert_allclose(ap, z[f"ap{i}/ap"], atol=1e-12)
        np.testing.assert_allclose(envelope, z[f"ap{i}/mpre"], atol=1e-12)
        np.testing.assert_allclose(recalls, z[f"ap{i}/mrec"], atol=1e-12)
        correct = match(
            z[f"match{i}/iou"], z[f"match{i}/gt_cls"], z[f"match{i}/pred_cls"]
        )
        np.testing.assert_array_equal(correct, z[f"match{i}/tp"], err_msg=str(i))
    for i in range(3):
        for share in (0.1, 0.05):
            expected = z[f"smooth{i}/out_f{share}"]
            np.testing.assert_allclose(
                smooth(z[f"smooth{i}/in"], share), expected, atol=1e-12
            )


def slow_match(similarity, thresholds):
    """The matching policy word for word."""
    out = np.full((len(thresholds), similarity.shape[1]), -1)
    for k, threshold in enumerate(thresholds):
        free = similarity.copy()
        for d in range(similarity.shape[1]):
            g = int(np.argmax(free[:, d]))
            if free[g, d] >= threshold:
                out[k, d] = g
                free[g] = 0
    return out


@pytest.mark.parametrize("seed", range(30))
def test_assign_follows_the_policy(seed):
    rng = np.random.default_rng([seed])
    t, d = rng.integers(1, 12), rng.integers(1, 40)
    similarity = rng.random((t, d)).astype(np.float32)
    if seed % 2:  # coarse values: many exact ties
        similarity = (similarity * 5).round() / np.float32(5)
    thresholds = np.array([0.3, 0.5, 0.8, 1.0], np.float32)
    np.testing.assert_array_equal(
        assign(similarity, thresholds), slow_match(similarity, thresholds)
    )


BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 70, 10]], np.float32)
CLASSES = np.array([0, 1, 1])
NONE = np.zeros((0, 4), np.float32), np.zeros(0, int)


def scene(*images, names=("a", "b")) -> DetectionResult:
    metrics = DetectionMetrics(confusion_conf=0.25)
    for image in images:
        metrics.update(*image)
    return metrics.compute(names)


def test_perfect_detector():
    result = scene((BOXES, CLASSES, BOXES, np.array([0.9, 0.8, 0.7]), CLASSES))
    assert result.map == pytest.approx(0.995)
    assert result.map50 == result.map75 == pytest.approx(0.995)
    assert result.precision == result.recall == pytest.approx(1)
    np.testing.assert_array_equal(result.confusion, np.diag([1, 2, 0]))
    np.testing.assert_array_equal(result.per_image, [[1, 1, 1, 3, 0, 0]])


def test_blind_detector():
    result = scene((BOXES, CLASSES, NONE[0], NONE[1], NONE[1]))
    assert result.map == result.map50 == result.precision == result.recall == 0
    np.testing.assert_array_equal(result.confusion[2], [1, 2, 0])
    np.testing.assert_array_equal(result.per_image, [[0, 0, 0, 0, 0, 3]])
    assert not result.per_class.precision_curve.any()


def test_half_of_the_targets_found():
    # Class 1 has two targets, one found, no false positive: precision is 1 up to recall
    # 0.49 and 0 from 0.50 on. Trapezoid over 101 points: 0.49 + half a step of 0.01.
    boxes, classes = BOXES[1:], CLASSES[1:]
    result = scene((boxes, classes, boxes[:1], np.array([0.9]), classes[:1]))
    assert result.map == pytest.approx(0.495)
    assert (result.precision, result.recall) == pytest.approx((1, 0.5))
    np.testing.assert_array_equal(result.per_class.classes, [1])
    np.testing.assert_allclose(result.maps, [0.495, 0.495])  # class 0: overall mean
    np.testing.assert_allclose(result.per_image, [[1, 0.5, 2 / 3, 1, 0, 1]])


def test_shifted_box_counts_up_to_its_iou():
    # 10 x 10 against itself moved by 2.4: IoU 7.6 / 12.4 = 0.613.
    target = np.array([[0, 0, 10, 10]])
    moved = np.array([[2.4, 0, 12.4, 10]])
    result = scene((target, [0], moved, [0.9], [0]))
    np.testing.assert_allclose(result.per_class.ap[0], [0.995] * 3 + [0] * 7)


def test_wrong_class_is_a_false_positive_and_a_confusion():
    result = scene((BOXES[:1], [0], BOXES[:1], [0.9], [1]))
    assert result.map == 0
    np.testing.assert_array_equal(result.confusion, [[0, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_second_detection_of_a_target_is_a_false_positive():
    twice = np.repeat(BOXES[:1], 2, 0)
    result = scene((BOXES[:1], [0], twice, [0.9, 0.8], [0, 0]))
    assert result.map50 == pytest.approx(0.995)  # the duplicate comes after recall 1
    np.testing.assert_array_equal(result.per_image[0, 3:], [1, 1, 0])
    np.testing.assert_array_equal(result.confusion, [[1, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_confusion_thresholds_are_strict():
    exact = np.float32([[0.45]])
    above = np.nextafter(exact, np.float32(1))
    for similarity, expected in ((exact, [[0, -1], [-1, 0]]), (above, [[0, 0]])):
        entries = confusion.pairs(similarity, [0], np.float32([0.5]), [0], 0.25)
        np.testing.assert_array_equal(entries, expected)
    entries = confusion.pairs(above, [0], np.float32([0.25]), [0], 0.25)
    np.testing.assert_array_equal(entries, [[-1, 0]])


def test_confusion_normalized_columns():
    shares = confusion.normalize(np.array([[3, 0, 1], [1, 0, 1], [0, 0, 0]]))
    np.testing.assert_allclose(
        shares, [[0.75, 0, 0.5], [0.25, 0, 0.5], [0, 0, 0]], atol=1e-8
    )


def test_nothing_at_all():
    for result in (scene(), scene((*NONE, NONE[0], NONE[1], NONE[1]))):
        assert result.map == result.precision == 0
        assert result.per_class.ap.shape == (0, 10)
        np.testing.assert_array_equal(result.maps, [0, 0])
        np.testing.assert_array_equal(result.nt_per_class, [0, 0])
        assert not result.confusion.any()
        assert result.per_class.confidence == 0
    assert result.images == 1
    np.testing.assert_array_equal(result.per_image, [[1, 1, 1, 0, 0, 0]])


def test_image_without_targets_costs_precision_only():
    found = (BOXES[:1], [0], BOXES[:1], [0.5], [0])
    spurious = (*NONE, BOXES[:1], [0.9], [0])
    result = scene(found, spurious)
    # The false positive ranks first: precision 1/2 at recall 1.
    assert result.map50 == pytest.approx(0.5 * 0.995)
    np.testing.assert_array_equal(result.per_image[1], [0, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(result.nt_per_image, [1, 0])


def test_image_order_does_not_matter():
    z = load("det_b")
    base = run(z)
    n = int(z["n_images"])
    for key in ("gt/image", "dt/image"):
        z[key] = n - 1 - z[key]
    np.testing.assert_allclose(run(z).per_class.ap, base.per_class.ap, atol=1e-9)
    np.testing.assert_array_equal(run(z).confusion, base.confusion)


def test_curves_fall_and_rise_with_confidence():
    found = run(load("det_a")).per_class
    assert (np.diff(found.recall_curve) <= 1e-12).all()
    assert (np.diff(found.prec_values) <= 1e-12).all()
    assert found.confidence == CONFIDENCES[found.max_f1_index]


def test_other_similarities_share_everything():
    metrics = DetectionMetrics(confusion_conf=0.25)
    metrics.update_similarity(np.array([[0.72]]), [0], [0.9], [0])
    result = metrics.compute(["a"])
    assert result.map == pytest.approx(0.5 * 0.995)  # 0.50 .. 0.70: five of ten
    assert result.summary("M")["metrics/mAP50(M)"] == pytest.approx(0.995)


def test_bad_input_is_refused():
    metrics = DetectionMetrics(confusion_conf=0.25)
    with pytest.raises(ValueError, match="descending"):
        metrics.update(BOXES[:2], [0, 0], BOXES[:2], [0.1, 0.9], [0, 0])
    with pytest.raises(ValueError, match="finite"):
        metrics.update(BOXES[:1], [0], BOXES[:1], [np.nan], [0])
    with pytest.raises(ValueError, match="similarity matrix"):
        metrics.update(BOXES[:2], [0], BOXES[:1], [0.5], [0])
    assert not metrics.scores and not metrics.correct  # a refused image leaves no trace
    metrics.update(BOXES[:1], [2], BOXES[:1], [0.5], [0])
    with pytest.raises(ValueError, match="class id 2 is outside 0..1"):
        metrics.compute(["a", "b"])
