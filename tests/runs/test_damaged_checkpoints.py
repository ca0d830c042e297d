"""Checkpoints that are not whole: the one before, or one line that says what to do."""

import gc
import logging
import os
import shutil

import numpy as np
import pytest

from yolojax.runs import checkpoint


def weights(seed, count=3):
    arrays = np.random.default_rng(seed).random((count, 50, 50), np.float32)
    params = {str(i): array for i, array in enumerate(arrays)}
    return {"params": params, "batch_stats": {}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the folder of a run with two best checkpoints and a last one."""
    folder = tmp_path_factory.mktemp("whole")
    with checkpoint.open_checkpoints(folder) as found:
        for number in (1, 3):
            found.save_best(number, weights(number), {"epoch": number})
            found.wait()
    shutil.copytree(folder / "checkpoints/best/3", folder / "checkpoints/last/4")
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """Returns a copy of that folder."""
    return shutil.copytree(whole, tmp_path / "run")


def largest(path):
    return max((p for p in path.rglob("d/*")), key=lambda p: p.stat().st_size)


def halve(path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = {
    "record/metadata is missing": lambda p: shutil.rmtree(p / "record"),
    "state/_METADATA is missing": lambda p: (p / "state/_METADATA").unlink(),
    "state/manifest.ocdbt is missing": lambda p: (p / "state/manifest.ocdbt").unlink(),
    "it cannot be read (OUT_OF_RANGE": lambda p: halve(largest(p)),
    "it cannot be read (": lambda p: largest(p).unlink(),
    "it cannot be read (Unterminated": lambda p: halve(p / "record/metadata"),
    "it cannot be read (Expecting": lambda p: (p / "state/_METADATA").write_text("no"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(run, caplog, capfd, what):
    path = run / "checkpoints/best/3"
    DAMAGES[what](path)
    tree, record = checkpoint.find_weights(run)
    assert record == {"epoch": 1}
    np.testing.assert_array_equal(tree["params"]["2"], weights(1)["params"]["2"])
    [told] = caplog.messages
    assert told.startswith(f"{path} is damaged: {what}") and "\n" not in told
    assert told.endswith(f"{run}/checkpoints/best/1 is used instead")
    DAMAGES[what](path.with_name("1"))
    assert checkpoint.find_weights(run)[1] == {"epoch": 3}  # of the last state
    DAMAGES[what](run / "checkpoints/last/4")
    with pytest.raises(ValueError, match="No other checkpoint is whole. Copy") as error:
        checkpoint.find_weights(run)
    assert f"{path} is damaged: {what}" in str(error.value)
    assert capfd.readouterr().err == ""


def test_arrays_that_fail_together_are_told_once(tmp_path, caplog, capfd):
    with checkpoint.open_checkpoints(tmp_path) as found:
        for number in (1, 3):
            found.save_best(number, weights(number, 30), {"epoch": number})
            found.wait()
    path = tmp_path / "checkpoints/best/3"
    os.truncate(largest(path), 100)
    for _ in range(8):
        checkpoint.find_weights(tmp_path)
    gc.collect()  # tells of errors that nobody asked for
    assert [m.split(" damaged")[0] for m in caplog.messages] == [f"{path} is"] * 8
    assert capfd.readouterr().err == ""


def test_a_run_goes_on_without_what_is_damaged(run, caplog):
    best, last = run / "checkpoints/best", run / "checkpoints/last"
    (last / "99").mkdir()  # of a copy that had just begun
    halve(largest(best / "3"))
    with checkpoint.open_checkpoints(run) as found:
        assert found.newest() == 4 and found.best.latest_step() == 1
    moved = sorted(p.name[:7] for p in (run / "checkpoints/damaged").iterdir())
    assert moved == ["best-3-", "last-99"]
    assert len(caplog.messages) == 2 and "99 is damaged" in caplog.text
    halve(largest(best / "1"))
    with checkpoint.open_checkpoints(run) as found:
        assert found.newest() == 4 and not found.has_best()


def test_a_run_whose_only_state_is_damaged_says_what_to_do(run):
    path = run / "checkpoints/last/4"
    (path / "record/metadata").unlink()
    before = sorted(run.rglob("*"))
    with pytest.raises(ValueError, match="record/metadata is missing") as error:
        checkpoint.open_checkpoints(run)
    assert str(error.value).startswith(f"{path} is damaged")
    assert f"--config.pretrained={run} and another --workdir" in str(error.value)
    assert sorted(run.rglob("*")) == before  # nothing is started anew


def test_a_run_whose_states_are_gone_is_not_started_over(run):
    shutil.rmtree(run / "checkpoints/last/4")
    before = sorted(run.rglob("*"))
    with pytest.raises(ValueError, match="last holds no state to go on from") as error:
        checkpoint.open_checkpoints(run)
    assert f"--config.pretrained={run} and another --workdir" in str(error.value)
    assert sorted(run.rglob("*")) == before
    shutil.rmtree(run / "checkpoints/best/3")  # the first, whose state was not written
    with checkpoint.open_checkpoints(run) as found:
        assert found.newest() is None and found.has_best()


def test_what_lies_beside_checkpoints_is_none(run, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    for kind, number in (("best", 3), ("last", 4)):
        place = run / "checkpoints" / kind
        for name in (
            f"{number}_backup",
            f"{number} (copy)",
            f"0{number}",
            "lost+found",
        ):
            shutil.copytree(place / f"{number}", place / name)
        (place / ".DS_Store").write_text("x")
        (place / "77").write_text("x")
    with checkpoint.open_checkpoints(run) as found:
        assert found.newest() == 4 and found.best.latest_step() == 3
    assert checkpoint.find_weights(run)[1] == {"epoch": 3}
    assert not caplog.messages
