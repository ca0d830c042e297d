"""Blur, median blur, grey and CLAHE: drawn by themselves, painted by OpenCV."""

import dataclasses

import cv2
import numpy as np
import pytest
from painted import four, paint, pictures
from recipes import PLAIN, USUAL, data_set, sample

from yolojax.data.samples.plan import FilterPlan
from yolojax.data.samples.render import apply_filters

NONE = FilterPlan(blur=0, median_blur=0, gray=False, clahe=0.0)


def filtered(image, **changes):
    canvas = four(image)
    apply_filters(canvas, dataclasses.replace(NONE, **changes))
    return canvas[..., :3]


@pytest.fixture
def image():
    rng = np.random.default_rng(3)
    return cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (64, 48))


def test_each_filter_does_what_its_name_says(image):
    np.testing.assert_array_equal(filtered(image), image)
    np.testing.assert_array_equal(filtered(image, blur=5), cv2.blur(image, (5, 5)))
    want = cv2.medianBlur(image, 7)
    np.testing.assert_array_equal(filtered(image, median_blur=7), want)
    gray = filtered(image, gray=True)
    assert (gray == gray[..., :1]).all()
    np.testing.assert_array_equal(gray[..., 0], cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    dull = (image // 4 + 90).astype(np.uint8)
    assert filtered(dull, clahe=4.0).std() > 1.3 * dull.std()


@pytest.mark.parametrize("name", ["blur", "median_blur", "to_gray", "clahe"])
def test_a_filter_happens_with_its_probability_and_shifts_no_other_draw(name):
    options = dataclasses.replace(USUAL, **{name: 0.3})
    field = {"to_gray": "gray"}.get(name, name)
    plans = [sample(options, epoch=epoch) for epoch in range(300)]
    found = [plan.filters for plan in plans if plan.filters is not None]
    assert 60 < len(found) < 120
    for one in found:
        rest = dataclasses.replace(one, **{field: getattr(NONE, field)})
        assert rest == NONE and getattr(one, field)
    usual = sample(USUAL)
    assert plans[0].hsv == usual.hsv and usual.filters is None
    np.testing.assert_array_equal(plans[0].objects.boxes, usual.objects.boxes)


def test_strengths_have_the_usual_ranges():
    options = dataclasses.replace(PLAIN, blur=1.0, median_blur=1.0, clahe=1.0)
    found = [sample(options, epoch=epoch).filters for epoch in range(200)]
    assert (
        {one.blur for one in found} == {one.median_blur for one in found} == {3, 5, 7}
    )
    limits = [one.clahe for one in found]
    assert 1 <= min(limits) < 1.2 and 3.8 < max(limits) <= 4


def test_filters_reach_the_picture_before_its_colours_change():
    sources = pictures(data_set()[0])
    plan = sample(dataclasses.replace(PLAIN, to_gray=1.0))
    result = paint(plan, sources)
    assert (result == result[..., :1]).all() and result.std() > 5
    assert paint(sample(PLAIN), sources).std(axis=-1).max() > 5
