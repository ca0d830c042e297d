"""A loaded network in the hands of a program: results, programs, pure functions."""

import itertools
import logging
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_weights
from PIL import Image

import yolojax
from yolojax.api import looking
from yolojax.tracking import Tracks, make

OWN = "tiny_model:bare"
HERE = {"device": "cpu:1", "conf": 0.0, "max_det": 20}  # tests have 8 devices


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def model(folder):
    return yolojax.load(tiny_weights.write(folder), model=OWN)


def picture(seed=0, height=64, width=64):
    shape = (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def programs(model):
    return sum(one.compiled for one in model._uses.values())


def same(a, b):
    return np.array_equal(a.boxes.data, b.boxes.data)


# What is loaded


def test_what_a_model_tells_of_itself(model):
    assert model.names == {0: "circle", 1: "square", 2: "star"}
    assert (model.task, model.imgsz, model.licence) == ("detect", 64, "free")
    assert set(model.variables) == {"params", "batch_stats"}
    assert "tiny_model:bare, task detect, 3 classes, 64 px" in repr(model)
    with pytest.raises(AttributeError):
        model.task = "pose"
    assert yolojax.YOLO is yolojax.load


@pytest.mark.parametrize(
    "source, text",
    [
        ("nowhere/best.pt", "nowhere/best.pt: there is no such file or folder"),
        ("yolo11q.pt", "yolo11q.pt: there is no such file"),
        ("yolo11q", "'yolo11q' is neither a config, nor the folder of a run"),
        (".", "the folder of a run"),
        ("a.png", "'a.png' is neither"),
    ],
)
def test_what_cannot_be_loaded(source, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(text)):
        yolojax.load(source)


def test_a_network_of_ones_own_is_named_by_its_user(folder):
    path = tiny_weights.write(folder)
    with pytest.raises(ValueError, match="not built in"):
        yolojax.load(path)


def test_the_code_of_a_run_is_not_run_unless_its_user_names_it(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    record = '{"task": "detect", "model": "evil:build", "imgsz": 64}'
    (tmp_path / "config.json").write_text(record)
    with pytest.raises(ValueError, match="'evil:build', code that yolojax does not"):
        yolojax.load(tmp_path)


# Results


def test_the_same_picture_in_every_form_gives_the_same_result(model, tmp_path):
    bgr = picture()
    path = tmp_path / "a.png"
    Image.fromarray(bgr[..., ::-1]).save(path)
    (first,) = model(bgr, **HERE)
    assert len(first) > 5
    others = [
        *model.predict(path, **HERE),
        *model([str(path), Image.open(path)], **HERE),
        *model.predict(bgr[..., ::-1], order="rgb", **HERE),
        *model.predict(bgr.astype(np.float32) / 255, **HERE),
        *model.predict([bgr, picture(1)], stream=True, **HERE),
    ]
    assert len(others) == 7
    assert all(same(first, other) for other in others[:6])
    assert not same(first, others[6])
    assert first.names == model.names
    assert first.orig_shape == (64, 64)


def test_a_repeated_call_compiles_nothing(model):
    first = model(picture(), **HERE)[0]
    before = programs(model)
    again = HERE | {"conf": 0.003, "iou": 0.5, "classes": [1, 2]}
    assert set(model(picture(), **again)[0].boxes.cls) <= {1, 2}
    assert model(picture(), **HERE | {"conf": 1.0})[0].verbose() == "(no detections)"
    assert same(model(picture(), **HERE)[0], first)
    assert programs(model) == before > 0
    model(picture(), **HERE | {"max_det": 3})  # is a shape
    assert programs(model) == before + 1


def test_threads_get_what_one_alone_gets(model):
    pictures = [picture(seed) for seed in range(4)]
    alone = [model(one, **HERE)[0] for one in pictures]
    found, begin = {}, threading.Barrier(4)

    def work(number):
        begin.wait()
        order = [(number + i) % 4 for i in range(4)]
        conf = {"conf": 0.0 if number % 2 else 1e-9}
        found[number] = [(i, model(pictures[i], **HERE | conf)[0]) for i in order]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [same(alone[i], one) for each in found.values() for i, one in each] == (
        [True] * 16
    )


def test_a_stream_is_read_as_it_is_wanted(model):
    read = itertools.count()
    endless = (picture(next(read) % 3) for _ in itertools.repeat(0))
    stream = model.predict(endless, stream=True, **HERE)
    found = [next(stream) for _ in range(4)]
    assert same(found[0], found[3])
    assert not same(found[0], found[1])
    stream.close()
    assert next(read) < 60


def test_a_long_list_is_warned_of(model, monkeypatch, caplog):
    monkeypatch.setattr(looking, "MOST", 2)
    assert len(model([picture()] * 2, **HERE)) == 2
    assert caplog.messages == []
    assert len(model([picture()] * 4, **HERE)) == 4
    assert len(caplog.messages) == 1
    assert "more than 2 results" in caplog.text
    assert "stream=True" in caplog.text


def test_a_source_without_end_makes_no_list(model):
    with pytest.raises(ValueError, match="may have no end"):
        model(0, **HERE)
    with pytest.raises(ValueError, match="may have no end"):
        model([picture(), "rtsp://127.0.0.1:1/a"], **HERE)


def test_what_cannot_be_read_is_told_and_left_out(model, tmp_path, caplog):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    sources = [str(tmp_path / "broken.jpg"), picture()]
    assert [one.path for one in model(sources, **HERE)] == ["image1"]
    assert "broken.jpg" in caplog.text
    with pytest.raises(ValueError, match=r"no picture could be read: .*broken\.jpg"):
        model(sources[0], **HERE)
    with pytest.raises(ValueError, match="image1: an array of shape"):
        model([picture(), np.zeros((2, 2, 2, 2), np.uint8)], **HERE)


def test_features_of_layers_that_a_network_does_not_have(model):
    with pytest.raises(
        ValueError, match="embed = .*: of the layers of tiny_model:bare"
    ):
        model(picture(), embed=[99], device="cpu:1")


@pytest.mark.parametrize(
    "keywords, text",
    [
        ({"cnf": 0.5}, "cnf is not a setting. Did you mean 'conf'?"),
        ({"conf": 3}, "conf = 3.0: expected a number from 0 to 1"),
        ({"epochs": 3}, "epochs is not read by predict, only by train"),
        ({"tracker": "botsort"}, "tracker is not read by predict, only by track"),
        ({"weights": "a.pt"}, "weights belongs to the model that is loaded"),
        ({"classes": [3]}, "3 classes, 0 to 2, and 3 is none of them"),
        ({"backend": "onnx"}, "backend = 'onnx' runs exported files"),
        ({"order": "hsv"}, "order = 'hsv': expected one of bgr, rgb"),
        ({"retina_masks": True}, "retina_masks = True has no meaning for task"),
        ({"workdir": "a", "name": "b", "save": True}, "both name the run's folder"),
    ],
)
def test_keywords_are_checked_before_anything_is_read(model, keywords, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        model.predict(picture(), stream=True, **keywords)
    assert "config." not in str(caught.value)


def test_a_source_that_is_nothing_fails_at_once(model):
    with pytest.raises(ValueError, match="there is no such file"):
        model.predict("nowhere.jpg", stream=True)
    with pytest.raises(ValueError, match="expected a path"):
        model(None)


# Files


def test_files_are_written_only_where_they_are_asked_for(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model(picture(), **HERE)[0].save_dir is None
    assert [*tmp_path.iterdir()] == []
    result = model(picture(), save=True, **HERE)[0]
    assert result.save_dir == "runs/detect/predict"
    names = {p.name for p in (tmp_path / result.save_dir).iterdir()}
    assert names == {"image0.jpg", "predictions.jsonl"}
    place = tmp_path / "mine"
    model.track([picture(), picture()], save_txt=True, workdir=place, **HERE)
    assert (place / "predictions.jsonl").read_text().count("\n") == 2


def test_lines_are_printed_only_if_asked_for(model, capsys):
    model(picture(), **HERE)
    assert capsys.readouterr() == ("", "")
    model(picture(), verbose=True, **HERE)
    assert re.match(r"image 1 image0: 64x64 \d+ .*ms\n", capsys.readouterr().out)


# Identities

TRACK = HERE | {"track_high_thresh": 0.0, "track_low_thresh": 0.0} | {
    "new_track_thresh": 0.0, "match_thresh": 1.0, "fuse_score": False, "iou": 0.1
}  # fmt: skip


def ids(results):
    return [sorted(result.boxes.id.astype(int).tolist()) for result in results]


def test_identities_last_for_a_call_or_until_they_are_forgotten(model):
    frames = [picture()] * 2
    (first, second) = ids(model.track(frames, **TRACK))
    assert first == second == [*range(1, len(first) + 1)]
    begun = ids(model.track(picture(), persist=True, **TRACK))
    other = picture(5)
    for seed in (5, 6, 7):
        last = ids(model.track(picture(seed), persist=True, **TRACK))
    assert begun == [first]
    assert ids(model.track(other, **TRACK))[0][0] == 1  # a call without is for itself
    with pytest.raises(ValueError, match="had another track_buffer"):
        model.track(picture(), persist=True, **TRACK | {"track_buffer": 3})
    model.reset()
    again = ids(model.track(picture(), persist=True, **TRACK | {"track_buffer": 3}))
    assert again == [first]
    assert last[0] != []
    model.reset()


def test_a_tracker_of_ones_own(model):
    class Last:
        """Gives every detection the number of the frame."""

        frames = 0

        def update(self, boxes, scores, classes, frame=None):
            self.frames += 1
            assert frame.shape == (64, 64, 3)
            numbers = np.full(len(boxes), self.frames, np.int32)
            return Tracks(boxes, numbers, scores, classes, np.arange(len(boxes)))

        def reset(self):
            self.frames = 0

    own = Last()
    found = [*model.track([picture()] * 2, tracker=own, **HERE)]
    found += model.track(picture(), tracker=own, **HERE)
    assert [set(result.boxes.id) for result in found] == [{1}, {2}, {3}]
    with pytest.raises(ValueError, match="tracker = 'sort' is unknown"):
        model.track(picture(), tracker="sort")
    with pytest.raises(ValueError, match="update and reset"):
        model.track(picture(), tracker=object())
    kept = make("botsort")
    assert len(model.track(picture(), tracker=kept, **HERE)) == 1


# Functions


def as_input(bgr):
    return jnp.asarray(bgr[..., ::-1], jnp.float32)[None] / 255


def test_apply_and_decode_give_what_predict_gives(model):
    @jax.jit
    def found(variables, images, conf):
        outputs = model.apply(variables, images)
        return model.decode(outputs, images.shape[1:3], conf=conf, max_det=20)

    made = found(model.variables, as_input(picture()), 0.0)
    boxes = model(picture(), **HERE)[0].boxes
    assert made.boxes.shape == (1, 20, 4)
    there = np.asarray(made.valid[0])
    np.testing.assert_allclose(made.scores[0][there], np.array(boxes.conf), atol=1e-6)
    inside = np.asarray(made.boxes[0][there]).clip(0, 64)
    np.testing.assert_allclose(inside, np.array(boxes.xyxy), atol=1e-3)
    assert not found(model.variables, as_input(picture()), 1.0).valid.any()
    assert found._cache_size() == 1


def test_outputs_have_gradients_and_a_vmap(model):
    images = np.concatenate([as_input(picture(seed)) for seed in range(2)])

    @jax.jit
    def sums(variables):
        scores = lambda one: model.apply(variables, one[None])["scores"]
        total = lambda v: model.apply(v, images)["scores"].sum()
        return jax.vmap(scores)(images).sum(), *jax.value_and_grad(total)(variables)

    mapped, total, gradients = sums(model.variables)
    np.testing.assert_allclose(mapped, total, rtol=1e-5)
    leaves = jax.tree.leaves(jax.device_get(gradients))
    sizes = [float(np.abs(leaf).max()) for leaf in leaves]
    assert np.isfinite(sizes).all()
    assert sum(size > 0 for size in sizes) > len(sizes) // 3


def test_decode_keeps_only_some_classes(model):
    outputs = {
        "boxes": np.zeros((1, 84, 64), np.float32),
        "scores": np.zeros((1, 84, 3), np.float32),
    }
    outputs["scores"][0, :40, 1] = 5.0

    def kept(classes):
        decode = lambda outputs: model.decode(outputs, (64, 64), classes=classes)
        found = jax.device_get(jax.jit(decode)(outputs))
        return {*found.classes[found.valid].tolist()}

    assert kept(None) == {0, 1}
    assert kept([0, 2]) == {0}
    with pytest.raises(ValueError, match="0 to 2"):
        model.decode(outputs, (64, 64), classes=[3])


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_every_task_has_outputs_that_decode(folder, task):
    path = tiny_weights.write(folder, task)
    other = yolojax.load(path, model="tiny_model:build", task=task)

    def found(variables, images):
        return other.decode(other.apply(variables, images), (64, 64))

    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    made = jax.eval_shape(found, other.variables, images)
    assert made.boxes.shape == (2, 300, 4)
    extra = {"segment": made.masks, "pose": made.keypoints, "obb": made.angles}
    assert extra[task].shape[:2] == (2, 300)


def test_other_weights_in_the_same_programs(model, folder):
    before = model(picture(), **HERE)[0]
    count = programs(model)
    other = yolojax.load(tiny_weights.write(folder, scale=0.9), model=OWN)
    changed = model.replace(variables=other.variables)
    made = changed(picture(), **HERE)[0]
    assert not same(made, before)
    assert same(model(picture(), **HERE)[0], before)
    assert programs(changed) == programs(model) == count
    back = changed.replace(variables=jax.device_get(model.variables))
    assert same(back(picture(), **HERE)[0], before)
    with pytest.raises(ValueError, match="in memory only"):
        changed.train("shapes")
    short = jax.tree.map(lambda leaf: leaf[:1], model.variables)
    with pytest.raises(ValueError, match="tensors differ"):
        model.replace(variables=short)


def test_the_log_of_the_program_is_left_alone(model):
    log = logging.getLogger("yolojax")
    before = log.level, [*log.handlers], log.propagate
    model(picture(), **HERE)
    assert (log.level, log.handlers, log.propagate) == before
