"""A run of version 0.1.0 that was left in its middle goes on, and can be evaluated."""

import json
import math
import tarfile

import pytest
from forked_runs import results
from places import GOLDEN

from yolojax import config as config_lib
from yolojax.commands import evaluate, train
from yolojax.runs import checkpoint

ARCHIVE = GOLDEN / "run_of_0_1_0.tar.xz"
METRICS = ("metrics/precision(B)", "metrics/recall(B)", "metrics/mAP50(B)")
METRICS += ("metrics/mAP50-95(B)",)


@pytest.fixture
def older(tmp_path, monkeypatch):
    """Returns the folder of an unpacked run, its settings and what 0.1.0 measured."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    for file in (tmp_path / "run" / "config.json", tmp_path / "data" / "data.yaml"):
        file.write_text(file.read_text().replace("DATA", str(tmp_path / "data")))
    config = config_lib.default("detect")
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    for name, value in recorded.items():
        config[name] = value
    config.compile_cache, config.save_minutes, config.device = "off", 0.0, "cpu:1"
    expected = json.loads((tmp_path / "expected.json").read_text())
    return tmp_path / "run", config, expected


def test_its_weights_are_worth_what_they_were(older):
    folder, config, expected = older
    # Exactly as the version that made it was told.
    evaluate.run(config_lib.check(config), folder)
    found = json.loads((folder / "val" / "metrics.jsonl").read_text())
    for name in METRICS:
        want = expected["evaluated"][name]
        assert found[name] == pytest.approx(want, abs=1e-3), name
    assert found["weights"].endswith("(after epoch 118)")


@pytest.mark.process
def test_it_goes_on_where_it_was_killed(older, caplog):
    caplog.set_level("INFO", "yolojax")
    folder, config, expected = older
    before = results(folder)
    assert [row["epoch"] for row in before][-1] == "120"
    train.run(config_lib.check(config), folder)
    assert "resuming at epoch 121 of 122, step 361 of 366" in caplog.text
    after = results(folder)
    assert after[:120] == before
    assert [row["epoch"] for row in after[120:]] == ["121", "122"]
    for row, want in zip(after[120:], expected["epochs_after"], strict=True):
        # The schedule goes on to the digit. Augmentation draws other numbers than that
        # version, so that losses and metrics of two epochs agree roughly.
        for name, value in want.items():
            got = float(row[name])
            if name.startswith("lr/"):
                assert math.isclose(got, value, rel_tol=1e-5), name
            elif name != "epoch":
                assert got == pytest.approx(value, abs=0.15), name
    _, record = checkpoint.load_weights(folder, checkpoint.LAST)
    assert (record["epoch"], record["optimizer"]) == (122, "sgd")
    assert record["names"] == ["circle", "triangle", "rectangle", "star"]
