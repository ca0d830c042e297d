"""Pictures of which anchors predict which object."""

import numpy as np

from yolojax.visualize import Anchors, assigned_grid, color


def drawn(foreground, slot):
    """Returns the picture of a grey batch with two objects in its only real image."""
    batch = {
        "image": np.full((2, 64, 64, 3), 90, np.uint8),
        "example_valid": np.array([True, False]),
        "boxes": np.array([[[8, 8, 24, 24], [36, 30, 60, 58]]] * 2, np.float32),
        "classes": np.array([[0, 3]] * 2),
        "valid": np.array([[True, True]] * 2),
        "image_id": np.array([0, -1]),
    }
    points = np.array([[16, 16], [40, 40], [48, 48]]) / 64
    anchors = Anchors(points, np.array([8, 16, 32]), foreground, slot)
    return assigned_grid(batch, ["a", "b", "c", "d"], anchors, files=["one.jpg"])


def count(picture, class_id):
    return (picture == color(class_id)).all(-1).sum()


def test_anchors_are_marked_in_the_colour_of_their_object():
    none = drawn(np.zeros((2, 3), bool), np.zeros((2, 3), int))
    foreground = np.array([[True, False, True]] * 2)
    some = drawn(foreground, np.array([[0, 0, 1]] * 2))
    assert some.shape == none.shape
    assert count(some, 0) > count(none, 0) and count(some, 3) > count(none, 3)
    # The same anchors for the other object: its colour, and lines that lead to it.
    other = drawn(foreground, np.array([[1, 0, 1]] * 2))
    assert count(other, 0) == count(none, 0)
    assert count(other, 3) > count(some, 3)


def test_small_pictures_are_enlarged_before_they_are_drawn_on():
    picture = drawn(np.zeros((2, 3), bool), np.zeros((2, 3), int))
    assert min(picture.shape[:2]) >= 600
