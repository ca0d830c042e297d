"""Problems of a data set: a code for programs, a text for people."""

import dataclasses
import json

import pytest
from places import ROOT

from yolojax.data.examine import doctor
from yolojax.data.formats.problems import CODES, Problem


def test_a_problem_is_said_in_one_line():
    label = Problem("a.txt", 3, "not_a_number", "", True)
    assert str(label) == (
        "a.txt:3: a value is not a number (not_a_number); image left out"
    )
    note = Problem("a.json", None, "empty_boxes", "no size", False, "1.png", 2)
    assert str(note) == "a.json: 1.png: no size (empty_boxes): 2"
    guess = Problem("a.txt", 3, "not_a_number", "", True, hint="A list")
    assert str(guess) == str(label).replace("number (", "number. A list (")


def test_a_code_that_is_not_in_the_table_is_refused():
    with pytest.raises(KeyError, match="bad_bboxes"):
        Problem("a", None, "bad_bboxes", "", True)


def test_a_problem_survives_being_kept():
    problem = Problem("a.json", None, "bad_bbox", "", True, "annotation 1", hint="-")
    kept = json.loads(json.dumps(dataclasses.astuple(problem)))
    assert Problem(*kept) == problem


def test_every_code_is_used_and_advice_is_given_for_known_ones():
    folders = [ROOT / "yolojax" / "data" / name for name in ("formats", "store")]
    used = "".join(
        path.read_text()
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
        if path.name != "problems.py"
    )
    assert [code for code in CODES if f'"{code}"' not in used] == []
    assert doctor._SCAN_ADVICE.keys() <= CODES.keys()


def test_what_a_text_says_in_brackets_is_no_code():
    # A folder may be called so, or a message of the operating system end so.
    problem = Problem("a.png", None, "unreadable_image", "odd (bad_bbox): 3", True)
    (finding,) = doctor._problems("train", [problem])
    assert (finding.code, finding.text) == ("unreadable_image", "odd (bad_bbox): 3")
