"""Files stay clean: no private paths, no foreign names."""

import re

import pytest
from places import ROOT

PACKAGE = ROOT / "yolojax"

# Written in pieces, so that this file does not contain what it looks for.
FORBIDDEN = {
    "absolute path of one machine": r"['\"\s=]/(?:work|root|home/\w+|Users)/",
    "path outside the repository": r"\.\./" + "shared",
    "temporary folder as a constant": r"['\"]/" + "tmp\\b",
    "name of another code base": "ultra" + "lytics",
    "merge marker": "<" * 7,
}


# Where published weights lie is a fact that has to be named.
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
        *sorted((ROOT / "experiments").rglob("*.py")),
        *sorted((ROOT / "experiments").rglob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *ROOT.glob("*.toml"),
    ]
    found = [
        f"{path.relative_to(ROOT)}: {why}"
        for path in files
        for why in offences(path.read_text())
    ]
    assert not found, "\n".join(found)
    assert len(files) > 50


def test_readme_holds_no_private_paths():
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("no README.md")
    named = "name of another code base"  # may be named there, to say what differs
    assert set(offences(readme.read_text())) <= {named}


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
