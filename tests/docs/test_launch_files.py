"""Files that start a run elsewhere: shells read them, the commands in them are good."""

import os
import re
import shlex
import subprocess
import time

import pytest
import yaml
from pages import checked
from places import ROOT

FOLDER = ROOT / "experiments" / "launch"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
FILES = [*SCRIPTS, *sorted(FOLDER.glob("*.yaml"))]
PROGRAM = """#!/bin/sh
trap 'echo asked; exit {status}' TERM
echo "$@" > said
{before}
{work}
exit {status}
"""


def containers(value):
    """Yields the tables of a document that have arguments."""
    if isinstance(value, dict):
        if "args" in value:
            yield value
        for below in value.values():
            yield from containers(below)
    elif isinstance(value, list):
        for below in value:
            yield from containers(below)


def commands(path):
    """Returns the words behind `yolojax` of each command that a file starts."""
    text = re.sub(r" # .*", "", path.read_text()).replace("\\\n", " ")
    found = re.findall(r"(?:\byolojax|run\.sh) (train .*)$", text, re.MULTILINE)
    values = dict(re.findall(r"^([A-Z]+)=(\S+)$", text, re.MULTILINE))
    for name, value in values.items():
        found = [line.replace(f"${name}", value) for line in found]
    # Where a command stands within quotes its line ends with the last one.
    lines = [shlex.split(x[:-1] if x.count('"') % 2 else x) for x in found]
    if path.suffix == ".yaml":
        lines += [one["args"] for one in containers(yaml.safe_load(text))]
    return lines


@pytest.mark.process
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shells_read_the_scripts(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_they_start_is_a_command(path):
    found = commands(path)
    assert len(found) == (path.name != "run.sh")
    for words in found:
        checked(words)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_a_user_edits_is_marked(path):
    assert "EDIT" in path.read_text() or path.name == "run.sh"


@pytest.fixture
def contained(tmp_path):
    """Starts run.sh with a program in the place of yolojax."""

    def start(status, *, complete=True, work=":"):
        program = tmp_path / "yolojax"
        before = f"touch '{tmp_path}/results.png'" if complete else ":"
        program.write_text(PROGRAM.format(status=status, before=before, work=work))
        program.chmod(0o755)
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            ["sh", FOLDER / "run.sh", "train", "yolo11n"],
            env=os.environ | {"PATH": path, "RUN": str(tmp_path)},
            cwd=tmp_path,
        )

    return start


@pytest.mark.process
@pytest.mark.parametrize(
    ("status", "complete", "ends"),
    [(0, True, 0), (0, False, 75), (75, False, 75), (2, False, 2)],
)
def test_a_container_ends_well_only_with_the_run(
    contained, tmp_path, status, complete, ends
):
    assert contained(status, complete=complete).wait(10) == ends
    said = (tmp_path / "said").read_text().split()
    assert said == ["train", "yolo11n", "--workdir", str(tmp_path)]


@pytest.mark.process
def test_a_container_passes_the_signal_on_and_waits(contained, tmp_path):
    work = "for i in $(seq 200); do sleep 0.05; done"
    process = contained(0, complete=False, work=work)
    while not (tmp_path / "said").exists():
        time.sleep(0.01)
    process.terminate()
    assert process.wait(10) == 75
