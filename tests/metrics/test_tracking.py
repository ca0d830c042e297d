"""HOTA, CLEAR and IDF1: published numbers, hand-made videos, properties."""

import numpy as np
import pytest
from places import GOLDEN

from yolojax.metrics.tracking import ALPHAS, TrackingMetrics
from yolojax.tracking.mot import read_mot

# Of two other implementations, to four decimals.
PUBLISHED = {
    "Campus": {
        "HOTA": 0.3914,
        "DetA": 0.4180,
        "AssA": 0.3691,
        "LocA": 0.7701,
        "MOTA": 0.5265,
        "IDF1": 0.5577,
        "IDSW": 7,
    },
    "Stadtmitte": {
        "HOTA": 0.3978,
        "DetA": 0.3923,
        "AssA": 0.4088,
        "LocA": 0.7375,
        "MOTA": 0.5640,
        "IDF1": 0.6446,
        "IDSW": 7,
    },
}


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Returns (truth, result) of each sequence."""
    folder = tmp_path_factory.mktemp("mot")
    found = {}
    with np.load(GOLDEN / "mot_tud.npz") as texts:
        for name in PUBLISHED:
            rows = []
            for part in ("gt", "test"):
                path = folder / f"{name}_{part}.txt"
                path.write_bytes(texts[f"{name}_{part}"].tobytes())
                rows.append(read_mot(path))
            found[name] = tuple(rows)
    return found


def add(metrics, truth, found):
    for frame in range(1, max(truth.frames.max(), found.frames.max()) + 1):
        true, given = (rows.take(rows.frames == frame) for rows in (truth, found))
        metrics.update(true.boxes, true.ids, given.boxes, given.ids)
    return metrics


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(sequences, name):
    summary = add(TrackingMetrics(), *sequences[name]).compute().summary()
    for key, value in PUBLISHED[name].items():
        assert summary[key] == pytest.approx(value, abs=5.1e-5), key


def test_several_videos_are_summed_over_their_boxes(sequences):
    metrics, each = TrackingMetrics(), []
    for rows in sequences.values():
        add(metrics, *rows)
        metrics.next_sequence()
        each.append(add(TrackingMetrics(), *rows).compute())
    both = metrics.compute()
    for name in ("fp", "fn", "idsw", "idtp", "true_boxes", "boxes", "frames"):
        assert getattr(both, name) == sum(getattr(one, name) for one in each), name
    low, high = sorted(one.hota for one in each)
    assert low - 0.005 < both.hota < high + 0.005


# Hand-made videos: two objects that stand still, far apart.

TRUE = np.array([[0, 0, 10, 10], [50, 0, 60, 10]], float)


def video(ids, boxes=TRUE, true_ids=(1, 2)):
    """Returns the result of frames in which the tracks have these identities.

    An identity of 0 means that there is no track.
    """
    metrics = TrackingMetrics()
    for frame in np.array(ids):
        seen = frame > 0
        metrics.update(TRUE, np.array(true_ids), boxes[seen], frame[seen])
    return metrics.compute()


def test_a_perfect_result():
    summary = video([[8, 9]] * 5).summary()
    for name in ("HOTA", "DetA", "AssA", "LocA", "MOTA", "IDF1", "IDP", "IDR"):
        assert summary[name] == pytest.approx(1), name
    assert summary["IDSW"] == summary["FP"] == summary["FN"] == 0


def test_a_switch_in_the_middle():
    """One identity for 4 frames, another for 4: half of every association."""
    result = video([[8, 9]] * 4 + [[7, 9]] * 4)
    assert result.idsw == 1 and result.fp == result.fn == 0
    assert result.mota == pytest.approx(1 - 1 / 16)
    assert result.idf1 == pytest.approx(12 / 16)
    np.testing.assert_allclose(result.det_a, 1)
    np.testing.assert_allclose(result.ass_a, (8 * 0.5 + 8 * 1) / 16)
    assert result.hota == pytest.approx(np.sqrt(0.75))


def test_exchanged_identities_are_two_switches():
    result = video([[8, 9]] * 6 + [[9, 8]] * 2)
    assert result.idsw == 2
    assert result.idf1 == pytest.approx(12 / 16)
    np.testing.assert_allclose(result.ass_a, (12 * 6 / 10 + 4 * 2 / 14) / 16)


def test_a_gap_is_no_switch_but_a_miss():
    result = video([[8, 9], [0, 9], [8, 9]])
    assert (result.idsw, result.fn, result.fp) == (0, 1, 0)
    assert result.idr == pytest.approx(5 / 6) and result.idp == 1
    # A switch is noticed across a gap.
    assert video([[8, 9], [0, 9], [7, 9]]).idsw == 1


def test_boxes_beside_the_objects_count_up_to_their_overlap():
    boxes = TRUE + np.array([2.0, 0, 2, 0])  # IoU 8 / 12
    result = video([[8, 9]] * 4, boxes)
    np.testing.assert_array_equal(result.det_a > 0, ALPHAS < 2 / 3)
    np.testing.assert_allclose(result.loc_a[result.det_a > 0], 2 / 3, rtol=1e-5)
    assert result.mota == 1
    result = video([[8, 9]] * 4, TRUE + np.array([5.0, 0, 5, 0]))  # IoU 1 / 3
    assert (result.fp, result.fn, result.idtp) == (8, 8, 0)
    assert result.mota == -1


def test_a_pair_goes_on_while_it_can():
    """A second box that fits better is no reason to switch."""
    metrics = TrackingMetrics()
    near = TRUE[:1] + np.array([2.0, 0, 2, 0])
    metrics.update(TRUE[:1], np.array([1]), near, np.array([8]))
    both = np.concatenate([near, TRUE[:1]])
    metrics.update(TRUE[:1], np.array([1]), both, np.array([8, 9]))
    result = metrics.compute()
    assert (result.idsw, result.fp, result.fn) == (0, 1, 0)


def test_names_and_order_do_not_matter():
    rng = np.random.default_rng(0)
    one, other = TrackingMetrics(), TrackingMetrics()
    for _ in range(20):
        true = rng.uniform(0, 100, (6, 2))
        true = np.concatenate([true, true + 20], axis=1)
        found = true + rng.normal(0, 3, true.shape)
        ids, true_ids = rng.permutation(6), np.arange(6)
        one.update(true, true_ids, found, ids)
        order, true_order = rng.permutation(6), rng.permutation(6)
        renamed = 1000 - 7 * ids[order]
        other.update(true[true_order], true_ids[true_order] + 50, found[order], renamed)
    first, second = one.compute().summary(), other.compute().summary()
    assert first == pytest.approx(second)
    assert 0 < first["IDF1"] < 1


def test_rotated_boxes():
    boxes = np.array([[100, 100, 80, 20, 0.3], [300, 100, 80, 20, 0.3]])
    other = boxes + np.array([0, 0, 0, 0, np.pi / 2])
    for found, good in ((boxes, True), (other, False)):
        metrics = TrackingMetrics()
        metrics.update(boxes, np.array([1, 2]), found, np.array([4, 5]))
        assert (metrics.compute().idf1 == 1) is good


def test_nothing_at_all():
    metrics = TrackingMetrics()
    assert metrics.compute().summary()["HOTA"] == 0
    empty = np.zeros((0, 4)), np.zeros(0, int)
    metrics.update(*empty, *empty)
    metrics.update(TRUE, np.array([1, 2]), *empty)
    metrics.update(*empty, TRUE, np.array([1, 2]))
    result = metrics.compute()
    assert (result.frames, result.fn, result.fp, result.idtp) == (3, 2, 2, 0)
    assert result.hota == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TRUE, [1, 1], TRUE, [1, 2]), r"true_ids \[1\] stand more than once in frame"),
        ((TRUE, [1, 2], TRUE, [3, 3]), r"^ids \[3\] stand more than once"),
        ((TRUE, [1, 2], TRUE, [3]), "2 boxes need as many ids, not 1"),
        ((TRUE, [1, 2], np.ones((2, 5)), [3, 4]), "cannot be compared"),
    ],
)
def test_frames_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrackingMetrics().update(*(np.array(a) for a in arguments))
