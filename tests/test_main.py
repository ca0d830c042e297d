"""The command line as a user meets it: what works, and what mistakes are answered."""

import os
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from listed import listing
from places import HELPERS, ROOT
from settled import changed

from yolojax import main
from yolojax.commands import evaluate
from yolojax.commands import train as train_command
from yolojax.config import command_line, keys
from yolojax.errors import DiskFull, NonFiniteLoss

CONFIG = str(ROOT / "configs" / "yolo11n.py")
TINY = (
    *("--config.model=tiny_model:bare", "--config.imgsz=64", "--config.epochs=1"),
    *("--config.batch=4", "--config.plots=false"),
)


def command(*arguments, cwd, paths=(), cache=None):
    """Returns the finished process of one command line."""
    paths = [*map(str, paths), str(ROOT), str(HELPERS)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "YOLOJAX_CACHE": str(cache or cwd / "cache"),
    }
    return subprocess.run(
        [sys.executable, "-m", "yolojax.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=300,
    )


def run(*arguments, cwd):
    """Returns the finished process of one that gets beyond the settings."""
    compiled = f"--config.compile_cache={jax.config.jax_compilation_cache_dir}"
    return command("--config", *arguments, compiled, cwd=cwd)


def closed(*numbers, words, cwd):
    """Returns the finished process of a command that starts without some streams."""
    script = 'exec "$@" ' + " ".join(f"{number}>&-" for number in numbers)
    paths = os.pathsep.join((str(ROOT), str(HELPERS)))
    environment = os.environ | {
        "PYTHONPATH": paths,
        "YOLOJAX_CACHE": str(cwd / "cache"),
    }
    return subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, *map(str, words)],
        **{"capture_output": True, "text": True, "timeout": 300},
        env=environment,
        cwd=cwd,
    )


def refusal(result):
    """Returns the one line with which a command failed."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, (
        result.stderr
    )
    return result.stderr.strip()


def picture(path, side=64, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)


BAD_LABELS = {
    "class": (
        "0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n",
        ":2: a class is not in `names`",
    ),
    "six": ("0 0.5 0.5 0.2 0.2 0.9\n", ":1: a row has the wrong number of columns"),
    "nan": ("0 nan 0.5 0.2 0.2\n", ":1: coordinates must be"),
    "words": ("0 0.5 0.5 0.2 0.2\nball 1 1 1 1\n", ":2: a value is not a number"),
    "pixels": ("0 32 32 10 10\n", ":1: coordinates must be relative to the image"),
}
BAD_IMAGES = {
    "truncated": ": the JPEG ends early",
    "empty": ": the file is empty",
    "text": ": not a picture",
    "dot": ": 1x1 pixels, below 10",
}


def make_data(root, good=8):
    """Writes a data set with everything wrong that can be; returns its YAML file."""
    for split in ("train", "val"):
        for i in range(good):
            picture(root / "images" / split / f"good{i}.jpg", seed=i)
            label = root / "labels" / split / f"good{i}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"{i % 2} 0.5 0.5 0.4 0.3\n")
    folder = root / "images" / "train"
    for stem, (text, _) in BAD_LABELS.items():
        picture(folder / f"{stem}.jpg")
        (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
        (root / "labels" / "train" / f"{stem}.txt").write_text(text)
    picture(folder / "truncated.jpg")
    whole = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is no picture")
    picture(folder / "dot.jpg", side=1)
    (root / "images" / "val").mkdir(exist_ok=True)
    description = "train: images/train\nval: images/val\nnames: [ball, cup]\n"
    (root / "data.yaml").write_text(description)
    return root / "data.yaml"


# Mistakes in the settings: answered before JAX is loaded


@pytest.fixture(scope="module")
def no_jax(tmp_path_factory):
    """Returns a folder whose `jax` fails on import."""
    folder = tmp_path_factory.mktemp("no_jax")
    (folder / "jax.py").write_text("raise SystemExit('JAX was loaded')")
    return folder


FILES = {
    "syntax.py": "def get_config(:\n",
    "divides.py": "def get_config():\n    return 1 / 0\n",
    "refuses.py": "def get_config():\n    raise ValueError('size unknown')\n",
    "nothing.py": "x = 1\n",
    "number.py": "def get_config():\n    return 3\n",
    "misspelt.py": "from yolojax import config as c\ndef get_config():\n"
    "    config = c.default('detect')\n    config.epoch = 3\n    return config\n",
}
WITH_CONFIG = ("--config", CONFIG)
MISTAKES = [
    ((), "--config is missing. Try --config yolo11n, or in short: yolojax train"),
    (("trian", "yolo11n"), "'trian' is not a command. Did you mean 'train'?"),
    (("epochs=5",), "a command is missing: write yolojax train yolo11n epochs=5"),
    (("train", "yolo11n", "epoch=5"), "is not a setting. Did you mean 'epochs'?"),
    (("train", "model=yolo11n", "epochs=0"), "config.epochs = 0: expected"),
    (("--mode", "val", "--workdir", "none"), "and none holds no run with its settings"),
    (("--config",), "--config is missing"),
    (
        (*WITH_CONFIG, "--config.optimzer=sgd"),
        "config.optimzer is not a setting. Did you mean 'optimizer'?",
    ),
    (("--config.optimzer=sgd", *WITH_CONFIG), "Did you mean 'optimizer'?"),
    ((*WITH_CONFIG, "--noconfig.plot"), "Did you mean 'plots'?"),
    ((*WITH_CONFIG, "--config.model.depth=1"), "config.model.depth is not a setting"),
    ((*WITH_CONFIG, "--config.resume=true"), "pass the run's folder as --workdir"),
    (("train", "yolo11n", "imgsz=640,480"), "expected one number, the longer side"),
    (("train", "yolo11n", "learning_rate=0.1"), "Did you mean 'lr0'?"),
    (("train", "yolo11n", "device=gpu:0"), "config.device = 'gpu:0' is unknown."),
    (
        (*WITH_CONFIG, "--mode", "trian"),
        "--mode=trian: value should be one of <train|val|predict|track|import|export|",
    ),
    ((*WITH_CONFIG, "--batch=8"), "write --config.batch=..., or batch=..."),
    ((*WITH_CONFIG, "--workdri=x"), "--workdri is not a flag. Did you mean 'workdir'?"),
    ((*WITH_CONFIG, "--workdir="), "--workdir is empty"),
    ((*WITH_CONFIG, "junk"), "unexpected argument 'junk'"),
    ((*WITH_CONFIG, "batch=8"), "Did you mean --config.batch=8?"),
    ((*WITH_CONFIG, "--config.epochs=abc"), "config.epochs = 'abc': expected an int"),
    ((*WITH_CONFIG, "--config.epochs", "abc"), "config.epochs = 'abc': expected"),
    ((*WITH_CONFIG, "--config.epochs=0"), "config.epochs = 0: expected"),
    ((*WITH_CONFIG, "--config.batch", "0"), "config.batch = 0: expected"),
    ((*WITH_CONFIG, "--config.batch", "-2"), "config.batch = -2.0: expected"),
    ((*WITH_CONFIG, "--config.classes=[0,x]"), "config.classes"),
    ((*WITH_CONFIG, *WITH_CONFIG, "--config.lr0=1"), "--config is given twice"),
    (
        (*WITH_CONFIG, "--config.batch=4", "--config.batch_size=8"),
        "--config.batch=4 and --config.batch_size=8 contradict each other",
    ),
    (("--config", "nofile.py"), "--config nofile.py: there is no such file"),
    (("--config", "."), "--config .: there is no such file"),
    (("--config", "syntax.py"), "--config syntax.py, line 1: invalid syntax"),
    (("--config", "divides.py"), "--config divides.py, line 2: ZeroDivisionError"),
    (("--config", "refuses.py"), "refuses.py, line 2: ValueError: size unknown"),
    (("--config", "nothing.py"), "nothing.py: the file has no function get_config"),
    (("--config", "number.py"), "number.py: get_config must return"),
    (("--config", "misspelt.py"), "config.epoch is not a setting. Did you mean"),
    (("--config", "divides.py:data"), "divides.py: get_config() takes 0 positional"),
]


@pytest.mark.process
@pytest.mark.parametrize(("arguments", "answer"), MISTAKES)
def test_a_mistake_is_one_line_and_does_not_wait_for_jax(
    arguments, answer, no_jax, tmp_path
):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    before = set(os.listdir(tmp_path))
    result = command(*arguments, cwd=tmp_path, paths=[no_jax])
    assert answer in refusal(result)
    assert set(os.listdir(tmp_path)) - before <= {"__pycache__"}


@pytest.mark.process
def test_the_fake_jax_is_found(no_jax, tmp_path):
    result = command(*WITH_CONFIG, cwd=tmp_path, paths=[no_jax])
    assert result.stderr.strip() == "JAX was loaded"


@pytest.mark.process
def test_debug_shows_where_an_error_comes_from(no_jax, tmp_path):
    (tmp_path / "divides.py").write_text(FILES["divides.py"])
    result = command("--config", "divides.py", "--debug", cwd=tmp_path, paths=[no_jax])
    assert "Traceback" in result.stderr and "ZeroDivisionError" in result.stderr


@pytest.mark.process
def test_help_needs_no_jax_and_ends_quietly_where_nobody_reads(no_jax, tmp_path):
    result = command("--help", cwd=tmp_path, paths=[no_jax])
    assert result.returncode == 0 and "--config FILE" in result.stdout
    code = "import sys; sys.argv = ['yolojax', 'train', '-h']; import yolojax.__main__"
    code += "; from yolojax.main import command; command()"
    reader, writer = os.pipe()
    os.close(reader)  # as `| true` does
    shown = subprocess.run(
        [sys.executable, "-c", code],
        **{"stdout": writer, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT},
        timeout=60,
    )
    os.close(writer)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize(
    ("given", "arranged"),
    [
        (["--config", "a.py", "--config.lr0", "0.1"], "--config=a.py --config.lr0=0.1"),
        (["--config.batch", "-1", "--config=a.py"], "--config=a.py --config.batch=-1"),
        (["--config.val", "--mode", "val"], "--config.val --mode=val"),
        (["--noconfig.val", "junk"], "--noconfig.val junk"),
        (["-config", "a.py", "-workdir", "w"], "-config=a.py -workdir=w"),
        (
            ["--config=a.py", "--", "--config.lr0", "1"],
            "--config=a.py -- --config.lr0 1",
        ),
        (["--debug", "a.py"], "--debug a.py"),
    ],
)
def test_arguments_in_any_order_and_with_spaces(given, arranged):
    assert command_line.arrange(["main", *given]) == ["main", *arranged.split(" ")]


# Errors later on: one line where it helps, a trace where only that helps


def raised(make):
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_own_errors_are_one_line_and_foreign_ones_keep_their_trace():
    def own():
        keys.check_name("x_y_z")

    def foreign():
        np.zeros(3).reshape(2)

    def outside():
        raise ValueError("in a plug-in")

    assert "config.x_y_z" in main.explain(raised(own))
    assert main.explain(raised(foreign)) is None
    assert main.explain(raised(outside)) is None
    assert main.explain(KeyError("x")) is None
    assert main.explain(NonFiniteLoss("box is not finite")) is not None


def test_full_memory_says_what_to_lower():
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes.\nmore")
    text = main.explain(error)
    assert "config.batch" in text and "remat" in text and "\n" not in text


def test_a_full_disk_is_named_and_no_memory_is_spoken_of(tmp_path):
    text = f'RESOURCE_EXHAUSTED: "{tmp_path}/x/y": No space left on device'
    for error in (ValueError(text), OSError(28, "No space left on device", text)):
        told = main.explain(error)
        assert told.startswith("no space left on disk /") and "batch" not in told
    assert main.explain(DiskFull("as it is")) == "as it is"
    assert "out of memory" in main.explain(MemoryError())


# Whole runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns (folder, process, listings of the data before and after) of one run."""
    root = tmp_path_factory.mktemp("a run ü")
    make_data(root / "my data")
    before = listing(root / "my data")
    # The folder instead of its YAML file, and relative: both are meant to work.
    result = run(f"{CONFIG}:my data", *TINY, "--workdir", "my run", cwd=root)
    return root, result, before, listing(root / "my data")


@pytest.mark.process
def test_bad_files_are_left_out_and_listed(finished):
    root, result, _, _ = finished
    assert result.returncode == 0, result.stderr
    text = (root / "my run" / "data_problems.txt").read_text()
    lines = text.splitlines()
    assert len(lines) == len(BAD_LABELS) + len(BAD_IMAGES)
    for stem, (_, answer) in BAD_LABELS.items():
        assert any(f"{stem}.txt{answer}" in line for line in lines), stem
    for stem, answer in BAD_IMAGES.items():
        assert any(f"{stem}.jpg{answer}" in line for line in lines), stem
    assert "good" not in text
    assert f"warning: images left out: {len(lines)}, e.g. " in result.stdout
    assert "8 images, 1 epochs of 2 batches" in result.stdout


@pytest.mark.process
def test_nothing_is_written_into_the_data_set(finished):
    _, _, before, after = finished
    assert before == after and len(before) > 20


@pytest.mark.process
def test_settings_that_a_mode_does_not_read_are_named(finished, tmp_path):
    root, train, _, _ = finished
    assert "not read by" not in train.stdout
    arguments = (*TINY, "--workdir", root / "my run", "--mode", "export")
    result = run(CONFIG, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "not read by --mode export: epochs, plots" in result.stdout


@pytest.mark.process
def test_a_finished_run_can_be_validated_from_another_folder(finished, tmp_path):
    root, _, before, _ = finished
    arguments = (*TINY, "--workdir", root / "my run", "--mode", "val")
    result = run(f"{CONFIG}:{root / 'my data'}", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (root / "my run" / "val" / "metrics.jsonl").exists()
    assert listing(root / "my data") == before
    assert not (tmp_path / "runs").exists()


@pytest.mark.process
def test_other_settings_do_not_touch_a_run(finished):
    root, _, _, _ = finished
    before = listing(root / "my run")
    arguments = (*TINY, "--workdir", "my run", "--config.lr0", "0.3")
    text = refusal(run(f"{CONFIG}:my data", *arguments, cwd=root))
    assert "lr0 is 0.01 there and 0.3 now" in text and "Nothing was changed" in text
    assert listing(root / "my run") == before


def broken(root, change):
    data = make_data(root / "data", good=0 if change == "nothing usable" else 1)
    if change == "no such file":
        data.unlink()
    if change == "no val":
        data.write_text(data.read_text().replace("val:", "vall:"))
    return data


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ("no such file", "data.yaml: there is no such data description"),
        ("no val", "data.yaml: key `val` is missing"),
        ("nothing usable", "none of the 9 images of split `train` can be used"),
    ],
)
def test_unusable_data_leaves_no_run_behind(tmp_path, monkeypatch, change, answer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    config = changed(data=str(broken(tmp_path, change)))
    assert answer in main.explain(raised(lambda: train_command.run(config, None)))
    assert not (tmp_path / "runs").exists()


def test_devices_that_are_not_there_leave_no_run_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    data = str(make_data(tmp_path / "data", good=1))
    config = changed(data=data, device="cpu:9", batch=9)
    answer = main.explain(raised(lambda: train_command.run(config, None)))
    assert "config.device = 'cpu:9': this machine has 8" in answer
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("folder", "answer"),
    [
        (None, "this mode needs weights: --workdir"),
        ("none", "none holds no checkpoint"),
    ],
)
def test_validation_needs_a_finished_run(tmp_path, folder, answer):
    workdir = folder and tmp_path / folder
    error = raised(lambda: evaluate.run(changed(), workdir))
    assert answer in main.explain(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_device_that_is_not_there(tmp_path):
    result = command(*WITH_CONFIG, "--config.device", "tpu", cwd=tmp_path)
    assert "config.device = 'tpu': JAX finds no usable tpu" in refusal(result)
    assert not (tmp_path / "runs").exists()


@pytest.mark.process
def test_a_folder_for_compiled_programs_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    setting = "--config.compile_cache=file/x"
    result = command(*WITH_CONFIG, setting, cwd=tmp_path)
    assert "config.compile_cache = 'file/x': compiled programs" in refusal(result)


@pytest.mark.process
@pytest.mark.parametrize(
    "numbers",
    [*(pytest.param(n, marks=pytest.mark.slow) for n in ((1,), (2,))), (0, 1, 2)],
)
def test_a_command_works_without_its_streams(tmp_path, numbers):
    for seed, split in enumerate(("train", "val")):
        picture(tmp_path / "images" / split / "0.png", seed=seed)
        label = tmp_path / "labels" / split / "0.txt"
        label.parent.mkdir(parents=True)
        label.write_text("0 0.5 0.5 0.4 0.3\n")
    description = "train: images/train\nval: images/val\nnames: [ball]\n"
    (tmp_path / "data.yaml").write_text(description)
    words = ("-m", "yolojax.main", "--config", f"{CONFIG}:data.yaml", "--mode=check")
    result = closed(*numbers, words=(*words, "--config.plots=false"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.process
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    code = (
        "import os, sys, subprocess; from yolojax import main;"
        " main._open_closed_streams(); number = open('a file', 'w').fileno();"
        " print('lost', flush=True); os.write(1, b'lost');"
        " child = subprocess.run([sys.executable, '-c', 'import os; os.fstat(1)']);"
        " sys.exit(10 * child.returncode + (number < 3))"
    )
    result = closed(0, 1, 2, words=("-c", code), cwd=tmp_path)
    assert result.returncode == 0
    assert (tmp_path / "a file").read_text() == ""


def test_the_data_setting_reaches_the_config_file():
    given = [
        "main",
        "--config",
        "file.py",
        "--config.data",
        "my.yaml",
        "--config.lr0=1",
    ]
    want = ["main", "--config=file.py:my.yaml", "--config.lr0=1"]
    assert command_line.arrange(given) == want
    both = ["main", "--config=file.py:a.yaml", "--config.data=b.yaml"]
    assert command_line.arrange(both) == both
