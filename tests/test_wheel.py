"""The package as a wheel: it has all it needs once the clone is gone."""

import email
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from places import ROOT

PARTS = ("yolojax", "configs", "README.md", "LICENSE", "MANIFEST.in", "setup.py")
BUILD = "from setuptools import build_meta as b; print(b.build_wheel('dist'))"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Returns a folder into which the wheel of this tree was installed."""
    root = tmp_path_factory.mktemp("wheel")
    clone = root / "clone"  # building writes into the tree
    clone.mkdir()
    for name in (*PARTS, "pyproject.toml"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, clone / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, clone / name)
    built = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=clone, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (clone / "dist").glob("*.whl")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    words = ("-m", "pip", "install", *quiet, "--target", root / "site", wheel)
    subprocess.run([sys.executable, *words], check=True)
    shutil.copy(wheel, root / "site")
    shutil.rmtree(clone)
    return root / "site"


def started(site, *words, cwd):
    """Returns the finished process of a command that finds only the wheel."""
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        **{"capture_output": True, "text": True, "timeout": 120},
        env=environment,
        cwd=cwd,
    )


@pytest.mark.process
@pytest.mark.parametrize(
    "door", [("bin/yolojax",), ("-m", "yolojax"), ("-m", "yolojax.main")]
)
def test_every_door_of_the_wheel_opens(site, tmp_path, door):
    words = [site / door[0]] if len(door) == 1 else door
    version = started(site, *words, "--version", cwd=tmp_path)
    assert version.stdout.startswith("yolojax "), version.stderr
    # A setting that is refused after the config file was read: nothing slow starts.
    for said in (["train", "yolo11n_seg"], ["--config", "configs/yolo11n_seg.py"]):
        result = started(site, *words, *said, "--config.epochs=0", cwd=tmp_path)
        assert "error: config.epochs = 0: expected" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_command_of_the_wheel_does_its_work(site, tmp_path):
    code = "import yolojax; print(yolojax.__file__)"
    assert str(site) in started(site, "-c", code, cwd=tmp_path).stdout
    data = tmp_path / "data.yaml"
    data.write_text("train: images\nval: images\nnames: [a]\n")
    (tmp_path / "images").mkdir()
    words = ["check", f"data={data}", f"workdir={tmp_path}", "plots=false"]
    result = started(site, site / "bin" / "yolojax", *words, cwd=tmp_path)
    assert result.returncode in (1, 2), result.stderr
    assert "images" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.process
def test_what_the_wheel_holds_and_says_of_itself(site):
    (wheel,) = site.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry,) = [n for n in names if n.endswith("dist-info/METADATA")]
        said = email.message_from_bytes(archive.read(entry))
    shipped = {n.rpartition("/")[2] for n in names if n.startswith("yolojax/configs/")}
    assert shipped == {path.name for path in (ROOT / "configs").glob("*.py")}
    packages = {
        str(path.relative_to(ROOT)) for path in (ROOT / "yolojax").rglob("*.py")
    }
    assert packages - set(names) == set()
    assert "yolojax/py.typed" in names
    assert {f"yolojax/writers/page/page.{kind}" for kind in ("css", "js")} <= set(names)
    assert {n.partition("/")[0].partition("-")[0] for n in names} == {"yolojax"}
    assert said["Author"] or said["Author-email"]
    assert len(said.get_all("Classifier")) >= 5
    assert said["License-Expression"] == "Apache-2.0"
