"""The command plan, where no compiler is installed, and with counts that are kept."""

import json

import pytest

from yolojax import config as config_lib
from yolojax.commands import plan as command
from yolojax.planning import compiled, loading


@pytest.fixture
def config(place, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    config = config_lib.default("detect")
    config.update(model="tiny_model:build", data=str(place / "data"), imgsz=64)
    config.update(mosaic=0.0)
    config.update(batch=4, epochs=3, plan_for="h100,v5e:4", price="h100=2")
    return config_lib.check(config, "plan")


def rate(config, source):
    return loading.per_core(config, source, seconds=0.01)


def test_an_own_network_is_planned_without_any_compiler(config, tmp_path, capsys):
    assert command.run(config, tmp_path, lambda platform: True, rate) == 0
    printed = capsys.readouterr().out
    assert "tiny_model:build (detect), 64 px, 22 images, 3 epochs" in " ".join(
        printed.split()
    )
    record = json.loads((tmp_path / "plan" / "plan.json").read_text())
    gpu, tpu = record["devices"]
    assert gpu["operations"] == pytest.approx(4 * tpu["operations"])
    # A forward pass of a network as small takes some million operations an image.
    assert 1e7 < gpu["operations"] < 1e9
    assert gpu["launches"] is None and gpu["fits"] is None
    assert gpu["steps"] == 3 * 6 and gpu["cost"] == 2 * gpu["hours_bound"]
    assert record["loader"]["images_per_second_of_a_core"] > 10
    assert (tmp_path / "plan" / "plan.png").stat().st_size > 10_000


def test_what_is_kept_is_not_compiled_again(config, tmp_path, monkeypatch, capsys):
    asked = []

    def ask(self, platform, request, what):
        asked.append(request)
        return vars(compiled.Found(2**20, 2**20 * request["batch"], 900, 10**6, 2, 1))

    monkeypatch.setattr(compiled.Workers, "ask", ask)
    for _ in range(2):
        assert command.run(config, tmp_path, lambda name: name == "tpu", rate) == 0
        count = len(asked)
    assert count == len(asked) == len({str(request) for request in asked})
    gpu, tpu = json.loads((tmp_path / "plan-2" / "plan.json").read_text())["devices"]
    assert (gpu["launches"], gpu["largest_batch"]) == (900, 22)
    assert gpu["binds"] == "launches" and tpu["launches"] is None


def test_devices_are_asked_for(config, tmp_path):
    for given, said in ((None, "plan needs the devices"), ("h101", "Did you mean")):
        changed = config_lib.changed(config, plan_for=given)
        with pytest.raises(ValueError, match=said):
            command.run(changed, tmp_path)
    assert not list(tmp_path.iterdir())
