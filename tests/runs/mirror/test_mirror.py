"""A run's folder in a bucket: whole or not there, also when killed, and patient."""

import logging
import shutil
import threading
from pathlib import Path

import pytest
from buckets import (
    Bucket,
    Clock,
    Killed,
    content,
    mirror_of,
    place_of,
    remove,
    write_checkpoint,
    write_save,
)

from yolojax.errors import Interrupted, MirrorFailed
from yolojax.runs.mirror.mirror import AGAIN, ENDED
from yolojax.runs.mirror.scratch import Scratch, settled

OFFLINE = OSError("no route to host")


@pytest.fixture
def bucket():
    return Bucket()


def saved(mirror, number, best=None):
    """Has a run save, and the mirror do all that there is to do."""
    write_save(mirror.folder, number, best)
    mirror.saved(number)
    return mirror.turn()


def test_a_fresh_machine_gets_every_byte_of_the_newest_save(bucket, machine):
    mirror = mirror_of(bucket)
    assert saved(mirror, 1, best=1) is None
    assert saved(mirror, 2) is None
    was = content(mirror.folder)
    assert mirror.upload.saves == 2
    machine("second")
    other = mirror_of(bucket)
    assert other.folder != mirror.folder
    assert content(other.folder) == was
    assert saved(other, 3) is None
    machine("third")
    assert content(mirror_of(bucket).folder) == content(other.folder)


def test_what_did_not_change_is_uploaded_once_and_what_is_replaced_removed(bucket):
    mirror = mirror_of(bucket)
    saved(mirror, 1, best=1)
    first = set(bucket.keys())
    del bucket.done[:]
    saved(mirror, 2)
    second = set(bucket.keys())
    kept = {key.partition("-")[2] for key in first & second}
    assert kept == {"config.json", "values", "metadata", "_METADATA"}  # of the best
    assert first - second and set(bucket.done) == (first ^ second) | {
        *bucket.keys("manifests"),
        *(key for key in bucket.done if key.startswith("manifests/00000001")),
    }
    assert len(bucket.keys("manifests")) == 1
    assert "write-check" not in str(bucket.keys(""))


def test_killed_at_any_change_the_bucket_holds_a_whole_state(bucket, machine):
    mirror = mirror_of(bucket)
    saved(mirror, 1, best=1)
    states = {1: content(mirror.folder)}
    write_save(mirror.folder, 2, best=2)
    remove(mirror.folder / "checkpoints/best/1")
    states[2] = content(mirror.folder)
    store = dict(bucket.store)
    seen = []
    for left in range(100):
        bucket.store.clear()
        bucket.store.update(store)
        machine("first")
        mirror = mirror_of(bucket)
        bucket.left = left
        mirror.saved(2)
        killed = False
        try:
            mirror.turn()
        except Killed:
            killed = True
        bucket.left = None
        machine(f"fresh-{left}")
        fetched = Scratch(mirror.address)
        seen.append(settled(place_of(bucket), fetched).saves)
        assert content(fetched.run) == states[seen[-1]]
        if not killed:
            break
    assert len(seen) > 15 and sorted(seen) == seen and set(seen) == {1, 2}


def test_what_a_killed_upload_left_is_used_and_cleared_up(bucket):
    mirror = mirror_of(bucket)
    bucket.left = 4
    with pytest.raises(Killed):
        saved(mirror, 1, best=1)
    bucket.left = None
    half = set(bucket.keys())
    assert len(half) == 5  # the last of them is empty
    del bucket.done[:]
    again = mirror_of(bucket)
    again.saved(1)
    assert again.turn() is None
    assert len(half & set(bucket.done)) == 1
    assert half < set(bucket.keys())


def test_a_save_is_mirrored_once_its_checkpoint_is_finished(bucket):
    mirror = mirror_of(bucket)
    write_save(mirror.folder, 1)
    unfinished = mirror.folder / "checkpoints/last/2.orbax-checkpoint-tmp-1"
    unfinished.mkdir()
    mirror.saved(2)
    with open(mirror.folder / "results.csv", "a") as file:
        file.write("of a later epoch\n")
    assert 0 < mirror.turn() < 1
    assert not bucket.keys()
    shutil.rmtree(unfinished)
    write_save(mirror.folder, 2)
    assert mirror.turn() is None
    assert "2.orbax" not in str(bucket.keys())
    key = next(key for key in bucket.keys() if "results" in key)
    assert bucket.cat_file(f"{bucket.root}/{key}") == b"1\n"  # as when it was saved


def test_states_that_the_run_keeps_and_the_newest_best_weights_are_mirrored(bucket):
    for states in (1, 2):
        mirror = mirror_of(bucket, states=states)
        write_save(mirror.folder, 5, best=4)
        for kind, number in (("last", 3), ("last", 4), ("best", 2), ("best", 6)):
            write_checkpoint(mirror.folder, kind, number)
        write_checkpoint(mirror.folder, "epochs", 1)
        mirror.saved(5)
        assert mirror.turn() is None
        listed = {Path(e.path).parts[1:3] for e in mirror.upload.entries}
        kept = {("last", str(n)) for n in (5, 4)[:states]}
        assert listed - {()} == kept | {("best", "4"), ("epochs", "1")} | {("events",)}


def test_a_save_that_was_replaced_before_it_was_read_is_passed_over(bucket):
    mirror = mirror_of(bucket)
    write_save(mirror.folder, 1)
    mirror.saved(1)
    write_save(mirror.folder, 2)
    assert mirror.turn() is None
    assert not bucket.keys()
    mirror.saved(2)
    assert mirror.turn() is None and mirror.upload.saves == 2


def test_a_failing_bucket_is_told_once_and_once_when_it_is_back(bucket, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    clock, told = Clock(), []
    mirror = mirror_of(bucket, clock=clock, grace=60)
    mirror.watch(told.append)
    bucket.error = OFFLINE
    pauses = [saved(mirror, 1)]
    for number in (1, 2, 3):
        clock.now += pauses[-1]
        if number > 1:
            write_save(mirror.folder, number)
            mirror.saved(number)
        pauses.append(mirror.turn())
    assert pauses == [1, 2, 4, 8]
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "no route to host" in caplog.text and "after 1 minutes" in caplog.text
    bucket.error = None
    clock.now += 8
    assert mirror.turn() is None
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]
    assert "again, after 15 s: it holds save 3" in caplog.text
    assert not told and mirror.broken is None


def test_a_bucket_that_stays_away_stops_the_run_when_its_grace_is_over(bucket):
    clock, told = Clock(), []
    mirror = mirror_of(bucket, clock=clock, grace=60)
    saved(mirror, 1)
    mirror.watch(told.append)
    bucket.error = OFFLINE
    pause, pauses = saved(mirror, 2), []
    while pause is not None and not told:
        clock.now += pause
        pauses.append(pause)
        pause = mirror.turn()
    assert sum(pauses) == 60 and len(pauses) < 10
    assert len(told) == 1 and "for 1 minutes (no route to host)" in told[0]
    assert "holds save 1" in told[0] and str(mirror.folder) in told[0]
    assert mirror.broken.status == AGAIN
    write_save(mirror.folder, 3)
    mirror.saved(3)  # it stays given up, and the run goes on to its end
    assert mirror.turn() is None


def test_a_bucket_that_hangs_is_given_up_as_well(bucket):
    clock, told = Clock(), []
    mirror = mirror_of(bucket, clock=clock, grace=60)
    mirror.watch(told.append)
    write_save(mirror.folder, 1)
    mirror.saved(1)
    clock.now += 59
    mirror.saved(1)
    assert not told
    clock.now += 2
    mirror.saved(1)
    assert len(told) == 1 and "nothing was heard of it" in told[0]


def test_an_upload_that_fails_after_it_was_given_up_is_not_told_as_tried_again(
    bucket, caplog
):
    clock, told = Clock(), []
    mirror = mirror_of(bucket, clock=clock, grace=60)
    mirror.watch(told.append)
    write_save(mirror.folder, 1)
    mirror.saved(1)

    def late():
        clock.now += 61
        mirror.saved(1)
        raise OFFLINE

    bucket.before = {"files/": late}
    assert mirror.turn() is None
    assert len(told) == 1 and "nothing was heard of it" in told[0]
    assert not caplog.records


def test_a_second_start_elsewhere_is_noticed_and_nothing_overwritten(bucket, machine):
    mirror = mirror_of(bucket)
    saved(mirror, 1)
    machine("second")
    other = mirror_of(bucket)
    saved(other, 2)
    whole = dict(bucket.store)
    told = []
    mirror.watch(told.append)
    saved(mirror, 2)
    assert mirror.broken.status == ENDED
    assert "a second start of this one" in told[0] and "End one" in told[0]
    assert bucket.store == whole
    assert saved(other, 3) is None and other.broken is None


@pytest.mark.parametrize("late", [False, True])
def test_of_two_that_write_at_the_same_moment_one_goes_on(bucket, machine, late):
    mirror = mirror_of(bucket)
    saved(mirror, 1)
    machine("second")
    other = mirror_of(bucket)
    write_save(other.folder, 2)
    machine("first")
    write_save(mirror.folder, 2)

    def meanwhile():
        other.saved(2)
        other.turn()

    # Either before the first one's check, or between that and its manifest.
    bucket.before = {"manifests/" if late else "files/": meanwhile}
    mirror.saved(2)
    mirror.turn()
    assert mirror.broken is not None and other.broken is None
    machine("third")
    fetched = Scratch(mirror.address)
    assert settled(place_of(bucket), fetched).saves == 2
    assert content(fetched.run) == content(other.folder)


def test_the_newer_save_of_the_same_run_wins(bucket, machine):
    mirror = mirror_of(bucket)
    saved(mirror, 1)
    write_save(mirror.folder, 2)  # not mirrored before the machine was lost
    again = mirror_of(bucket)
    assert (again.folder / "checkpoints/last/2").is_dir()
    machine("second")
    other = mirror_of(bucket)
    assert (other.folder / "checkpoints/last/1").is_dir()
    for number in (2, 3, 4):
        saved(other, number)
    machine("first")
    assert content(mirror_of(bucket).folder) == content(other.folder)


class TestEnd:
    """What happens when the body of `with` ends."""

    def test_it_waits_for_the_newest_state(self, bucket):
        with mirror_of(bucket) as mirror:
            write_save(mirror.folder, 1)
            mirror.saved(1)
            (mirror.folder / "results.png").write_bytes(b"drawn last")
        assert any("results.png" in key for key in bucket.keys())
        assert not Scratch(mirror.address).staged.exists()
        assert "mirror" not in {thread.name for thread in threading.enumerate()}

    def test_without_a_state_nothing_is_mirrored(self, bucket):
        with pytest.raises(ValueError, match="refused"), mirror_of(bucket) as mirror:
            mirror.folder.mkdir(parents=True)
            (mirror.folder / "config.json").write_text("{}")
            raise ValueError("refused")
        assert not bucket.keys()

    @pytest.mark.parametrize("error", [None, Interrupted("stopped", 0), ValueError()])
    def test_a_mirror_that_was_given_up_is_the_error_unless_there_is_one(
        self, bucket, error
    ):
        mirror = mirror_of(bucket, grace=0)
        expected = MirrorFailed if not isinstance(error, ValueError) else ValueError
        with pytest.raises(expected), mirror:
            write_save(mirror.folder, 1)
            bucket.error = OFFLINE
            mirror.saved(1)
            assert mirror._idle.wait(10)
            if error is not None:
                raise error

    @pytest.mark.parametrize("hangs", [True, False])
    def test_a_run_that_was_asked_to_stop_does_not_wait_for_ever(
        self, bucket, caplog, hangs
    ):
        clock, free = Clock(), threading.Event()
        mirror = mirror_of(bucket, clock=clock, grace=1e9)
        passing = iter(range(70, 1000, 70))

        def tell(text):
            clock.now = 100 + next(passing)

        mirror._tell = tell
        if hangs:
            bucket.before = {"files/": free.wait}
        with pytest.raises(Interrupted), mirror:
            write_save(mirror.folder, 1)
            bucket.error = None if hangs else OFFLINE
            raise Interrupted("stopped", 143)
        free.set()
        assert clock.now - 100 == (140 if hangs else 70)
        assert "it holds no state, and the newest is in" in caplog.text
