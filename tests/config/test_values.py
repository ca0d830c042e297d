"""Values of single settings: what is taken, what it comes to, and what is refused."""

import logging

import pytest
from settled import changed, refusal

from yolojax import config, optim
from yolojax.assembly import data as loading
from yolojax.assembly.optimizer import run_schedule
from yolojax.config import elsewhere, keys


@pytest.mark.parametrize("batch", [-1, 0.7, 1, 16])
def test_batch_is_a_count_or_automatic(batch):
    settled = changed(batch=batch).batch
    assert settled == batch and type(settled) is type(batch)
    assert changed(batch_size=batch).batch == batch


@pytest.mark.parametrize("batch", [0, -2, -0.5, 1.5, 2.25])
def test_other_batches_are_refused(batch):
    assert f"config.batch = {batch:g}" in refusal(batch=batch)


@pytest.mark.parametrize("fraction", [0.1, 1, 1.0, 50, (0.5, 0.25), (10, 20, 0)])
def test_fraction_is_a_share_a_count_or_one_for_each_split(fraction):
    assert changed(fraction=fraction).fraction == fraction


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, (0.5, 0), (1, 1, 1, 1), ("a",)])
def test_wrong_fractions(fraction):
    text = refusal(fraction=fraction)
    assert "config.fraction = " in text and "such as (0.1, 1.0)" in text


def test_a_run_of_no_time_is_refused():
    assert "config.time = 0: give hours above 0" in refusal(time=0)
    assert changed(time=0.5).time == 0.5


def test_an_address_of_notices_is_one_and_is_asked():
    given = {"preemption_notices": True, "preemption_address": "http://127.0.0.1:8"}
    assert changed(**given).preemption_address == "http://127.0.0.1:8"
    assert "begin with http" in refusal(**given | {"preemption_address": "127.0.0.1"})
    text = refusal(preemption_address="http://127.0.0.1:8")
    assert "Set preemption_notices=true" in text


def test_a_height_that_is_shared_can_be():
    assert changed(spatial=2, imgsz=1536).spatial == 2
    assert "one of 1, 2, 4, 8" in refusal(spatial=3)
    text = refusal(spatial=4, imgsz=672)
    assert "imgsz = 672" in text and "640 or 768" in text
    assert "bn_groups" in refusal(spatial=2, bn_groups=2, batch=16)
    assert "cache=ram" in refusal(spatial=2, cache="device")
    assert "multi_scale" in refusal(spatial=2, multi_scale=0.5)


def test_groups_of_rows_make_up_a_batch():
    assert changed(batch=12, bn_groups=3).bn_groups == 3
    assert changed(batch=-1, bn_groups=5).bn_groups == 5  # the batch is chosen for it
    text = refusal(batch=12, bn_groups=8)
    assert (
        "config.bn_groups = 8" in text and "Give one of 1, 2, 3, 4, 6, 12, or" in text
    )
    values = config.default("detect")
    values.batch, values.bn_groups = 12, 8
    assert config.check(values, "val").batch == 12  # nothing is trained there


def test_sizes_of_multi_scale():
    settled = changed(multi_scale=0.5, multi_scale_sizes=(640, 320.0, 640))
    assert settled.multi_scale_sizes == (320, 640)
    assert "multiple of 32" in refusal(multi_scale=0.5, multi_scale_sizes=(300,))
    assert "multiple of 32" in refusal(multi_scale=0.5, multi_scale_sizes=("a",))
    assert "while multi_scale is 0" in refusal(multi_scale_sizes=(320, 640))
    text = refusal(multi_scale=0.1, multi_scale_sizes=(320, 640))
    assert "means sizes from 576 to 704, which 320 is not" in text


@pytest.mark.parametrize(
    ("name", "value"), [("clahe", 0.1), ("rect", True), ("to_gray", 1.0)]
)
def test_what_only_the_host_renders(name, value):
    text = refusal(cache="device", **{name: value})
    assert f"cannot go with {name}={value}" in text and "cache='ram'" in text
    assert changed(cache="ram", **{name: value})[name] == value


def test_steps_of_one_dispatch_need_images_on_the_device():
    assert "needs cache='device'" in refusal(scan_steps=4)
    assert changed(scan_steps=4, cache="device").scan_steps == 4


def test_batch_size_is_another_name_of_batch(caplog):
    with caplog.at_level(logging.INFO, "yolojax"):
        assert changed(batch_size=8).batch == 8
        assert changed(batch_size=8, batch=8).batch == 8
    assert "config.batch_size = 8 is taken as config.batch" in caplog.text
    assert changed(batch_size=8, batch=4).batch == 8  # a config file's own batch


def test_true_keeps_images_in_memory():
    assert changed(cache=True, workers=2).cache == "ram"


def test_image_size_is_rounded_up_with_a_notice(caplog):
    with caplog.at_level(logging.INFO, "yolojax"):
        assert changed(imgsz=64).imgsz == 64
        assert not caplog.text
        assert changed(imgsz=100).imgsz == 128
    assert "config.imgsz = 100: rounded up to 128" in caplog.text


@pytest.mark.parametrize("scale", [0.0, 0.9, 1, (0.5, 2.0), [0.2, 0.2]])
def test_scale_is_a_number_or_a_pair(scale):
    settled = changed(scale=scale).scale
    assert settled == (tuple(scale) if isinstance(scale, list) else scale)


def test_scale_above_one_explains_the_pair():
    text = refusal(scale=2.0)
    assert "[1-s, 1+s]" in text and "scale=(0.5, 2.0)" in text


@pytest.mark.parametrize("scale", [(0.5,), (2.0, 0.5), (0.0, 1.0), (0.1, "a"), ()])
def test_wrong_pairs(scale):
    assert f"config.scale = {scale!r}" in refusal(scale=scale)


@pytest.mark.parametrize(
    ("given", "settled"),
    [(True, True), (False, False), ("bf16", "bf16"), ("BF16", "bf16")]
    + [("FP16", "fp16"), ("fp32", False)],
)
def test_precision_names_in_any_letter_case(given, settled):
    found = changed(amp=given).amp
    assert found == settled and type(found) is type(settled)


def test_unknown_precision():
    text = refusal(amp="bf17")
    assert "'bf17' is unknown. Did you mean 'bf16'?" in text and "'fp16'" in text


@pytest.mark.parametrize("name", ["SGD", "MuSGD", "AdamW", "auto", "RMSProp"])
def test_optimizer_in_any_letter_case(name):
    assert changed(optimizer=name).optimizer == name.lower()


def test_own_optimizer_keeps_its_letter_case():
    assert changed(optimizer="mine:Best").optimizer == "mine:Best"


def test_unknown_optimizer_names_the_nearest():
    text = refusal(optimizer="AdamX")
    assert "unknown. Did you mean 'adam" in text and "musgd" in text


def test_every_optimizer_name_exists():
    assert set(keys.OPTIMIZER_NAMES) == {"auto", *optim.OPTIMIZERS}


def plan(**settings):
    return run_schedule(changed(**settings), n_images=200, num_classes=3)


def test_auto_optimizer_says_which_settings_it_does_not_use():
    notes = " ".join(plan(lr0=0.2, momentum=0.5).notes)
    assert "Not used: lr0=0.2, momentum=0.5" in notes
    assert "Not used" not in " ".join(plan(optimizer="sgd", lr0=0.2).notes)


@pytest.mark.parametrize("given", [1, [1], (1, 1.0)])
def test_classes_become_sorted_whole_numbers(given):
    assert changed(classes=given).classes == (1,)
    assert changed(classes=[2, 0]).classes == (0, 2)


@pytest.mark.parametrize("given", [-1, [0, -2], [0.5], ["person"]])
def test_wrong_classes(given):
    assert "config.classes" in refusal(classes=given)


@pytest.mark.parametrize("device", ["cpu", "gpu", "tpu", "cpu:8", "gpu:2"])
def test_devices(device):
    assert changed(device=device).device == device
    assert changed(device=device.upper()).device == device


@pytest.mark.parametrize(
    ("device", "same"),
    [("cuda", "gpu"), ("0", "cuda:0"), (0, "cuda:0"), ("0,1", "cuda:0,1")]
    + [((1, 0), "cuda:1,0"), ("cuda:1", "cuda:1"), ("CUDA:0, 3", "cuda:0,3")]
    + [("gpu:0,1", "cuda:0,1"), ([2], "cuda:2"), ("gpu:1", "gpu:1")],
)
def test_devices_as_they_are_called_elsewhere(device, same):
    assert changed(device=device).device == same
    assert changed(device=same).device == same


@pytest.mark.parametrize(
    "device",
    ["gpu:", "gpu:0", "gpu:x", "cpu:-1", -1, "mps", "cuda:", "0,0", "cpu:0,1", "gpu2"],
)
def test_wrong_devices(device):
    text = refusal(device=device)
    assert f"config.device = {str(device)!r} is unknown. Write cpu, gpu or tpu" in text
    assert "'0,1' or 'cuda:1'" in text


@pytest.mark.parametrize("imgsz", [(640, 480), [480, 640], "640x480", "640*480"])
def test_a_height_and_a_width_are_refused_with_the_reason(imgsz):
    text = refusal(imgsz=imgsz)
    assert "expected one number, the longer side of the input" in text
    assert "rect=true" in text
    assert changed(imgsz=(320, 320)).imgsz == changed(imgsz="320x320").imgsz == 320


@pytest.mark.parametrize(
    ("said", "meant"),
    [("lr", "lr0"), ("learning_rate", "lr0"), ("LearningRate", "lr0"), ("bs", "batch")]
    + [("batchsize", "batch"), ("worker", "workers"), ("num_workers", "workers")]
    + [("img_size", "imgsz"), ("image_size", "imgsz"), ("num_epochs", "epochs")]
    + [("wd", "weight_decay"), ("dataset", "data"), ("gpus", "device")]
    + [("grad_clip", "clip_norm"), ("conf_thres", "conf"), ("optim", "optimizer")],
)
def test_what_settings_are_called_elsewhere_suggests_the_right_one(said, meant):
    with pytest.raises(ValueError, match=f"Did you mean '{meant}'?"):
        keys.check_name(said)


def test_nicknames_mean_settings_and_are_none():
    assert set(elsewhere.NICKNAMES.values()) <= set(keys.KEYS)
    assert all(word.isalnum() and word.islower() for word in elsewhere.NICKNAMES)
    assert not set(elsewhere.NICKNAMES) & {*keys.KEYS, *elsewhere.NOT_YET}


@pytest.mark.parametrize("name", ["a/b", "..", "../x"])
def test_run_name_is_no_path(name):
    assert "--workdir" in refusal(name=name)


def test_a_number_can_name_a_run():
    assert changed(name=3).name == "3"


def test_data_path_is_absolute_so_that_a_run_finds_it_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert changed(data="a/data.yaml").data == str(tmp_path / "a/data.yaml")
    assert changed(data="~/data.yaml").data == str(tmp_path / "me/data.yaml")
    assert changed(data="shapes").data == "shapes"


@pytest.mark.parametrize(
    ("workers", "backend", "cores", "expected"),
    [(-1, "cpu", 64, 0), (-1, "gpu", 64, 8), (-1, "gpu", 4, 3), (-1, "tpu", 1, 0)]
    + [(0, "gpu", 64, 0), (5, "cpu", 2, 5)],
)
def test_automatic_workers(workers, backend, cores, expected):
    assert loading.auto_workers(workers, backend, cores) == expected
