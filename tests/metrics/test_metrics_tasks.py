"""Metrics of masks, keypoints, rotated boxes and whole images."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from yolojax.metrics.average_precision import per_class
from yolojax.metrics.classification import ClassifyMetrics
from yolojax.metrics.detection import DetectionMetrics
from yolojax.metrics.pose import PoseMetrics, keypoint_similarity
from yolojax.metrics.rotated import RotatedMetrics, probabilistic_iou
from yolojax.metrics.segmentation import (
    SegmentMetrics,
    mask_iou,
    resize,
    target_masks,
)

SIDE = 640  # of the frame of the reference's boxes
EXTRA = ("masks_packed", "keypoints", "angles")


def as_xyxy(boxes):
    """Centre and size to corners; further columns are angles."""
    low, high = boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2
    return np.concatenate([low, high], 1), boxes[:, 4]


def padded(z, side, images):
    """The rows of some images as arrays [B, n, ...], and which of them are real."""
    rows = [np.flatnonzero(z[f"{side}/image"] == i) for i in images]
    most = max(1, *map(len, rows))
    keys = ("boxes", "cls", "conf", *EXTRA)
    keys = tuple(key for key in keys if f"{side}/{key}" in z)
    valid = np.zeros((len(images), most), bool)
    arrays = {}
    for key in keys:
        values = z[f"{side}/{key}"]
        arrays[key] = np.full((len(images), most, *values.shape[1:]), 7, values.dtype)
    for i, row in enumerate(rows):
        valid[i, : len(row)] = True
        for key in keys:
            arrays[key][i, : len(row)] = z[f"{side}/{key}"][row]
    return arrays, valid


def batches(z, size=8):
    """The reference's images as host batches; the last row of each is no image."""
    if z["gt/boxes"].shape[1] == 5:
        for side in ("gt", "dt"):
            z[f"{side}/boxes"], z[f"{side}/angles"] = as_xyxy(z[f"{side}/boxes"])
    for start in range(0, int(z["n_images"]), size):
        images = [*range(start, start + size), start]
        targets, there = padded(z, "gt", images)
        detections, valid = padded(z, "dt", images)
        host = {
            "image": np.zeros((len(images), SIDE, SIDE, 3), np.uint8),
            "example_valid": np.arange(len(images)) < size,
            "boxes": targets["boxes"],
            "classes": targets["cls"],
            "valid": there,
        }
        host |= {key: targets[key] for key in EXTRA if key in targets}
        if "masks_packed" in targets:
            host["masks"] = np.unpackbits(host.pop("masks_packed"), axis=-1)
        found = SimpleNamespace(
            boxes=detections["boxes"],
            scores=detections["conf"],
            classes=detections["cls"],
            valid=valid,
            masks=detections.get("masks_packed"),
            keypoints=detections.get("keypoints"),
            angles=detections.get("angles"),
        )
        yield host, found


def run(z, metrics):
    for host, found in batches(z):
        metrics.update_batch(host, found)
    return metrics.compute([f"class{i}" for i in range(len(z["nt_per_class"]))])


def check(found, z, prefix):
    np.testing.assert_array_equal(found.classes, z[f"{prefix}classes"])
    np.testing.assert_array_equal(found.tp, z[f"{prefix}tp_at_max_f1"])
    np.testing.assert_array_equal(found.fp, z[f"{prefix}fp_at_max_f1"])
    assert found.max_f1_index == int(z[f"{prefix}max_f1_index"])
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
        np.testing.assert_allclose(value, z[prefix + key], atol=1e-6, err_msg=key)


def check_part(z, order, result, accumulator, prefix=""):
    """Exact matches; exact numbers in the reference's order of equal scores."""
    by_image = np.argsort(z["dt/image"], kind="stable")
    correct = np.concatenate(accumulator.correct)
    np.testing.assert_array_equal(correct, z[f"{prefix}tp"][by_image])
    rows = (z[key][order] for key in (f"{prefix}tp", "dt/conf", "dt/cls"))
    check(per_class(*rows, z["gt/cls"]), z, prefix)
    np.testing.assert_allclose(result.per_class.ap, z[f"{prefix}ap"], atol=3e-3)


def check_summary(z, result):
    """Equal scores come in another order than the reference's unstable sort."""
    summary, expected = result.summary(), json.loads(str(z["results_json"]))
    assert [*summary][: len(expected)] == [*expected]
    assert [*expected][-1] == "fitness"
    for key, value in expected.items():
        assert summary[key] == pytest.approx(value, abs=2e-3), key
        assert isinstance(summary[key], float)
    np.testing.assert_allclose(summary["maps"], z["maps_per_class"], atol=1e-3)
    for key in ("nt_per_class", "nt_per_image"):
        np.testing.assert_array_equal(summary[key], z[key])
    assert result.images == int(z["n_images"])


def check_two_parts(z, order, metrics, part, second):
    result = run(z, metrics)
    assert [*result.parts] == ["Box", part]
    check_part(z, order, result.parts["Box"], metrics.boxes)
    check_part(z, order, result.parts[part], second, f"{part.lower()}/")
    np.testing.assert_array_equal(result.confusion, z["confusion_conf_0.001"])
    assert result.parts[part].confusion is result.confusion
    check_summary(z, result)


# metrics_orders.npz holds the reference's order of detections, with its order of equal
# scores: np.argsort(-scores), which is not stable.


def test_masks_match_the_reference(golden):
    order = golden("metrics_orders")["mask"]
    metrics = SegmentMetrics(0.001)
    check_two_parts(golden("metrics_mask"), order, metrics, "Mask", metrics.masks)


def test_five_keypoints_match_the_reference(golden):
    z, order = golden("metrics_pose5"), golden("metrics_orders")["pose5"]
    metrics = PoseMetrics(0.001, z["sigmas"])
    check_two_parts(z, order, metrics, "Pose", metrics.poses)


def test_keypoints_of_people_match_the_reference(golden, assets):
    z = dict(np.load(assets / "golden" / "metrics_pose17.npz"))
    metrics = PoseMetrics(0.001, z["sigmas"])
    order = golden("metrics_orders")["pose17"]
    check_two_parts(z, order, metrics, "Pose", metrics.poses)


@pytest.mark.parametrize("conf", ("0.001", "0.1", "0.25", "0.5"))
def test_rotated_boxes_match_the_reference(golden, conf):
    z, order = golden("metrics_obb"), golden("metrics_orders")["obb"]
    metrics = RotatedMetrics(float(conf))
    result = run(z, metrics)
    check_part(z, order, result, metrics.boxes)
    np.testing.assert_array_equal(result.confusion, z[f"confusion_conf_{conf}"])
    check_summary(z, result)
    assert result.parts == {"Box": result}


def example(z, key):
    image = int(z[f"{key}_image"])
    return z["gt/image"] == image, z["dt/image"] == image


def test_similarities_match_the_reference(golden):
    z = golden("metrics_mask")
    g, d = example(z, "mask_iou_example")
    everything = np.ones((g.sum(), d.sum()), bool)
    similarity = mask_iou(z["gt/masks_packed"][g], z["dt/masks_packed"][d], everything)
    np.testing.assert_allclose(similarity, z["mask_iou_example"], atol=1e-7)
    z = golden("metrics_pose5")
    g, d = example(z, "oks_example")
    similarity = keypoint_similarity(
        z["gt/keypoints"][g], z["gt/boxes"][g], z["dt/keypoints"][d], z["sigmas"]
    )
    np.testing.assert_allclose(similarity, z["oks_example"], atol=1e-6)
    z = golden("metrics_obb")
    g, d = example(z, "probiou_example")
    pairs = (*as_xyxy(z["gt/boxes"][g]), *as_xyxy(z["dt/boxes"][d]))
    similarity = probabilistic_iou(*pairs)
    np.testing.assert_allclose(similarity, z["probiou_example"], atol=1e-6)


@pytest.mark.parametrize("prefix", ("nc3", "nc10"))
def test_classes_match_the_reference(golden, prefix):
    z = golden("metrics_classify")
    metrics = ClassifyMetrics()
    for rows in np.split(np.arange(200), [64, 128]):
        # A padding row, which must not count, at the end of each batch.
        rows = np.append(rows, 0)
        host = {
            "labels": z[f"{prefix}/targets"][rows].astype(np.int32),
            "example_valid": np.arange(len(rows)) < len(rows) - 1,
        }
        probabilities = z[f"{prefix}/probs"][rows]
        metrics.update_batch(host, SimpleNamespace(probabilities=probabilities))
    np.testing.assert_array_equal(np.concatenate(metrics.guesses), z[f"{prefix}/topk"])
    nc = int(prefix[2:])
    result = metrics.compute([str(i) for i in range(nc)])
    np.testing.assert_array_equal(result.confusion, z[f"{prefix}/confusion"])
    summary = result.summary()
    numbers = [summary[f"metrics/accuracy_top{k}"] for k in (1, 5)]
    expected = z[f"{prefix}/top1_top5_fitness"]
    np.testing.assert_allclose([*numbers, summary["fitness"]], expected, atol=1e-6)
    assert [*summary][:3] == [
        "metrics/accuracy_top1",
        "metrics/accuracy_top5",
        "fitness",
    ]
    assert (result.images, result.parts) == (200, {})
    counts = np.bincount(z[f"{prefix}/targets"], minlength=nc)
    np.testing.assert_array_equal(result.nt_per_class, counts)


def test_guesses_of_a_small_scene():
    metrics = ClassifyMetrics()
    host = {"labels": np.array([0, 0, 6]), "example_valid": np.ones(3, bool)}
    guess = np.array(
        [[5, 4, 3, 2, 1, 0, 0], [5, 6, 1, 1, 1, 1, 1], [6, 5, 4, 3, 2, 1, 0]]
    )
    metrics.update_batch(host, SimpleNamespace(probabilities=guess / 20))
    result = metrics.compute("abcdefg")
    # The last image's class is its worst guess; ties go to the lower class.
    assert (result.top1, result.top5) == pytest.approx((1 / 3, 2 / 3))
    np.testing.assert_array_equal(result.top5_hits, [2, 0, 0, 0, 0, 0, 0])


def test_classes_without_images_and_bad_input():
    result = ClassifyMetrics().compute(["a", "b"])
    assert result.top1 == result.top5 == result.images == 0
    assert result.confusion.shape == (2, 2)
    metrics = ClassifyMetrics()
    host = {"labels": np.array([2]), "example_valid": np.ones(1, bool)}
    with pytest.raises(ValueError, match="not finite"):
        found = SimpleNamespace(probabilities=np.array([[np.nan, 1]]))
        metrics.update_batch(host, found)
    found = SimpleNamespace(probabilities=np.array([[0.3, 0.7]]))
    metrics.update_batch(host, found)
    with pytest.raises(ValueError, match=r"label 2 is outside 0\.\.1"):
        metrics.compute(["a", "b"])


def test_a_batch_counts_like_its_images(golden):
    z = golden("metrics_det_b")
    batchwise, single = DetectionMetrics(0.25), DetectionMetrics(0.25)
    names = [str(i) for i in range(len(z["nt_per_class"]))]
    found = run(z, batchwise)
    for i in range(int(z["n_images"])):
        gt, dt = z["gt/image"] == i, z["dt/image"] == i
        detections = (z[f"dt/{key}"][dt] for key in ("boxes", "conf", "cls"))
        single.update(z["gt/boxes"][gt], z["gt/cls"][gt], *detections)
    np.testing.assert_array_equal(found.confusion, single.compute(names).confusion)
    np.testing.assert_array_equal(
        found.per_class.ap, single.compute(names).per_class.ap
    )


def packed(*masks):
    return np.packbits(np.array(masks, bool), axis=-1)


def test_mask_overlap_is_counted_in_pixels():
    rng = np.random.default_rng([0])
    a, b = rng.random((3, 11, 13)) > 0.5, rng.random((4, 11, 13)) > 0.5
    wanted = rng.random((3, 4)) > 0.3
    inter = (a[:, None] & b).sum((2, 3))
    union = (a[:, None] | b).sum((2, 3))
    similarity = mask_iou(packed(*a), packed(*b), wanted)
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(similarity, wanted * inter / union, atol=1e-6)
    empty = mask_iou(
        packed(np.zeros((4, 4))), packed(np.zeros((4, 4))), np.ones((1, 1))
    )
    np.testing.assert_array_equal(empty, [[0]])
    for t, d in ((0, 4), (3, 0), (0, 0)):
        assert mask_iou(packed(*a)[:t], packed(*b)[:d], wanted[:t, :d]).shape == (t, d)
    with pytest.raises(ValueError, match="do not fit"):
        mask_iou(packed(*a), packed(*b)[:, 1:], wanted)


def test_both_forms_of_target_masks_agree():
    index_map = np.array([[0, 1, 1], [3, 3, 0]])
    slots = np.array([0, 2])
    masks = target_masks(index_map, slots)
    np.testing.assert_array_equal(masks[0], [[0, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(masks[1], [[0, 0, 0], [1, 1, 0]])
    one_each = np.stack([index_map == 1, index_map == 2, index_map == 3])
    np.testing.assert_array_equal(target_masks(one_each.astype(np.uint8), slots), masks)


def test_target_masks_of_another_size_are_resized():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, :, :4] = True  # the border falls between two pixels
    masks[1, 0, 0] = masks[1, 0, 1] = True  # half of a pixel: not above one half
    halved = resize(masks, (4, 4))
    np.testing.assert_array_equal(
        halved[0], np.tile([True, True, False, False], (4, 1))
    )
    assert not halved[1].any()
    np.testing.assert_array_equal(resize(halved, (8, 8))[0], masks[0])
    assert resize(masks[:0], (4, 4)).shape == (0, 4, 4)
    # Three quarters of the way along: linear interpolation of pixel centres.
    wide = resize(np.array([[[True, False]]]), (1, 8))
    np.testing.assert_array_equal(wide[0, 0], [True] * 4 + [False] * 4)


@pytest.mark.parametrize("ratio", (1, 2, 8))
def test_masks_of_other_ratios_are_compared_at_a_quarter(ratio):
    """A half plane keeps its border at every size, so its mask matches itself."""
    side = 64
    host = {
        "image": np.zeros((1, side, side, 3), np.uint8),
        "example_valid": np.ones(1, bool),
        "boxes": np.array([[[0, 0, 32, 64]]], np.float32),
        "classes": np.zeros((1, 1), int),
        "valid": np.ones((1, 1), bool),
        "masks": np.zeros((1, side // ratio, side // ratio), np.int32),
    }
    host["masks"][0, :, : side // ratio // 2] = 1
    quarter = np.zeros((1, 1, side // 4, side // 4), bool)
    quarter[..., : side // 8] = True
    found = SimpleNamespace(
        boxes=host["boxes"],
        scores=np.array([[0.9]]),
        classes=host["classes"],
        valid=host["valid"],
        masks=np.packbits(quarter, axis=-1),
    )
    metrics = SegmentMetrics(0.25)
    metrics.update_batch(host, found)
    result = metrics.compute(["a"])
    assert result.parts["Mask"].map == pytest.approx(0.995)
    assert result.summary()["fitness"] == pytest.approx(1.99)


def test_unlabelled_keypoints_do_not_count():
    box = np.array([[0, 0, 100, 100]], np.float32)
    true = np.array([[[10, 10, 2], [50, 50, 0], [90, 90, 1]]], np.float32)
    near = true.copy()
    near[0, 1, :2] = 1e6  # far away, but not labelled
    sigmas = np.full(3, 0.1)
    assert keypoint_similarity(true, box, near, sigmas)[0, 0] == pytest.approx(1)
    true[..., 2] = 0
    assert keypoint_similarity(true, box, near, sigmas)[0, 0] == 0
    # One of two 0.2 * sqrt(0.53) * 100 px away: exp(-1/2), and the mean with 1.
    true[0, :2, 2] = 1
    moved = true.copy()
    moved[0, 0, 0] += 0.2 * np.sqrt(0.53) * 100
    similarity = keypoint_similarity(true, box, moved, sigmas)[0, 0]
    assert similarity == pytest.approx((1 + np.exp(-0.5)) / 2, abs=1e-5)
    with pytest.raises(ValueError, match="3 keypoints, detections 2"):
        keypoint_similarity(true, box, near[:, :2], sigmas)
    assert keypoint_similarity(true[:0], box[:0], near, sigmas).shape == (0, 1)


def test_rotated_boxes_are_compared_with_their_angle():
    box = np.array([[10, 40, 90, 60]], np.float32)
    turned = np.array([[40, 10, 60, 90]], np.float32)
    zero, quarter = np.zeros(1), np.full(1, np.pi / 2)
    same = probabilistic_iou(box, zero, turned, quarter)
    assert same[0, 0] == pytest.approx(1, abs=1e-3)
    assert probabilistic_iou(box, zero, box, quarter)[0, 0] < 0.5
    assert probabilistic_iou(box, zero, box + 1000, zero)[0, 0] < 1e-3
    flat = np.array([[5, 5, 5, 5]], np.float32)
    assert np.isfinite(probabilistic_iou(flat, zero, box, zero)).all()
    assert np.isfinite(probabilistic_iou(flat, zero, flat, zero)).all()
    assert probabilistic_iou(box, zero, box[:0], zero[:0]).shape == (1, 0)


def test_nothing_at_all():
    for metrics in (
        SegmentMetrics(0.25),
        PoseMetrics(0.25, [0.1]),
        RotatedMetrics(0.25),
    ):
        result = metrics.compute(["a", "b"])
        assert result.summary()["fitness"] == 0
        assert result.images == 0 and not result.confusion.any()


def test_a_second_part_keeps_no_confusion_matrix_of_its_own():
    metrics = DetectionMetrics(None)
    metrics.update_similarity(np.array([[0.9]]), [0], [0.9], [0])
    assert not metrics.compute(["a"]).confusion.any()
    assert metrics.compute(["a"]).map50 == pytest.approx(0.995)
