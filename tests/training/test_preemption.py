"""Notices of clouds, served on loopback, and what a run makes of them."""

import http.server
import json
import threading
from types import SimpleNamespace

import forked_runs
import numpy as np
import pytest
from forked_runs import run_here, state_of

from yolojax.errors import Interrupted
from yolojax.program.dispatch import TrainDispatch
from yolojax.training import epoch_end, preemption
from yolojax.training.stop import StopRequest

GCE = "/computeMetadata/v1/instance/"
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
ACTION = "/latest/meta-data/spot/instance-action"


class Metadata(http.server.BaseHTTPRequestHandler):
    """Answers by path, to whom knows the header that the cloud wants."""

    def do_GET(self):  # noqa: N802
        says, headers = self.server.says, self.headers
        known = {
            "/computeM": headers["Metadata-Flavor"] == "Google",
            "/latest/m": headers["X-aws-ec2-metadata-token"] == f"t{self.server.given}",
            "/metadata": headers["Metadata"] == "true",
        }
        self.server.asked.append(self.path)
        text = says.get(self.path)
        status = 404 if text is None else 200 if known[self.path[:9]] else 401
        self.answer(status, text or "")

    def do_PUT(self):  # noqa: N802
        if ACTION not in self.server.says and not self.server.says.get("ec2"):
            return self.answer(405, "")
        assert int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 60
        self.server.given += 1
        return self.answer(200, f"t{self.server.given}")

    def answer(self, status, text):
        self.send_response(status)
        if self.path.startswith(GCE):
            self.send_header("Metadata-Flavor", "Google")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def cloud():
    """A metadata service: `says` is a text by path, `asked` the paths."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        server.says, server.asked, server.given = {}, [], 0
        server.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def gce(preempted="FALSE", event="NONE"):
    return {f"{GCE}preempted": preempted, f"{GCE}maintenance-event": event}


def azure(kind, *machines):
    event = {"EventType": kind, "Resources": machines, "NotBefore": "Mon, 19 Sep"}
    return {EVENTS: json.dumps({"Events": [event]}), NAME: "mine"}


@pytest.mark.parametrize(
    ("says", "notice"),
    [
        (gce(), None),
        (gce("TRUE"), "GCE preempts this machine"),
        (gce(event="MIGRATE_ON_HOST_MAINTENANCE"), None),  # it goes on elsewhere
        (gce(event="TERMINATE_ON_HOST_MAINTENANCE"), "GCE maintains this machine"),
        (azure("Preempt", "mine"), "Azure will preempt this machine at Mon, 19 Sep"),
        (azure("Freeze", "mine"), None),
        (azure("Terminate", "other"), None),
    ],
)
def test_what_clouds_say_of_this_machine(cloud, says, notice):
    cloud.says = says
    look = (preemption.Azure if EVENTS in says else preemption.Gce)(cloud.address)
    found = look()
    assert found is None if notice is None else found.startswith(notice)


def test_ec2_is_asked_with_a_token_that_may_run_out(cloud):
    look = preemption.Ec2(cloud.address)
    cloud.says = {"ec2": "here"}
    assert look() is None and look() is None  # 404: there is no notice
    assert cloud.given == 1
    cloud.given += 1  # the one that it holds is no longer known
    cloud.says[ACTION] = json.dumps({"action": "stop", "time": "2027-01-01T00:00Z"})
    with pytest.raises(OSError, match="401"):
        look()
    assert look() == "EC2 will stop this machine at 2027-01-01T00:00Z"


def test_the_cloud_that_answers_is_watched_and_no_other(cloud, caplog):
    caplog.set_level("INFO", "yolojax")
    told, ended = [], threading.Event()
    thread = threading.Thread(
        target=preemption.watch, args=(cloud.address, told.append, ended, 0.01)
    )
    thread.start()
    _until(lambda: "no metadata service of GCE, EC2, Azure answers" in caplog.text)
    cloud.says = {"ec2": "here"}
    _until(lambda: "those of EC2 are watched" in caplog.text)
    del cloud.asked[:]
    _until(lambda: len(cloud.asked) > 3)
    assert set(cloud.asked) == {ACTION}
    cloud.says[ACTION] = json.dumps({"action": "terminate", "time": "soon"})
    thread.join(5)
    assert told == ["EC2 will terminate this machine at soon"]
    assert len([r for r in caplog.records if "no metadata" in r.message]) == 1


def test_a_notice_is_a_request_and_no_error(tmp_path):
    with StopRequest() as stop:
        assert not stop.at(3)
        stop.notice("the machine goes")
        stop.notice("again")
        assert stop.requested and stop.at(4)
        with pytest.raises(Interrupted, match="the machine goes: everything") as error:
            stop.leave(tmp_path)
    assert error.value.status == 0


def test_others_may_decide_after_which_step_to_stop(tmp_path):
    asked = []
    stop = StopRequest(agree=lambda at, wanted: asked.append((at, wanted)) or True)
    assert stop.at(7)  # nobody here wants to
    stop.requested = True
    assert stop.at(8, batch=2) and asked == [((7, 0), False), ((8, 2), True)]


def test_a_validation_is_left_where_all_agree_to():
    asked, saved = [], []
    stop = StopRequest(agree=lambda at, wanted: asked.append(at) or at == (6, 3))

    def leave():
        raise Interrupted("left", 0)

    run = SimpleNamespace(
        data=SimpleNamespace(val_batches=range(5)),
        stop=stop,
        outputs=SimpleNamespace(progress=SimpleNamespace(status=lambda text: None)),
        clock=SimpleNamespace(seconds=lambda: 1.5),
        journal=SimpleNamespace(seconds=0.0),
        save=saved.append,
        leave=leave,
    )
    state = SimpleNamespace(step=np.int32(6))
    with pytest.raises(Interrupted, match="left"):
        list(epoch_end._watched(run, state, iter("abcde")))
    assert asked == [(6, 1), (6, 2), (6, 3)]
    assert saved == [state] and run.journal.seconds == 1.5


def test_the_last_validation_is_left_at_a_moment_of_its_own():
    asked = []
    stop = StopRequest(agree=lambda at, wanted: asked.append(at) or at == (13, 2))

    def leave():
        raise Interrupted("left", 0)

    schedule = SimpleNamespace(total_iterations=12)
    run = SimpleNamespace(
        program=SimpleNamespace(schedule=schedule), stop=stop, leave=leave
    )
    with pytest.raises(Interrupted, match="left"):
        list(epoch_end._left_if_asked(run, iter("abc")))
    assert asked == [(13, 1), (13, 2)]


@pytest.mark.process  # a whole run
def test_a_run_saves_at_a_notice_and_leaves_with_status_0(
    place, measured, monkeypatch, cloud
):
    cloud.says = gce()
    monkeypatch.setattr(preemption.watch, "__defaults__", (0.01,))

    class Preempted(TrainDispatch):
        def __call__(self, state, *arguments, **options):
            found = super().__call__(state, *arguments, **options)
            if int(found[0].step) == 2:
                cloud.says = gce("TRUE")
                _until(lambda: "preemption notices" not in _threads())  # it was told
            return found

    monkeypatch.setitem(forked_runs.HANDED, "dispatch", Preempted)
    options = {"fraction": 16, "epochs": 1, "preemption_address": cloud.address}
    measured[:] = [0.1]
    with pytest.raises(Interrupted, match="GCE preempts this machine: every") as error:
        run_here(place, "preempted", preemption_notices=True, **options)
    assert error.value.status == 0
    assert state_of(place / "preempted")["/step"] == 2  # of 4
    assert "preemption notices" not in _threads()
    monkeypatch.delitem(forked_runs.HANDED, "dispatch")
    run_here(place, "preempted", **options | {"preemption_address": None})
    assert state_of(place / "preempted")["/step"] == 4


def _threads():
    return {thread.name for thread in threading.enumerate()}


def _until(what):
    waiting = threading.Event()
    for _ in range(2000):
        if what():
            return
        waiting.wait(0.005)
    raise AssertionError("it never came")
