"""The command that does a step of a run again: what it refuses."""

import json

import pytest

from yolojax import config as config_lib
from yolojax.commands.afterwards import replay


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has saved nothing."""
    settings = dict(config_lib.default("detect").items())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    return tmp_path / "run"


def refused(folder, **changes):
    config = config_lib.default("detect")
    for key, value in changes.items():
        config[key] = value
    with pytest.raises(ValueError) as error:
        replay.run(config_lib.check(config, "replay"), folder)
    return str(error.value)


def test_a_run_is_needed(folder, tmp_path):
    assert "replay needs the folder of one run" in refused(tmp_path)
    both = (str(folder), str(folder))
    assert "replay needs the folder of one run" in refused(tmp_path, runs=both)
    text = refused(tmp_path, runs=str(tmp_path))
    assert text.startswith(f"{tmp_path} is not the folder of a run: it has no config")


def test_without_a_step_there_must_be_one_that_was_not_finite(folder, tmp_path):
    text = refused(tmp_path, runs=str(folder))
    assert text.startswith(f"{folder} has no step that was not finite.")


def test_a_run_without_states_has_no_steps(folder, tmp_path):
    text = refused(tmp_path, runs=str(folder), step=3)
    assert text.startswith(f"{folder} has kept no state that can be read")


def test_a_setting_of_another_run_is_refused(folder, tmp_path):
    text = refused(tmp_path, runs=str(folder), step=3, lr0=0.5)
    assert text.startswith("config.lr0 = 0.5: a step is done again with the settings")
    assert not list(tmp_path.glob("replay*"))


def test_damaged_records_are_passed_over(folder, tmp_path):
    state = folder / "checkpoints" / "last" / "1"
    (state / "record").mkdir(parents=True)
    (state / "record" / "metadata").write_text("{")
    text = refused(tmp_path, runs=str(folder), step=3)
    assert "has kept no state that can be read" in text
