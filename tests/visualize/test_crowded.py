"""Pictures that are large or full: what counts stays readable, at the cost of it."""

import cv2
import numpy as np
from pictures import is_colour

from yolojax.visualize import DrawOptions, Objects, color, draw, draw_objects

NAMES = ["RBC", "WBC", "Platelets"]


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def test_where_labels_meet_the_best_one_is_whole():
    # Above the boxes is all the room there is, and it is too narrow for two labels.
    boxes, scores = np.array([[0, 14, 58, 30], [40, 14, 98, 30]]), np.array([0.9, 0.5])
    drawn, bare = draw(grey(34, 100), Objects(boxes, [0, 1], scores), NAMES)
    alone, _ = draw(grey(34, 100), Objects(boxes[:1], [0], scores[:1]), NAMES)
    label = (alone[:13] != 128).any(-1)
    assert not bare and label.sum() > 500
    np.testing.assert_array_equal(drawn[:13][label], alone[:13][label])


def test_labels_of_rotated_boxes_look_for_a_corner_that_is_free():
    # Side by side at the upper border: labels at all left corners above would meet.
    boxes = np.array([[30 + 80 * i, 30, 100 + 80 * i, 80] for i in range(4)])
    names, labels = ["tennis court"] * 4, DrawOptions(boxes=False)

    def shown(rows):
        objects = Objects(
            boxes[rows], rows, np.full(4, 0.5)[rows], angles=boxes[rows, 0] * 0
        )
        image, bare = draw(grey(240, 380), objects, names, labels)
        assert not bare
        return [(image == color(number)).all(-1).sum() for number in rows]

    assert shown(np.arange(4)) == [shown(np.array([i]))[0] for i in range(4)]


def test_small_objects_have_small_labels_where_there_is_room():
    boxes = np.array([[100, 100, 125, 125], [300, 100, 303, 103], [400, 100, 550, 200]])
    objects = Objects(boxes, np.arange(3), np.array([0.9, 0.8, 0.7]))
    drawn, bare = draw(grey(300, 600), objects, NAMES)
    assert bare == [1]  # a label would be many times as large as the object
    rows = [np.flatnonzero((drawn == color(k)).all(-1).any(1)) for k in (0, 2)]
    small, usual = (99 - row.min() for row in rows)
    assert 9 < small < usual
    without, bare = draw(
        grey(300, 600), objects, NAMES, DrawOptions(small_labels=False)
    )
    assert sorted(bare) == [0, 1] and (without[:98, :200] == 128).all()
    # Another label is never covered by a small one.
    close = boxes + [[0, 0, 0, 0], [-172, 0, -150, 22], [0, 0, 0, 0]]
    drawn, bare = draw(grey(300, 600), Objects(close, [0, 1, 2], objects.scores), NAMES)
    first, _ = draw(grey(300, 600), Objects(close[:1], [0], np.array([0.9])), NAMES)
    label = (first[:98] != 128).any(-1)
    assert not bare and label.sum() > 300
    np.testing.assert_array_equal(drawn[:98][label], first[:98][label])


def test_joints_and_seams_of_large_pictures_are_as_thick_as_their_lines():
    size = 4000
    points = np.array([[[1500, 1500, 2], [2500, 2500, 2]]])
    box = np.array([[1000, 1000, 3000, 3000]])
    image, _ = draw_objects(grey(size, size), box, [0], NAMES, keypoints=points)
    assert is_colour(image[1500, 1500 + 17], color(0))  # lines have 10 pixels
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 10:20, 10:20] = masks[1, 10:20, 20:30] = True
    boxes = np.array([[1000, 1000, 2000, 2000], [2000, 1000, 3000, 2000]])
    objects, lines = Objects(boxes, [1, 1], masks=masks), DrawOptions(boxes=False)
    image, _ = draw(grey(size, size), objects, NAMES, lines)
    seam = (image[1100:1900, 1980:2020].min(-1) == 255).sum(1)
    assert (seam >= 8).all()


def test_only_the_place_of_a_mask_is_changed():
    rng = np.random.default_rng(0)
    for height, width in ((37, 53), (200, 310)):
        for _ in range(20):
            mask = np.zeros((48, 64), bool)
            top, left = rng.integers(0, (44, 60))
            mask[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = 1
            whole = cv2.resize(mask.astype(np.float32), (width, height)) > 0.5
            drawn, _ = draw(
                grey(height, width),
                Objects(np.array([[0, 0, 1, 1]]), [0], masks=mask[None]),
                NAMES,
                DrawOptions(labels=False, boxes=False, line_width=1),
            )
            np.testing.assert_array_equal((drawn != 128).any(-1), whole)
