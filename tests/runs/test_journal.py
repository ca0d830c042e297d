"""The record of a run: what is saved of it, and records of other versions."""

import json

import pytest

from yolojax import optim
from yolojax.runs.journal import Identity, Journal, RunRecord, names_hash

FULL = RunRecord(
    Journal(
        epoch=3,
        saves=9,
        seconds=12.5,
        best_fitness=0.25,
        stopper=optim.Stopper(best=0.25, best_epoch=2),
        may_stop=True,
        devices=8,
        metrics={"metrics/mAP50(B)": 0.5},
    ),
    Identity(
        names=("a", "b"),
        images="2 (abc)",
        content="def",
        start="012",
        model="yolo11n",
        imgsz=64,
        batch=4,
        planned_epochs=7,
        optimizer="sgd",
        class_width=80,
        licence="AGPL-3.0",
        kpt_shape=(5, 2),
    ),
)


def test_a_record_comes_back_from_json():
    assert RunRecord.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL
    assert RunRecord.from_json(RunRecord().to_json()) == RunRecord()


def test_no_field_is_left_at_its_default_above():
    """Else the test before would not notice that it gets lost."""
    usual, full = RunRecord().to_json(), FULL.to_json()
    same = {name for name in usual if usual[name] == full[name]}
    assert same == {"stopped", "ended"}


@pytest.mark.parametrize("name", FULL.to_json())
def test_older_records_lack_fields_and_newer_ones_have_more(name):
    values = FULL.to_json()
    del values[name]
    record = RunRecord.from_json(values | {"of the future": [1]})
    assert record.to_json()[name] == RunRecord().to_json()[name]


def test_patience_that_was_raised_lets_a_stopped_run_go_on():
    journal = Journal(epoch=6, stopped=True, may_stop=True)
    journal.stopper = optim.Stopper(best=0.5, best_epoch=2)
    journal.apply_patience(4)
    assert (journal.stopped, journal.may_stop) == (True, True)
    journal.apply_patience(5)
    assert (journal.stopped, journal.may_stop) == (False, True)
    journal.stopped = True
    journal.apply_patience(0)
    assert (journal.stopped, journal.may_stop) == (False, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": "adamw"}, "goes on with sgd, but .* chooses adamw"),
        ({"names": ("a", "c")}, "names were .*'b'.* are .*'c'"),
        ({"images": "3 (x)"}, r"images were 2 \(abc\) and are 3 \(x\)"),
    ],
)
def test_a_run_of_something_else_does_not_go_on(change, said, tmp_path):
    same = {"optimizer": "sgd", "names": ("a", "b"), "images": "2 (abc)"}
    FULL.check_same_run(Identity(**same), tmp_path)
    with pytest.raises(ValueError, match=said):
        FULL.check_same_run(Identity(**same | change), tmp_path)


def test_the_hash_of_images_follows_their_names_alone():
    one = names_hash(["x/a.jpg", "x/b.jpg"])
    assert one == names_hash(["y/z/a.jpg", "q/b.jpg"])
    assert one != names_hash(["x/b.jpg", "x/a.jpg"])
