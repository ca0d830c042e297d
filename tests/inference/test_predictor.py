"""Results in the order of the pictures, each as if it were alone."""

import dataclasses
import gc
import threading
import time

import cv2
import numpy as np
import pytest
import reference_predictions as reference
import tiny_predictor as tiny
from films import write_film
from PIL import Image
from tiny_predictor import Looker, greys, seen

from yolojax import config as config_lib
from yolojax.assembly import prediction
from yolojax.config import used
from yolojax.inference import predictor as predictor_module
from yolojax.inference.backends.compiled import Compiled
from yolojax.inference.backends.types import Times
from yolojax.inference.predictor import Predictor
from yolojax.inference.sources.frames import Frame, Reading, Skipped, UnreadableError
from yolojax.inference.sources.frames import jobs as jobs_of
from yolojax.inference.sources.listing import listed

HWS = ((64, 64), (32, 64), (64, 32), (20, 64))


def grey(level, hw=(64, 64)):
    return np.full((*hw, 3), level, np.uint8)


def picture(number, hw=(48, 80)):
    """Returns a picture in which the networks of the tests find something."""
    rng = np.random.default_rng(number)
    return cv2.resize(rng.integers(0, 256, (6, 10, 3), np.uint8), hw[::-1])


def job(level, wait=None, hw=(64, 64)):
    """Returns a job that reads a grey picture, once `wait` is set."""

    def read():
        assert wait is None or wait.wait(10)
        return Frame(grey(level, hw), level, f"{level}.png", str(level))

    return read


def looked_at(jobs, looker, told=None, times=None, **values):
    """Returns the results of jobs as they come."""
    predictor = tiny.predictor(programs=lambda task: looker, **values)
    return predictor(jobs, [].append if told is None else told, times)


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_results_come_in_order_whatever_the_shapes(batch):
    rng = np.random.default_rng(batch)
    levels = rng.permutation(100)
    pictures = [grey(level, HWS[rng.integers(4)]) for level in levels]
    looker = Looker()
    found = seen(pictures, programs=lambda task: looker, batch=batch)
    assert greys(found) == levels.tolist()
    assert [one.frame.item for one in found] == list(range(100))
    assert {shape[0] for shape in looker.shapes} == {batch}
    assert {one.input_hw for one in found} == {(64, 64), (32, 64), (64, 32)}
    assert looker.threads == {threading.get_ident()}


def test_one_of_another_shape_does_not_wait_for_ever():
    """Of a thousand pictures one is alone in its shape, and the first of them."""
    asked = []

    def jobs():
        for number in range(1000):
            asked.append(number)
            yield job(number % 200, hw=(32, 64) if number == 0 else (64, 64))

    stream = looked_at(jobs(), Looker(), batch=4)
    first = next(stream)
    assert first.frame.picture.shape == (32, 64, 3)
    assert len(asked) < 4 * predictor_module.OPEN + 30
    assert greys(stream) == [number % 200 for number in range(1, 1000)]


def test_no_more_is_read_than_a_few_batches_ahead():
    asked = []

    def jobs():
        for number in range(1000):
            asked.append(number)
            yield job(number % 200)

    stream = looked_at(jobs(), Looker(), batch=2)
    for number in range(100):
        assert greys([next(stream)]) == [number]
        assert len(asked) < number + 30
    stream.close()
    time.sleep(0.15)
    assert len(asked) < 130


def test_a_slow_source_does_not_keep_results_back():
    released = threading.Event()
    stream = looked_at([job(10), job(20, wait=released), job(30)], Looker())
    assert greys([next(stream)]) == [10]
    released.set()
    assert greys(stream) == [20, 30]


def test_who_stops_early_leaves_no_thread_and_an_open_source_is_closed():
    closed = threading.Event()

    def jobs():
        try:
            while True:
                yield job(7)
        finally:
            closed.set()

    before = threading.active_count()
    stream = looked_at(jobs(), Looker())
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert closed.wait(5)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_stream_that_is_forgotten_is_closed_as_well():
    closed = threading.Event()

    def jobs():
        try:
            while True:
                yield job(7)
        finally:
            closed.set()

    next(looked_at(jobs(), Looker()))
    gc.collect()
    assert closed.wait(5)


@pytest.mark.parametrize("where", ["jobs", "read", "network"])
def test_an_error_is_raised_where_results_are_taken(where):
    def fail(*_):
        raise RuntimeError("no luck")

    def jobs():
        yield job(1)
        if where == "jobs":
            fail()
        yield fail if where == "read" else job(2)

    def before(images):
        if where == "network" and images[0, 32, 32, 0] == 2:
            fail()

    stream = looked_at(jobs(), Looker(before))
    with pytest.raises(RuntimeError, match="no luck"):
        list(stream)


def test_what_cannot_be_read_is_told_and_the_rest_is_looked_at():
    def unreadable():
        raise UnreadableError("b.jpg", "it is empty")

    told, times = [], Times()
    jobs = [job(1), unreadable, job(3), unreadable]
    found = looked_at(jobs, Looker(), told.append, times, batch=3)
    assert greys(found) == [1, 3]
    assert told == [Skipped("b.jpg", "it is empty")] * 2
    assert times.pictures == 2
    assert list(looked_at([], Looker())) == []
    assert list(looked_at([unreadable], Looker(), told.append)) == []


def test_reading_and_the_network_overlap():
    """The network answers later, as a device does, and takes 20 ms for each batch."""

    class Slow(Looker):
        def launch(self, options, images, times):
            return super().launch(options, images, times), time.monotonic() + 0.02

        def collect(self, launched):
            rows, ready = launched
            time.sleep(max(0, ready - time.monotonic()))
            return rows

    def slow(level):
        def read():
            time.sleep(0.02)
            return job(level)()

        return read

    started = time.monotonic()
    found = looked_at([slow(level) for level in range(30)], Slow())
    assert greys(found) == list(range(30))
    assert time.monotonic() - started < 0.8 * 30 * 0.04


def test_frames_of_a_video_keep_their_numbers(tmp_path):
    path = write_film(tmp_path / "film.mp4", 12)
    looker = Looker()
    found = seen([path, grey(99)], programs=lambda task: looker, batch=5)
    assert [one.frame.number for one in found] == [*range(1, 13), None]
    assert [one.frame.item for one in found] == [0] * 12 + [1]
    shapes = {tuple(shape[1:3]) for shape in looker.shapes}
    assert shapes == {found[0].input_hw, (64, 64)}


def test_times_are_told_of_every_picture():
    times = Times()
    found = seen([grey(1), grey(2, (32, 64))], times=times, programs=lambda _: Looker())
    assert times.pictures == 2
    assert times.shapes == {(64, 64): 1, (32, 64): 1}
    for one in found:
        assert set(one.speed) == {"read", "preprocess", "inference", "postprocess"}
        assert all(value >= 0 for value in one.speed.values())
    total = sum(one.speed["inference"] for one in found)
    assert total == pytest.approx(1e3 * times.network)


def test_what_tiles_show_lies_where_they_were_cut():
    """Each input shows an object in its middle, as large as a half of it."""

    class Middle(Looker):
        def launch(self, options, images, times):
            rows = super().launch(options, images, times)
            for row in rows:
                quarter = (row["boxes"][:, 2:] - row["boxes"][:, :2]) / 4
                row["boxes"] = np.concatenate([quarter, 3 * quarter], -1)
            return rows

    columns = np.arange(144, dtype=np.uint8)[None, :, None]
    whole = np.broadcast_to(columns, (64, 144, 3))
    middle = Middle()
    found = seen(whole, programs=lambda _: middle, tiles=64, batch=2)[0].found
    # Tiles at 0, 51 and 80; the second lies in what the whole picture shows.
    expected = [[96, 16, 128, 48], [36, 16, 108, 48], [16, 16, 48, 48]]
    np.testing.assert_allclose(found.boxes[:, ::2], np.array(expected)[:, ::2])
    np.testing.assert_allclose(found.boxes, expected, atol=2.5)  # padding: whole pixels
    np.testing.assert_allclose(found.scores * 255, [112, 83, 32], atol=1.5)
    shapes = sorted(shape[1:3] for shape in middle.shapes)
    assert shapes == [(32, 64), (64, 64), (64, 64)]
    for tiles, count in ((0, 1), (144, 1), ("auto", 3)):
        found = seen(whole, programs=lambda _: Middle(), tiles=tiles)[0].found
        assert len(found.boxes) == count


# With a network


def same(one, other):
    """Fails unless two results are equal to the bit."""
    for field in dataclasses.fields(one.found):
        a, b = getattr(one.found, field.name), getattr(other.found, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name)
    assert len(one.found.boxes) > 1 or one.found.probabilities is not None


@pytest.mark.process
@pytest.mark.parametrize(
    "task",
    [
        *("detect", "segment", "classify"),
        *(pytest.param(task, marks=pytest.mark.slow) for task in ("pose", "obb")),
    ],
)
def test_a_result_is_the_same_in_any_company(task, tmp_path):
    """Alone or in a batch, in another order; as a file, array, PIL picture or list."""
    pictures = [picture(number) for number in range(5)]
    for batch in (1, 3):
        usual = seen(pictures, task, batch=batch)
        alone = [seen(one, task, batch=batch)[0] for one in pictures]
        turned = seen(pictures[::-1], task, batch=batch)[::-1]
        beside = seen([p for one in pictures for p in (one, picture(9))], task,
                      batch=batch)[::2]  # fmt: skip
        mixed = seen([p for one in pictures for p in (one, picture(8, (64, 32)))], task,
                     batch=batch)[::2]  # fmt: skip
        for others in (alone, turned, beside, mixed):
            for one, other in zip(usual, others, strict=True):
                same(one, other)
    names = [str(tmp_path / f"{number}.png") for number in range(5)]
    for name, one in zip(names, pictures, strict=True):
        cv2.imwrite(name, one)
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(names))
    usual = seen(pictures, task, batch=1)
    given = [Image.fromarray(one[..., ::-1]) for one in pictures]
    for source in (names, given, listing, tmp_path / "*.png"):
        for one, other in zip(usual, seen(source, task, batch=1), strict=True):
            same(one, other)


@pytest.mark.process
def test_thresholds_and_classes_need_no_other_program():
    times = Times()
    seen(picture(0), times=times)
    times = Times()
    every = seen(picture(0), times=times)[0].found
    some = seen(picture(0), times=times, conf=0.9, iou=0.9)[0].found
    one = seen(picture(0), times=times, classes=(2,))[0].found
    assert times.compile == 0
    assert every.scores.min() < 0.9 < some.scores.min()
    assert set(one.classes) == {2}  # others take none of the places of max_det
    assert set(every.classes) == {0}
    few = seen(picture(0), times=times, max_det=3)[0].found
    assert times.compile > 0
    assert len(few.boxes) == 3
    np.testing.assert_array_equal(few.boxes, every.boxes[:3])


@pytest.mark.process
def test_several_threads_may_ask_at_a_time():
    pictures = [picture(number) for number in range(8)]
    usual = seen(pictures)
    results = {}

    def ask(number):
        order = np.random.default_rng(number).permutation(8)
        found = seen([pictures[i] for i in order], batch=1 + number % 2)
        results[number] = [found[i] for i in np.argsort(order)]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == list(range(6))
    for number, found in results.items():
        if number % 2 == 0:  # of the same batch size
            for one, other in zip(usual, found, strict=True):
                same(one, other)


@pytest.mark.process
@pytest.mark.parametrize(
    "task",
    [
        "detect",
        "segment",
        pytest.param("obb", marks=pytest.mark.slow),
        "classify",
        pytest.param("pose", marks=pytest.mark.slow),
    ],
)
def test_a_line_and_a_pixel_are_pictures(task):
    for hw in ((1, 1), (20_000, 3), (3, 20_000)):
        one = seen(np.full((*hw, 3), 200, np.uint8), task)[0]
        assert one.found.scores.ndim == 1
        if one.found.angles is None:
            assert (one.found.boxes >= 0).all()
            assert (one.found.boxes <= [*hw[::-1]] * 2).all()


# Reference values; through the command in tests/commands


@pytest.fixture(scope="module")
def models():
    """Returns the networks that were loaded, by the file of their weights."""
    return {}


# One of these is seen through the command as well, five differ by a setting that
# other tests look at.
SELDOM = {
    *("detect", "segment", "detect_lowconf_agnostic"),
    *("detect_classes_320", "detect_square", "detect_augment"),
}


@pytest.mark.process
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SELDOM else ())
        for name in reference.NAMES
    ],
)
def test_predictions_are_those_of_the_reference(name, assets, models):
    """Of the first two pictures; programs as tests compile them are slow."""
    golden = reference.Golden(assets, name)
    task, values = golden.task, golden.settings
    config = used.usual("predict", {"task": task, "model": "yolo11n", "imgsz": 640})
    config.update(weights=golden.weights, **values)
    config = config_lib.check(config, "predict")
    model = models.get(config.weights) or prediction.trained(config)
    models[config.weights] = model
    options = prediction.predict_options(config, model)
    predictor = Predictor(Compiled(model, None), options)
    skipped = []
    sources = listed(golden.files[:2])
    found = predictor(jobs_of(sources, Reading(), skipped.append), skipped.append)
    for number, one in enumerate(found):
        hw = one.frame.picture.shape[:2]
        golden.check(number, hw, one.found.boxes, one.found.scores, one.found.classes)
        if one.found.masks is not None:
            golden.check_masks(number, one.found.masks)
    assert number == 1
    assert not skipped
