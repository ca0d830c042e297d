"""A network in several formats: what is written, compared, timed and left out."""

import itertools
import json
import sys

import exports
import numpy as np
import pytest

from yolojax import config as config_lib
from yolojax.commands import benchmark
from yolojax.export import runners
from yolojax.studies import formats
from yolojax.weights import sources


def settled(weights, **settings):
    config = config_lib.default("detect", "benchmark")
    config.update({"weights": str(weights), "model": "yolo11n", "imgsz": 64})
    config.update({"format": "onnx"} | settings)
    return config_lib.check(config, "benchmark")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of the network of the rule."""
    path = tmp_path_factory.mktemp("weights") / "rule.safetensors"
    given = exports.weights_by_rule("detect")
    sources.write_safetensors(path, given, task="detect", model="yolo11n")
    return path


@pytest.fixture
def shown(monkeypatch):
    """Puts the usual ONNX file in the place of the network, which would be compiled."""
    session = exports.session(exports.onnx_by_rule("detect"))
    monkeypatch.setattr(
        runners,
        "network",
        lambda export: lambda images: session.run(None, {"images": images}),
    )
    monkeypatch.setattr(formats, "ROUNDS", 2)


def test_a_table_and_a_file(tmp_path, weights, shown, capsys):
    benchmark.run(settled(weights), tmp_path)
    report = json.loads((tmp_path / "benchmark" / "formats.json").read_text())
    names = ["jax", "onnx", "onnx half"]
    assert [row["name"] for row in report["rows"]] == names
    assert (report["imgsz"], report["data"], report["left_out"]) == (64, None, {})
    network, full, half = report["rows"]
    assert network["bytes"] == pytest.approx(2 * half["bytes"], rel=0.05)
    assert "differences" not in network
    worst = [row["differences"]["scores"]["all"] for row in (full, half)]
    assert worst[0] == 0 < worst[1] < 1e-2
    assert all(row["ms"] > 0 and row["first_answer_s"] > 0 for row in report["rows"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:4] == ["format", "MB", "first", "s"]
    assert [line[:14].strip() for line in printed[1:4]] == names
    assert max(map(len, printed)) <= 80


def test_what_is_not_installed_is_named(tmp_path, weights, shown, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setattr(
        formats,
        "VARIANTS",
        [
            v
            for v in formats.VARIANTS
            if v.name in ("jax", "onnx", "litert", "litert half")
        ],
    )
    benchmark.run(settled(weights, format="all"), tmp_path)
    report = json.loads((tmp_path / "benchmark" / "formats.json").read_text())
    assert [*report["left_out"]] == ["litert", "litert half"]
    (why,) = set(report["left_out"].values())
    assert "Run: pip install" in why and "litert]" in why
    assert "left out: litert, litert half. config.format" in capsys.readouterr().out
    with pytest.raises(ValueError, match="nothing to compare .* needs the package ai-"):
        benchmark.run(settled(weights, format="litert"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_int8_wants_data(tmp_path):
    export = exports.export_by_rule("detect")
    int8 = [v for v in formats.VARIANTS if v.name == "openvino int8"]
    found, left = formats._written(None, export, int8, tmp_path, False)
    assert not found and "with data=DATA" in left["openvino int8"]


def test_each_looks_twice_in_turn_and_the_second_time_counts():
    seen, ticks = [], itertools.count()

    def run(name, seconds):
        def look(image):
            seen.append((name, int(image)))
            for _ in range(seconds):
                next(ticks)

        return look

    runs = {"a": run("a", 2), "b": run("b", 6)}
    found = formats.in_turns(runs, [*np.arange(3)], clock=lambda: next(ticks))
    assert found == {"a": 3000, "b": 7000}
    assert seen[:8] == [
        *[("a", 0)] * 2,
        *[("b", 0)] * 2,
        *[("a", 1)] * 2,
        *[("b", 1)] * 2,
    ]
    assert len(seen) == 2 * 2 * formats.ROUNDS


@pytest.mark.slow  # fits int8, validates nine files
def test_all_formats_on_data(tmp_path, assets, monkeypatch):
    pytest.importorskip("nncf")
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setattr(formats, "ROUNDS", 1)
    weights = assets / "weights" / "yolo11n-coco.pt"
    data = assets / "data" / "coco128" / "data.yaml"
    config = settled(weights, format="all", data=str(data), imgsz=160)
    benchmark.run(config, tmp_path)
    report = json.loads((tmp_path / "benchmark" / "formats.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert [*rows] == [variant.name for variant in formats.VARIANTS]
    figures = {name: row["figures"]["metrics/mAP50(B)"] for name, row in rows.items()}
    assert figures["jax"] > 0.1
    for name, value in figures.items():
        assert value == pytest.approx(
            figures["jax"], abs=0.05 if "int8" in name else 5e-3
        )
