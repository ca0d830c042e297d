"""Files stay clean: no private paths, no foreign names, tests that stand alone."""

import ast
import re

import pytest
from places import ROOT

PACKAGE = ROOT / "yolojax"
FILES = sorted((ROOT / "tests").rglob("test_*.py"))

NAMED = "name of another code base"
# Written in pieces, so that this file does not contain what it looks for.
FORBIDDEN = {
    "absolute path of one machine": r"['\"\s=]/(?:work|root|home/\w+|Users)/",
    "path outside the repository": r"\.\./" + "shared",
    "temporary folder as a constant": r"['\"]/" + "tmp\\b",
    NAMED: "ultra" + "lytics",
    "merge marker": "<" * 7,
}

# The reference is a fact that has to be named, and each of these names it once: the
# page that says what was measured, the one for those who come from it, the README.
MAY_NAME = {"README.md", "docs/accuracy.md", "docs/coming_from_another_trainer.md"}

# Where published weights lie is one, too.
DOWNLOADS = "https://github.com/ultra" + "lytics/assets/releases/"


def offences(text):
    """Returns the reasons why a text must not stand in the repository."""
    text = text.replace(DOWNLOADS, "")
    return [
        why for why, what in FORBIDDEN.items() if re.search(what, text, re.IGNORECASE)
    ]


def test_files_hold_no_private_paths_or_foreign_names():
    files = [
        *sorted(PACKAGE.rglob("*.py")),
        *sorted((ROOT / "configs").rglob("*.py")),
        *sorted((ROOT / "tests").rglob("*.py")),
        *sorted((ROOT / "tests").rglob("*.md")),
        *sorted((ROOT / "experiments").rglob("*.py")),
        *sorted((ROOT / "experiments").rglob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
    ]
    found = [
        f"{name}: {why}"
        for name, path in ((str(path.relative_to(ROOT)), path) for path in files)
        for why in offences(path.read_text())
        if why != NAMED or name not in MAY_NAME
    ]
    assert not found, "\n".join(found)
    assert len(files) > 50


@pytest.mark.parametrize("name", sorted(MAY_NAME))
def test_the_reference_is_named_once_and_with_its_release(name):
    text = (ROOT / name).read_text().replace(DOWNLOADS, "")
    found = re.findall(FORBIDDEN[NAMED] + r"\b(.{8})", text, re.IGNORECASE)
    assert found == [" 8.4.190"]


@pytest.mark.parametrize(
    "text",
    [
        'open("/' + 'work/main/x")',
        "see ../" + "shared/spec",
        "FOLDER = '/" + "tmp/cache'",
        "from ultra" + "lytics import YOLO",
    ],
)
def test_a_forbidden_word_is_found(text):
    assert len(offences(text)) == 1


def test_ordinary_text_has_no_offence():
    assert offences("a framework, tmp_path / 'x', https://x.org/work/1") == []


def imported(text):
    """Yields every part of the names that a file imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (part for x in node.names for part in x.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
            yield from (x.name for x in node.names)


def test_no_test_imports_another():
    """What several share stands in tests/helpers: a test file can move or go alone."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    tests = {path.stem for path in FILES}
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path.read_text())
        if name in tests | {"conftest"}
    ]
    assert len(tests) > 50 and not found, "\n".join(found)


@pytest.mark.parametrize(
    "text", ["import test_a.b", "from tests import test_a", "from .x.test_a import f"]
)
def test_an_import_of_a_test_is_found(text):
    assert "test_a" in imported(text)


ALSO = {"helpers", "golden", "docs", "contracts"}  # what tests need and what they are


def test_tests_lie_in_the_folders_of_what_they_test():
    """A folder of tests has the path of a folder of the package."""
    folders = {path.parent.relative_to(ROOT / "tests") for path in FILES}
    wrong = [
        folder
        for folder in sorted(folders)
        if folder.parts[:1] and folder.parts[0] not in ALSO
        if not (PACKAGE / folder).is_dir()
    ]
    assert not wrong, wrong
