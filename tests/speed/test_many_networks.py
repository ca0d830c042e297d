"""A table of networks: which are asked for, what is measured, and what is compared."""

import dataclasses
import json

import jax.numpy as jnp
import pytest
from yolo_files import add, write_yaml

from yolojax import config as config_lib
from yolojax.commands import benchmark
from yolojax.devices import mesh as devices
from yolojax.program.step import Logs
from yolojax.speed import many, peaks, pipeline, record
from yolojax.speed.many import Row


def settings(**changes):
    config = config_lib.default("detect")
    config.update({"device": "cpu:1"} | changes)
    return config_lib.check(config, "benchmark")


def asked(**changes):
    """Returns task and size of each network that is asked for, joined."""
    found = many.asked(settings(**changes))
    return [f"{one.task} {one.model.removeprefix('yolo11')}" for one in found]


def test_all_sizes_of_all_tasks():
    found = asked(models="all")
    assert len(found) == 25 and len(set(found)) == 25
    assert found[:6] == [*(f"detect {s}" for s in "nsmlx"), "segment n"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"models": "n", "tasks": "obb"}, ["obb n"]),
        ({"models": "x, yolo11s", "tasks": "pose"}, ["pose x", "pose s"]),
        (
            {"models": ("n",), "tasks": ("detect", "classify")},
            ["detect n", "classify n"],
        ),
        ({"tasks": "segment"}, [f"segment {s}" for s in "nsmlx"]),
    ],
)
def test_some_of_them(given, wanted):
    assert asked(**given) == wanted


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"models": "n,q"}, "config.models = 'n,q': 'q' is unknown. Allowed: n, s, m"),
        ({"models": "n", "tasks": "detekt"}, "Did you mean 'detect'"),
        ({"models": "n,yolo11n"}, "names one twice"),
        ({"models": "n", "batch": -1}, "batch = -1"),
        ({"models": "n", "cache": "ram"}, "config.cache = 'ram' has no meaning"),
        ({"models": "n", "format": "all"}, "config.format = 'all' of one of formats"),
        ({"models": "n", "data": "/mine"}, "config.data = '/mine' has no meaning"),
    ],
)
def test_what_cannot_be_asked_for(given, answer):
    with pytest.raises(ValueError) as caught:
        asked(**given)
    assert answer in str(caught.value)


def test_the_command_stays_what_it_is_without_them():
    assert not many.is_asked(settings())
    assert many.is_asked(settings(models="n")) and many.is_asked(settings(tasks="obb"))


def test_sizes_are_those_of_the_task_unless_they_are_given():
    def sizes(**changes):
        found = many.asked(settings(models="n", **changes))
        return {one.task: one.imgsz for one in found}

    assert sizes()["detect"] == 640 and sizes()["classify"] == 224
    assert set(sizes(imgsz=320).values()) == {320}
    given = {"batch": 2, "amp": "bf16", "mosaic": 0.5}
    found = {one.task: one for one in many.asked(settings(models="n", **given))}
    one = found["detect"]
    assert (one.batch, one.amp, one.mosaic) == (2, "bf16", 0.5)
    assert found["classify"].batch == 2  # which knows no mosaic


def test_peaks_are_those_of_whole_devices_only():
    assert peaks.peak_of("NVIDIA H100 80GB HBM3").flops == 989e12
    assert peaks.peak_of("TPU v5 lite").flops == 197e12
    assert peaks.peak_of("TPU v5p") == peaks.peak_of("TPU v5")
    for kind in ("cpu", "NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"):
        assert peaks.peak_of(kind) is None
    assert all(peak.source for peak in peaks.PEAKS.values())


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Measures once; the networks are tiny and their pictures small."""
    monkeypatch.setattr(pipeline, "REPEATS", 1)
    monkeypatch.setattr(pipeline, "MIN_SECONDS", 0.0)
    for number in range(2):
        add(tmp_path / "data", "train", f"{number}")
    yaml = "names: [a]\ntrain: images/train\nval: images/train\n"
    write_yaml(tmp_path / "data", yaml)

    def tiny(config):
        changes = {"model": "tiny_model:bare", "data": str(tmp_path / "data")}
        changes |= {"imgsz": 64, "batch": 2, "device": "cpu:1", "models": None}
        return [settings(**changes | {"mosaic": 0.0})]

    monkeypatch.setattr(many, "asked", tiny)
    return tiny


def light_step(net, tx, **options):
    """A step that compiles at once."""

    def step(state, batch, hyper, pixels):
        total = jnp.tanh(batch.image.astype(jnp.float32) * hyper.lr[0]).sum()
        zero = jnp.zeros((), jnp.int32)
        state = dataclasses.replace(state, loss_sum=state.loss_sum + total)
        return state, Logs(state.loss_sum, total, zero, state.loss_sum, zero)

    return step


def test_figures_of_a_network(quick, monkeypatch):
    monkeypatch.setattr(many, "peak_of", lambda kind: peaks.Peak(1e12, "drawn"))
    monkeypatch.setitem(many.CLASSES, "detect", 1)
    real = many.make_program

    def light(*arguments):
        return dataclasses.replace(real(*arguments), make_step=light_step)

    monkeypatch.setattr(many, "make_program", light)
    (config,) = quick(None)
    row = many.measured(config, devices.make_mesh("cpu:1", 2))
    assert (row.task, row.imgsz, row.batch, row.note) == ("detect", 64, 2, "")
    assert row.train > 0 and row.forward > 0 and row.compiling > 0 and row.memory > 0
    assert row.gflop == pytest.approx(3 * 64 * 64 * 3 / 1e9, rel=0.1)
    assert row.forward_gflop > 1e-3
    assert row.mfu == pytest.approx(row.gflop * 1e9 * row.train / 1e12)


def test_the_command_writes_what_another_one_compares_with(
    quick, monkeypatch, tmp_path, capsys
):
    figures = iter([100.0, 150.0])

    def measured(config, mesh):
        row = Row(config.task, "yolo11n", config.imgsz, config.batch)
        return dataclasses.replace(row, train=next(figures), memory=2048.0, gflop=19.6)

    monkeypatch.setattr(many, "measured", measured)
    monkeypatch.setattr(record, "commit", lambda: "0123abc")
    benchmark.run(settings(models="n", batch=2), tmp_path / "out")
    text = (tmp_path / "out" / "benchmark" / "benchmark.json").read_text()
    kept = json.loads(text)
    assert kept["device"] == "cpu" and kept["settings"] == {"batch": 2}
    assert kept["commit"] == "0123abc" and kept["jax"]
    assert kept["rows"][0]["train"] == 100 and kept["peak_flops"] is None
    before = str(tmp_path / "out" / "benchmark")
    benchmark.run(settings(models="n", batch=2, against=before), tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "1.50" in line and "1.00" in line]
    assert max(map(len, lines)) <= 80
    assert (tmp_path / "out" / "benchmark-2" / "benchmark.json").is_file()


def test_lines_say_what_is_not_known_or_not_there():
    row = Row("segment", "yolo11x", 640, 16, 12345.6, 23456.7, 81920.4, 123.4, 1234.5)
    row = dataclasses.replace(row, mfu=0.456)
    assert record.line(row, None).split() == [
        "segment", "yolo11x", "12346", "23457", "81920", "123", "1234", "45.6",
    ]  # fmt: skip
    other = dataclasses.replace(row, imgsz=320)
    assert record.line(row, [other]).split()[3::2] == ["-", "-", "-", "-"]
    half = dataclasses.replace(row, train=row.train / 2, forward=None)
    assert record.line(row, [half]).split()[3:6:2] == ["2.00", "-"]
    lost = dataclasses.replace(row, note="out of memory")
    assert record.line(lost, None).endswith("  out of memory")
    for against in (False, True):
        heads = record.heading(against)
        rows = [row] if against else None
        assert len(heads[0]) == len(record.line(row, rows)) <= 80


def test_records_that_differ_say_in_what():
    here = {"device": "cpu", "devices": 1, "jax": "1", "settings": {"amp": True}}
    assert record.differences(here, here | {"commit": "x"}) == []
    (told,) = record.differences(here, here | {"device": "gpu"})
    assert told == "device: cpu now, gpu then"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 9, "rows": []}'])
def test_what_is_no_record(tmp_path, text):
    file = tmp_path / "benchmark.json"
    file.write_text(text)
    with pytest.raises(ValueError, match="config.against"):
        record.read(str(file))
    with pytest.raises(ValueError, match="config.against"):
        record.read(str(tmp_path / "nowhere"))


def test_a_network_that_does_not_fit_is_told_and_the_others_go_on(quick, monkeypatch):
    import jax

    def full(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 3 GiB")

    monkeypatch.setattr(many, "make_program", full)
    (config,) = quick(None)
    mesh = devices.make_mesh("cpu:1", 2)
    assert many.measured(config, mesh).note == "out of memory"

    def broken(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    monkeypatch.setattr(many, "make_program", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        many.measured(config, mesh)
