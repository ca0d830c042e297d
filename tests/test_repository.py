"""Files stay clean: no private paths, no foreign names."""

import re

import pytest
from places import ROOT

PACKAGE = ROOT / "yolojax"

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
