"""README and docs say what is true: links, settings, commands, layers, files."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from layers import INSIDE, LAYERS
from pages import (
    DOCS,
    PAGES,
    anchors,
    checked,
    code_blocks,
    command_lines,
    links,
    name_of,
    named_settings,
    prose,
)
from places import ROOT

import yolojax

PACKAGE = ROOT / "yolojax"
README = ROOT / "README.md"
ARCHITECTURE = DOCS / "architecture.md"
MOST_LINES = 150  # of the README


def texts():
    return [(name_of(path), path.read_text()) for path in PAGES]


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= MOST_LINES


def test_every_page_is_in_the_index():
    index = links((DOCS / "README.md").read_text())
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert pages - set(index) == set()
    assert len(pages) >= 11


# Links


def broken(path, text):
    """Returns the relative links of a page that lead nowhere."""
    found = []
    for link in links(text):
        if re.match(r"[a-z]+://", link):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or not file.is_relative_to(ROOT):
            found.append(link)
        elif anchor and anchor not in anchors(file.read_text()):
            found.append(link)
    return found


def test_every_link_leads_somewhere():
    wrong = [
        f"{name_of(path)}: {link}"
        for path in PAGES
        for link in broken(path, path.read_text())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "link",
    ["docs/none.md", "docs/data.md#none", "#none", "../elsewhere.md"],
)
def test_a_broken_link_is_found(link):
    assert broken(README, f"see [this]({link})") == [link]


def test_a_good_link_is_not_reported():
    assert (
        broken(README, "[a](docs/data.md#formats) [b](#first-run) [c](LICENSE)") == []
    )


# Settings


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Stands where a reader does: in a folder with the runs that the pages name."""
    from yolojax import config

    for name in ("mine", "detect/train"):
        (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
        settings = json.dumps(dict(config.default("detect").items()))
        (tmp_path / "runs" / name / "config.json").write_text(settings)
    monkeypatch.chdir(tmp_path)


def own_settings(text):
    """Returns the settings that a page tells a reader to add; they are tried there."""
    return {
        key
        for language, title, code in code_blocks(text)
        if language == "diff" and title == "yolojax/config/keys.py"
        for key in re.findall(r'^\+    "(\w+)":', code, re.MULTILINE)
    }


def test_every_setting_that_is_named_exists():
    from yolojax.config import KEYS

    named = {
        (page, key)
        for page, text in texts()
        for key in named_settings(text) - own_settings(text)
    }
    assert {(page, key) for page, key in named if key not in KEYS} == set()
    assert len({key for _, key in named}) > 20


# Files


def paths(text):
    """Returns the Python files that a page names between backticks."""
    return set(re.findall(r"`((?:\w+/)*\w+\.py)`", text))


def test_every_file_that_is_named_exists():
    own = {  # what the pages tell a reader to write
        title
        for _, text in texts()
        for language, title, _ in code_blocks(text)
        if language == "python"
    }
    wrong = [
        f"{page}: {path}"
        for page, text in texts()
        for path in paths(prose(text)) - own
        if not any(
            (folder / path).is_file()
            for folder in (ROOT, PACKAGE, (ROOT / page).parent)
        )
    ]
    assert wrong == []


def test_modules_that_are_named_exist():
    named = {
        (page, name)
        for page, text in texts()
        for name in re.findall(r"\byolojax((?:\.\w+)+)", text)
    }
    wrong = [
        f"{page}: yolojax{name}"
        for page, name in sorted(named)
        if name.strip(".") not in yolojax.__all__
        and not (DOCS / f"yolojax{name}").is_file()
        and not _is_module(Path(*name.strip(".").split(".")))
    ]
    assert wrong == []


def _is_module(path):
    """Whether a path without ending is a module, or a name in one."""
    return any(
        (PACKAGE / candidate).is_dir() or (PACKAGE / f"{candidate}.py").is_file()
        for candidate in (path, path.parent)
        if str(candidate) != "."
    )


# Architecture


def layer_table(text):
    """Returns LAYERS and INSIDE as the architecture page shows them."""
    layers, inside = {}, {}
    for _, _, code in code_blocks(text):
        for line in code.splitlines():
            if match := re.fullmatch(r" ?(\d+)  ([\w ]+)", line):
                layers[int(match[1])] = tuple(match[2].split())
            elif match := re.fullmatch(r"(\w+): +([\w <]+)", line):
                floors = match[2].split(" < ")
                inside[match[1]] = tuple(tuple(floor.split()) for floor in floors)
    return tuple(layers[level] for level in sorted(layers)), inside


def test_the_architecture_page_shows_the_layers_that_are_checked():
    layers, inside = layer_table(ARCHITECTURE.read_text())
    assert layers == LAYERS
    assert inside == INSIDE


def test_rooms_of_the_table_exist_or_are_announced():
    text = ARCHITECTURE.read_text()
    announced = text.partition("Rooms to come")[2].partition("\n## ")[0]
    coming = set(re.findall(r"^- `(\w+)`", announced, re.M))
    rooms = {room: PACKAGE for layer in LAYERS for room in layer} | {
        part: PACKAGE / room
        for room, floors in INSIDE.items()
        for floor in floors
        for part in floor
    }
    missing = {
        name
        for name, folder in rooms.items()
        if not (folder / name).is_dir() and not (folder / f"{name}.py").is_file()
    }
    assert missing == coming


def test_the_architecture_page_names_every_folder():
    text = ARCHITECTURE.read_text()
    folders = {
        path.name
        for path in PACKAGE.rglob("*")
        if path.is_dir() and path.name != "__pycache__"
    }
    assert {name for name in folders if f"{name}/" not in text} == set()
    assert len(folders) > 20


def test_names_stand_in_the_files_that_the_page_names():
    places = re.findall(r"`(\w+)` of `([\w/]+\.py)`", ARCHITECTURE.read_text())
    wrong = [
        (name, file)
        for name, file in places
        if not _defines((ROOT if file.startswith("tests/") else PACKAGE) / file, name)
    ]
    assert wrong == []
    assert len(places) >= 10


def _defines(path, name):
    """Whether a module has a class, a function or a constant of a name."""
    pattern = rf"^(class |def )?{name}\b[^.]"
    return re.search(pattern, path.read_text(), re.MULTILINE) is not None


# Commands


def commands():
    return [
        pytest.param(words, id=f"{page}: {' '.join(words)}")
        for page, text in texts()
        for words in command_lines(text)
        if not {"--help", "--version"} & set(words)
        and not any(word.startswith(("[", "FILE")) for word in words)
        and not named_settings(" ".join(words)) & own_settings(text)
    ]


@pytest.mark.parametrize("words", commands())
def test_every_command_would_be_accepted(words, reader):
    checked(words)


def test_there_are_commands():
    assert len(commands()) >= 20


def test_every_script_that_is_started_exists():
    started = {
        script
        for _, text in texts()
        for language, _, code in code_blocks(text)
        if language == "bash"
        for script in re.findall(r"^python (\S+\.py)", code, re.MULTILINE)
    }
    assert {script for script in started if not (ROOT / script).is_file()} == set()
    assert len(started) >= 4


@pytest.mark.parametrize(
    "line",
    [
        "--config configs/none.py",
        "--config configs/yolo11n.py --config.epoch=3",
        "--config configs/yolo11n.py --config.epochs=0",
        "--config configs/yolo11n.py --config.scale=2",
        "--config configs/yolo11n.py --config.pose=3",
        "--config configs/yolo11n.py --mode predikt",
        "predict yolo11n photos",
        "--config configs/yolo11n.py --mode check --config.lr0=0.1",
        "--config configs/yolo11n.py --config.save_json=true",
        "--config configs/yolo11n.py --resume=true",
        "--config configs/yolo11n.py epochs=3",
        "train yolo11n epoch=3",
        "val runs/other",
        "check yolo11n lr0=0.1",
    ],
)
def test_a_wrong_command_is_found(line, reader):
    with pytest.raises(ValueError):
        checked(line.split())


def test_the_guide_can_be_tried(monkeypatch):
    """Every entry of its last column, behind the command that it names."""
    monkeypatch.chdir(ROOT)
    text = (DOCS / "guide.md").read_text()
    start = next(words for words in command_lines(text) if "--config.epochs=2" in words)
    rows = re.findall(r"\| `(--config\.[^|]*)` \|$", text, re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        checked([*start, *row.replace('"', "").split()])


# Coming from another trainer


def test_every_setting_is_on_the_page_for_those_who_come_from_elsewhere():
    from yolojax.config.elsewhere import NOT_YET
    from yolojax.config.keys import KEYS

    text = (DOCS / "coming_from_another_trainer.md").read_text()
    named = set(re.findall(r"`(\w+)`", text))
    assert {key for key in [*KEYS, *NOT_YET] if key not in named} == set()


def test_settings_that_are_called_the_same_exist():
    from yolojax.config import KEYS

    text = (DOCS / "coming_from_another_trainer.md").read_text()
    for title, table in (("with the same name", KEYS), ("only here", KEYS)):
        part = text[text.index(title) :].partition("\n\n")[2].partition("\n\n")[0]
        named = set(re.findall(r"`(\w+)`", part))
        assert named and named - set(table) == set()


# Experiments


@pytest.mark.parametrize(
    "script", sorted((ROOT / "experiments").glob("*/run.py")), ids=name_of
)
def test_an_experiment_still_finds_what_it_imports(script):
    spec = importlib.util.spec_from_file_location("experiment", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert callable(module.main)
    assert (script.parent / "README.md").is_file()
