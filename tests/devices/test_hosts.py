"""Several processes on one run, over loopback: the same figures, and no hanging."""

import json
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import several
from several import closest, ended, rows, started

from yolojax import config as config_lib
from yolojax.data.shapes import folder as shapes
from yolojax.devices import hosts, meeting
from yolojax.errors import MirrorFailed


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with two data sets that differ in their pictures only."""
    folder = tmp_path_factory.mktemp("hosts")
    for name, seed in (("data", 3), ("other", 4)):
        counts = {"train": 20, "val": 10}
        shapes.write_yolo_folder(
            folder / name, task="detect", size=96, counts=counts, seed=seed
        )
    return folder


@pytest.fixture
def port():
    """A port of this machine that is free."""
    return several.free_port()


@pytest.mark.process
def test_two_processes_are_as_one_also_after_one_was_killed(place, port):
    uneven = {"batch": 7, "nbs": 7}  # of four devices
    alone = started(place, "alone", 1, port, **uneven)
    pair = started(place, "pair", 2, port, **uneven)
    saved = place / "pair" / "checkpoints" / "last" / "2"
    deadline = time.monotonic() + 600
    while not saved.exists() and pair[0].poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pair[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    (status, output), _ = ended(pair)
    assert time.monotonic() - killed < 60
    assert status == hosts.AGAIN, output
    assert f"process 1 (pid {pair[1].pid} on" in output
    assert "go on from the last save" in output

    first, second = ended(started(place, "pair", 2, port, **uneven))
    assert first[0] == 0, first[1]
    assert second[0] == 0, second[1]
    assert "resuming at epoch" in first[1]
    assert "4 devices of 2 processes" in first[1]
    assert "resuming" not in second[1]  # the first one speaks for both
    assert "Gloo" not in first[1] + second[1]
    ((status, output),) = ended(alone)
    assert status == 0, output
    most, other = closest(rows(place / "alone"), rows(place / "pair"))
    assert most < 1e-4
    assert not other
    written = [place / "pair" / name for name in ("log.jsonl", "results.csv")]
    assert [len(path.read_text().splitlines()) for path in written] == [3, 4]
    settings = json.loads((place / "pair" / "config.json").read_text())
    assert settings["batch"] == 7


@pytest.mark.process
def test_other_pictures_in_one_process_end_both_with_the_same_words(place, port):
    found = ended(started(place, "differ", 2, port, data=("data", "other")))
    for status, output in found:
        assert status == 2, output
        assert "content of train" in output
        assert "process 1 (pid" in output
    assert not (place / "differ").exists()


def test_what_several_processes_cannot_do_is_refused_before_they_meet():
    values = config_lib.default("detect")
    values["hosts"] = "127.0.0.1:9,2,1"
    with pytest.raises(ValueError, match="track works in one process; train, val"):
        hosts.join(config_lib.check(values), "track")


def test_one_process_alone_agrees_with_itself(tmp_path):
    assert not hosts.joined()
    assert hosts.leads()
    assert hosts.everyone("what", {"a": 1}) == [{"a": 1}]
    assert hosts.shared_folder(tmp_path) == tmp_path
    hosts.agree({"a": 1})
    hosts.wait("what")
    hosts.leave()


@pytest.mark.parametrize(
    ("error", "again", "saved"),
    [
        (MirrorFailed("lost", hosts.AGAIN), True, True),
        (MirrorFailed("lost", hosts.AGAIN), True, False),
        (MirrorFailed("taken", 2), False, True),
    ],
)
def test_the_others_end_with_the_status_of_the_one_that_failed(
    monkeypatch, capfd, error, again, saved
):
    told, ends = [], []
    watch = SimpleNamespace(end=lambda text, again: told.append((text, again)))
    seat, peer = meeting.Seat("127.0.0.1", 9, 2, 0), meeting.Peer(0, 2, "h", 7, {})
    joined = SimpleNamespace(seat=seat, peers=[peer], watch=watch, workdir="")
    monkeypatch.setattr(hosts, "_joined", joined)
    monkeypatch.setattr(hosts.os, "_exit", ends.append)
    monkeypatch.setattr(hosts, "_last_words", threading.Lock())
    hosts.goes_on_by("s3://bucket/run", False)
    if saved:
        hosts.has_saved()
    hosts.failed(error, str(error))
    hosts._end_with(seat, "process 1 failed, too", False)
    assert not ends and not capfd.readouterr().err  # it says its own
    monkeypatch.setattr(hosts, "_last_words", threading.Lock())  # of the other process
    hosts._end_with(meeting.Seat("127.0.0.1", 9, 2, 1), *told[0])
    assert told == [(f"process 0 (pid 7 on h) failed: {error}", again)]
    assert ends == [hosts.AGAIN if again else 2]
    said = capfd.readouterr().err
    advice = "Start the same command again with --workdir s3://bucket/run to "
    aim = "go on from the last save." if saved else "begin again, as nothing was saved"
    assert (advice + aim in said) == again


def test_whoever_waits_says_for_whom(monkeypatch, port, caplog):
    monkeypatch.setattr(hosts, "TOLD_SECONDS", 0.05)
    caplog.set_level("INFO", "yolojax")
    values = config_lib.default("detect")
    values.update(hosts=f"127.0.0.1:{port},2,1", hosts_timeout=1.0)
    with pytest.raises(ValueError, match="process 0 of 2 is missing"):
        hosts.join(config_lib.check(values), "train")
    assert caplog.messages == [
        f"process 1 of 2 waits for the others at 127.0.0.1:{port}, for 1 s at most"
        " (hosts_timeout)"
    ]
