"""Every command that makes a training step makes the same one, to the letter."""

import pytest

from yolojax import config as config_lib
from yolojax.assembly import data as loading
from yolojax.commands import train
from yolojax.devices import mesh as devices
from yolojax.program import batch_size
from yolojax.program.kept.steps import Traceable
from yolojax.speed import network


class SeenError(Exception):
    """The step was lowered; nothing more is needed of the command."""


@pytest.fixture
def lowered(monkeypatch):
    """Returns the function (work) -> the text of the step that it lowers first."""
    real, texts = Traceable.lower, []

    def see(self, *arguments):
        if self.donated:  # the training step
            texts.append(real(self, *arguments).as_text())
        raise SeenError

    def text_of(work):
        with monkeypatch.context() as patch:
            patch.setattr(Traceable, "lower", see)
            with pytest.raises(SeenError):
                work()
        first, *_ = texts
        texts.clear()
        return first

    return text_of


CASES = {
    "plain": {},
    "frozen layers, class weights, summed gradients, fp16, several sizes": {
        "freeze": 2,
        "cls_pw": 0.5,
        "nbs": 64,
        "batch": 11,  # of 22 images: no row is padding
        "bn_groups": 11,
        "amp": "fp16",
        "multi_scale": 0.5,
        "multi_scale_sizes": (96,),
    },
    "several steps at once, rendered on the device": {
        "cache": "device",
        "scan_steps": 2,
        "bn_groups": 2,
        "mosaic": 1.0,
    },
}
SEEN = set()


MARKS = {name: () if name == "plain" else pytest.mark.slow for name in CASES}


@pytest.mark.parametrize("name", [pytest.param(n, marks=MARKS[n]) for n in CASES])
def test_training_benchmark_and_memory_speak_of_one_program(
    name, place, tmp_path, monkeypatch, lowered
):
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    config = config_lib.default("detect")
    usual = {"model": "tiny_model:bare", "imgsz": 64, "batch": 4, "nbs": 16}
    usual |= {"data": str(place / "data"), "device": "cpu:1", "plots": False}
    usual |= {"mosaic": 0.0, "epochs": 2, "optimizer": "sgd", "workers": 0}
    for key, value in (usual | CASES[name]).items():
        config[key] = value
    config = config_lib.check(config)
    mesh = devices.make_mesh(config.device, config.batch)
    source = loading.open_split(config, "train")
    trained = lowered(lambda: train.run(config, tmp_path / "run"))
    predicted = lowered(lambda: batch_size.lowered_step(config, source, mesh, None))
    assert predicted == trained
    assert trained not in SEEN  # what the cases are about is in the text
    SEEN.add(trained)
    if config.scan_steps is None:  # the benchmark measures single steps
        measured = lowered(lambda: list(network.figures(config, source, mesh)))
        assert measured == trained
