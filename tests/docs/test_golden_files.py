"""tests/golden/README.md says of every file what made it."""

import fnmatch
import re

from places import GOLDEN

PAGE = GOLDEN / "README.md"


def unnamed(files, text):
    """Returns the files that no name or pattern of a page's first columns covers."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    patterns = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return {
        file
        for file in files
        if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)
    }


def test_every_golden_file_is_explained():
    files = {path.name for path in GOLDEN.iterdir()} - {PAGE.name}
    assert unnamed(files, PAGE.read_text()) == set()
    assert len(files) > 100


def test_every_name_and_pattern_stands_for_a_file():
    cells = re.findall(r"^\| (`[^|]*) \|", PAGE.read_text(), re.MULTILINE)
    patterns = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    assert {pattern for pattern in patterns if not list(GOLDEN.glob(pattern))} == set()


def test_a_file_without_an_entry_is_found():
    text = "| `loss_*.npz`, `a.json` | somebody |\n"
    assert unnamed({"loss_1.npz", "a.json", "b.json"}, text) == {"b.json"}
