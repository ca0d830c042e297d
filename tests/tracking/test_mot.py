"""Text files of identities: read, written, refused."""

import numpy as np
import pytest

from yolojax.tracking import Tracks, mot


def tracks(boxes, ids):
    boxes = np.array(boxes, np.float32)
    count = len(ids)
    scores = np.linspace(0.5, 0.9, count, dtype=np.float32)
    ids = np.array(ids, np.int32)
    return Tracks(boxes, ids, scores, np.zeros(count, np.int32), np.arange(count))


def test_what_is_written_is_read(tmp_path):
    frames = [
        tracks([[1, 2, 30.25, 40.5], [100, 50, 130, 90]], [1, 2]),
        tracks(np.zeros((0, 4)), []),
        tracks([[2.125, 3, 31, 41]], [7]),
    ]
    mot.write_mot(tmp_path / "new" / "a.txt", frames)
    text = (tmp_path / "new" / "a.txt").read_text()
    assert text.splitlines()[0] == "1,1,1.000,2.000,29.250,38.500,0.50000,-1,-1,-1"
    rows = mot.read_mot(tmp_path / "new" / "a.txt")
    assert rows.frames.tolist() == [1, 1, 3] and rows.ids.tolist() == [1, 2, 7]
    np.testing.assert_allclose(
        rows.boxes, np.concatenate([f.boxes for f in frames]), atol=1e-3
    )
    np.testing.assert_allclose(rows.scores, [0.5, 0.9, 0.5])
    assert rows.take(rows.frames == 3).ids.tolist() == [7]


def test_a_rotated_box_is_written_as_the_upright_one_around_it():
    row = mot.mot_text(4, tracks([[100, 50, 40, 20, np.pi / 2]], [3]))
    assert row == "4,3,90.000,30.000,20.000,40.000,0.50000,-1,-1,-1\n"


@pytest.mark.parametrize(
    ("line", "score", "kind"),
    [
        ("1,2,3,4,5,6", 1.0, -1),
        ("1,2,3,4,5,6,0", 0.0, -1),
        ("1,2,3,4,5,6,1,7,0.25", 1.0, 7),
        ("1, 2, 3, 4, 5, 6, .5, -1, -1, -1", 0.5, -1),
        ("1 2 3 4 5 6 1 1", 1.0, 1),
    ],
)
def test_short_and_long_rows(tmp_path, line, score, kind):
    (tmp_path / "a.txt").write_text(f"\n{line}\n")
    rows = mot.read_mot(tmp_path / "a.txt")
    assert rows.scores.tolist() == [score] and rows.classes.tolist() == [kind]
    assert rows.boxes.tolist() == [[3, 4, 8, 10]]


def test_an_empty_file_has_no_rows(tmp_path):
    (tmp_path / "a.txt").write_text("")
    assert mot.read_mot(tmp_path / "a.txt").boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "line", ["1,2,3,4,5", "0,2,3,4,5,6", "1,2,3,4,5,nan", "frame,id,a,b,c,d"]
)
def test_a_row_that_is_none_is_named(tmp_path, line):
    (tmp_path / "a.txt").write_text(f"1,2,3,4,5,6\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.txt:2: "):
        mot.read_mot(tmp_path / "a.txt")
