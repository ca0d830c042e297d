"""What the choice of validation pictures does to the difference of two runs."""

import kept_run
import numpy as np
import pytest

from yolojax.inference.report.matches import keep_matches, read_matches
from yolojax.metrics.average_precision import per_class
from yolojax.metrics.detection import DetectionMetrics, Matches
from yolojax.studies import pictures

PICTURES, CLASSES = 30, 3


def run(seed, skill=0.5, most=12):
    """Returns what a run found: the same objects for every seed, others found."""
    truth, rng = np.random.default_rng(0), np.random.default_rng(seed)
    metrics = DetectionMetrics(None)
    for _ in range(PICTURES):
        targets = truth.integers(0, CLASSES, truth.integers(0, 6))
        count = rng.integers(0, most + 1)
        alike = rng.random((len(targets), count))
        close = rng.random(alike.shape) < skill / max(len(targets), 1)
        scores = -np.sort(-rng.random(count).astype(np.float32))
        classes = rng.integers(0, CLASSES, count)
        metrics.update_similarity(np.where(close, alike, 0), targets, scores, classes)
    return metrics.compute([str(i) for i in range(CLASSES)])


def repeated(matches, times):
    """Returns mAP50-95 of a data set in which every picture stands so many times."""
    order = np.repeat(np.arange(len(times)), times)

    def again(values, counts):
        parts = np.split(values, np.cumsum(counts)[:-1])
        return np.concatenate([parts[i] for i in order])

    own = matches.detections
    return per_class(
        again(matches.correct, own),
        again(matches.scores, own),
        again(matches.classes, own),
        again(matches.target_classes, matches.targets),
    ).ap.mean()


def empty(matches):
    """Returns the same pictures with nothing found in them."""
    none = np.zeros(0)
    return Matches(
        detections=np.zeros_like(matches.detections),
        targets=matches.targets,
        correct=np.zeros((0, 10), bool),
        scores=none,
        classes=none.astype(np.int64),
        target_classes=matches.target_classes,
    )


@pytest.mark.parametrize("most", [1, 3, 12])
@pytest.mark.parametrize("skill", [0.1, 0.6, 3.0])
def test_a_resample_is_judged_as_a_data_set_with_repeated_pictures(most, skill):
    result = run(1, skill, most)
    rng = np.random.default_rng(2)
    draws = rng.integers(PICTURES, size=(12, PICTURES))
    times = np.stack([np.bincount(row, minlength=PICTURES) for row in draws])
    times[0] = 1
    times[1] = 0
    times[1, :4] = 3  # few pictures
    found = pictures.mean_precision(result.matches, times)
    assert found[0] == pytest.approx(result.map, abs=1e-12)
    expected = [repeated(result.matches, row) for row in times]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_how_many_resamples_are_judged_at_once_changes_nothing(monkeypatch):
    matches = run(1).matches
    times = np.random.default_rng(0).integers(0, 3, (20, PICTURES))
    whole = pictures.mean_precision(matches, times)
    monkeypatch.setattr(pictures, "_ROOM", 500)
    np.testing.assert_array_equal(pictures.mean_precision(matches, times), whole)


def test_the_interval_holds_the_difference_and_is_the_same_each_time():
    first, second = run(1, 0.3).matches, run(2, 2.0).matches
    found = pictures.bootstrap(first, second, 200)
    low, high = found.interval
    assert 0 < low < found.second - found.first < high
    assert found.better == 1
    assert pictures.bootstrap(first, second, 200) == found
    back = pictures.bootstrap(second, first, 200).interval
    np.testing.assert_allclose(back, (-high, -low))
    text = found.sentence("b - a, seed 0")
    assert text.startswith("b - a, seed 0: +0.")
    assert text.endswith("(error from the choice of pictures, not of training).")


def trained(seed, objects):
    """Returns what a run found whose scores tell right from wrong as real ones do."""
    truth, rng = np.random.default_rng(objects), np.random.default_rng(seed)
    metrics = DetectionMetrics(None)
    for _ in range(PICTURES):
        targets = truth.integers(0, CLASSES, truth.integers(0, 6))
        hard = truth.random(len(targets))
        hits = np.flatnonzero(rng.random(len(targets)) < 1 - 0.7 * hard**2)
        false, places = rng.integers(0, 4), np.arange(len(hits))
        overlaps = np.zeros((len(targets), len(hits) + false))
        off = 0.3 * hard[hits] + np.abs(rng.normal(0, 0.12, len(hits)))
        overlaps[hits, places] = np.clip(1 - off, 0, 1)
        sure = 0.9 - 0.5 * hard[hits] + rng.normal(0, 0.1, len(hits))
        scores = np.concatenate([np.clip(sure, 0, 1), 0.5 * rng.random(false)])
        classes = np.concatenate([targets[hits], rng.integers(0, CLASSES, false)])
        order = np.argsort(-scores)
        metrics.update_similarity(
            overlaps[:, order], targets, scores[order], classes[order]
        )
    return metrics.compute([str(i) for i in range(CLASSES)])


def test_the_interval_is_as_wide_as_fresh_pictures_move_the_difference():
    fresh, widths = [], []
    for i in range(70):
        pair = trained(2 * i, objects=i), trained(2 * i + 1, objects=i)
        fresh.append(pair[1].map - pair[0].map)
        if i < 6:
            found = pictures.bootstrap(pair[0].matches, pair[1].matches, 80)
            widths.append(np.ptp(found.interval))
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(fresh), rel=0.25)


def test_a_run_that_found_nothing_and_equal_runs_are_judged():
    matches = run(1).matches
    equal = pictures.bootstrap(matches, matches, 50)
    assert equal.interval == (0.0, 0.0)
    nothing = pictures.bootstrap(empty(matches), matches, 50)
    assert nothing.first == 0
    assert nothing.interval[0] > 0


def test_runs_on_other_pictures_are_refused():
    matches = run(1).matches
    other = Matches(**{**vars(matches), "target_classes": matches.target_classes[::-1]})
    with pytest.raises(ValueError, match="validated on other pictures"):
        pictures.bootstrap(matches, other)
    bare = Matches(
        **{
            **vars(empty(matches)),
            "targets": np.zeros(3, np.int64),
            "target_classes": np.zeros(0, np.int64),
        }
    )
    with pytest.raises(ValueError, match="no object in 3 pictures"):
        pictures.bootstrap(bare, bare)


def test_matches_are_read_as_they_were_written(tmp_path):
    result = run(1)
    keep_matches(result, tmp_path / "a.npz")
    found = read_matches(tmp_path / "a.npz")
    assert list(found) == ["Box"]
    for name, values in vars(result.matches).items():
        again = getattr(found["Box"], name)
        assert again.dtype == values.dtype
        np.testing.assert_array_equal(again, values)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.npz cannot be read"):
        read_matches(tmp_path / "a.npz")


def test_a_run_with_figures_kept_what_it_found(tmp_path):
    folder = kept_run.make(tmp_path / "run")
    (matches,) = pictures.kept(folder).values()
    assert len(matches.targets) == 14
    found = pictures.bootstrap(matches, matches, 20)
    assert 0 < found.first == found.second
    assert pictures.kept(tmp_path / "nothing") == {}
