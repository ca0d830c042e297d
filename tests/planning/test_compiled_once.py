"""What was learnt of programs is kept; who compiles is a process of its own."""

import json
import subprocess
import sys

import pytest

from yolojax import config as config_lib
from yolojax.planning import child, compiled
from yolojax.planning.subject import Subject

ECHO = """
import json, sys
print("a word that is not for us")
settings = json.loads(sys.stdin.readline())
for line in sys.stdin:
    request = json.loads(line)
    if request["batch"] == 13:
        sys.exit("unlucky")
    if request["batch"] == 12:
        answer = {"error": "too few"}
    else:
        answer = settings | request
    print("@answer " + json.dumps(answer), flush=True)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))


def test_a_program_is_looked_at_once():
    asked = []

    def find():
        asked.append(1)
        return {"launches": 7}

    assert [compiled.kept("abc", find) for _ in range(2)] == [{"launches": 7}] * 2
    assert len(asked) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_interrupted_leaves_nothing(error):
    def find():
        raise error

    with pytest.raises(error):
        compiled.kept("abc", find)
    assert not compiled.folder().exists()


@pytest.mark.parametrize("text", ["", '{"launches": 7', "[]"])
def test_what_cannot_be_read_is_found_anew(text):
    compiled.folder().mkdir(parents=True)
    (compiled.folder() / "abc.json").write_text(text)
    assert compiled.kept("abc", lambda: {"launches": 8}) == {"launches": 8}
    kept = json.loads((compiled.folder() / "abc.json").read_text())
    assert kept == {"launches": 8}


@pytest.mark.process
def test_a_process_ends_with_its_input():
    code = "import sys, yolojax.planning.child as c; next(c.lines_of(sys.stdin))"
    done = subprocess.run([sys.executable, "-c", code], input="", timeout=60, text=True)
    assert done.returncode == 0


@pytest.mark.process
def test_a_process_answers_until_it_is_ended():
    worker = compiled.Worker([sys.executable, "-c", ECHO], '{"imgsz": 64}', {})
    try:
        assert worker.ask({"batch": 2}, "it") == {"imgsz": 64, "batch": 2}
        with pytest.raises(ValueError, match="compiling it failed: too few"):
            worker.ask({"batch": 12}, "it")
        with pytest.raises(ValueError, match="compiling it failed: unlucky"):
            worker.ask({"batch": 13}, "it")
    finally:
        worker.close()


def test_flags_of_the_user_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/x")
    found = compiled.environment("gpu")
    assert found["XLA_FLAGS"] == "--xla_dump_to=/x --xla_gpu_autotune_level=0"
    assert found["JAX_PLATFORMS"] == "cpu"


@pytest.fixture(scope="module")
def settings(place):
    config = config_lib.default("detect")
    config.update(model="tiny_model:build", data=str(place / "data"), imgsz=64)
    config.update(mosaic=0.0)
    return config_lib.check(config, "plan")


def test_settings_come_through_to_the_process(settings):
    text = json.dumps(dict(settings.items()), default=list)
    assert child.config_of(json.loads(text)) == settings


def test_programs_differ_where_what_makes_them_does(settings):
    subject = Subject(settings)
    prints = {
        subject.fingerprint("h100", 1, 8),
        subject.fingerprint("h200", 1, 8),
        subject.fingerprint("h100", 2, 8),
        subject.fingerprint("h100", 1, 16),
        subject.fingerprint(None, 1, 8),
        Subject(config_lib.changed(settings, remat=True)).fingerprint("h100", 1, 8),
    }
    assert len(prints) == 6
    longer = Subject(config_lib.changed(settings, epochs=200, price="h100=2"))
    assert longer.fingerprint("h100", 1, 8) in prints


def test_sizes_are_those_of_the_shapes(settings):
    sizes = Subject(settings).sizes
    assert sizes.parameters * 3 * 4 <= sizes.state < sizes.parameters * 6 * 4
    assert 64 * 64 * 3 < sizes.per_image < 64 * 64 * 4


def test_pictures_are_those_of_the_device(settings):
    from yolojax.devices.known import DEVICES

    assert Subject(settings).pictures(DEVICES["h100"], 1) == 0
    cached = Subject(config_lib.changed(settings, cache="device"))
    alone = cached.pictures(DEVICES["h100"], 1)
    assert alone == cached.images * max(h * w for h, w in cached._sizes.tolist()) * 4
