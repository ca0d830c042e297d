"""Both trackers against recorded identities of the same name."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from track_cases import SCENES, frames_of, quality, scene, tracked

from yolojax import tracking


def agreement(recorded, rows):
    """Returns the share of recorded rows that were found, identities renamed.

    A row is found if the same detection of the same frame is reported, within half a
    pixel, by the identity that goes with its own.
    """
    ours = {(int(row[0]), int(row[8])): row for row in rows}
    same = np.zeros((int(recorded[:, 5].max()) + 1, int(rows[:, 5].max()) + 1))
    for row in recorded:
        other = ours.get((int(row[0]), int(row[8])))
        if other is not None and np.abs(row[1:5] - other[1:5]).max() < 0.5:
            same[int(row[5]), int(other[5])] += 1
    pairs = linear_sum_assignment(same, maximize=True)
    return same[pairs].sum() / max(len(recorded), len(rows))


@pytest.mark.parametrize("number", SCENES)
@pytest.mark.parametrize("name", tracking.TRACKERS)
def test_rows_agree_with_the_recorded_ones(name, number):
    recorded = scene(number)
    frames = frames_of(recorded["truth"])
    rows = tracked(tracking.make(name), recorded["det"], frames)
    assert agreement(recorded[name], rows) >= 0.99
    ours, theirs = (quality(recorded["truth"], r) for r in (rows, recorded[name]))
    assert ours["HOTA"] >= theirs["HOTA"] - 1e-9
    assert ours["IDF1"] >= theirs["IDF1"] - 1e-9
    assert theirs["HOTA"] > 0.4  # a broken measure would let everything through


def test_another_option_changes_rows():
    recorded = scene(1)
    frames = frames_of(recorded["truth"])
    options = tracking.TrackerOptions(fuse_score=False)
    rows = tracked(tracking.make("bytetrack", options), recorded["det"], frames)
    assert agreement(recorded["bytetrack"], rows) < 0.99


def test_identities_count_from_one_without_gaps():
    recorded = scene(2)
    tracker = tracking.make("bytetrack")
    for _ in range(2):
        rows = tracked(tracker, recorded["det"], frames_of(recorded["truth"]))
        ids = rows[:, 5]
        order = ids[np.sort(np.unique(ids, return_index=True)[1])]
        np.testing.assert_array_equal(order, np.arange(1, len(order) + 1))
        tracker.reset()
