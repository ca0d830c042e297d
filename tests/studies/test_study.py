"""A study's file: what is read from it, and what is refused."""

import pytest
import study_files

from yolojax.studies.study import Arm, Study, load, placed


def refusal(tmp_path, **given):
    with pytest.raises(ValueError) as found:
        load(study_files.write_study(tmp_path / "exp", **given))
    text = str(found.value)
    assert str(tmp_path / "exp" / "study.py") in text
    return text


def test_a_study_is_read_from_its_file(tmp_path):
    folder = study_files.write_study(tmp_path / "exp", hours="2", metric="'mAP50'")
    study = load(folder)
    assert study == load(folder / "study.py")
    assert study.folder == folder
    assert [arm.name for arm in study.arms] == ["base", "no mosaic"]
    assert study.arms[1].settings == {"mosaic": 0.0}
    assert (study.seeds, study.hours, study.metric) == ((0, 1), 2, "mAP50")


def test_a_study_may_import_what_stands_beside_it(tmp_path):
    folder = study_files.write_study(tmp_path, seeds="__import__('many').SEEDS")
    (folder / "many.py").write_text("SEEDS = (4, 5)\n")
    assert load(folder).seeds == (4, 5)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(ValueError, match="study.py: there is no such file"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("x = 1\n", "found no such name"),
        ("study = 3\n", "found int"),
        ("study = (\n", "line 1: '\\(' was never closed"),
        ("\nstudy = 1 / 0\n", "line 2: ZeroDivisionError"),
        (
            "from yolojax.studies import Study\nstudy = Study(quest='a')\n",
            "line 2: TypeError: .*quest",
        ),
    ],
)
def test_a_file_that_makes_no_study_is_refused_by_line(tmp_path, text, answer):
    (tmp_path / "study.py").write_text(text)
    with pytest.raises(ValueError, match=answer):
        load(tmp_path)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"question": "' '"}, "question is empty"),
        ({"config": "''"}, "expected what stands behind `yolojax train`"),
        ({"arms": "()"}, "expected one Arm or more"),
        ({"arms": "Arm('a')"}, "expected one Arm or more"),
        ({"arms": "('base',)"}, "'base' is no Arm"),
        ({"arms": "(Arm(' '),)"}, "' ' is no name"),
        ({"arms": "(Arm('a', 3),)"}, "arm 'a': settings = 3"),
        ({"arms": "(Arm('a'), Arm('a'))"}, "two arms are named 'a'"),
        ({"seeds": "()"}, "expected one whole number or more"),
        ({"seeds": "3"}, "expected one whole number or more"),
        ({"seeds": "(0, 1.5)"}, "1.5: expected a whole number"),
        ({"seeds": "(0, True)"}, "True: expected a whole number"),
        ({"seeds": "(-1,)"}, "-1: expected a whole number"),
        ({"seeds": "(1, 2, 1)"}, "seed 1 is given twice"),
        ({"settings": "3"}, "settings = 3: expected a dict"),
        ({"data": "'shapes'"}, "data = 'shapes': expected a dict"),
        ({"hours": "0"}, "hours = 0: expected a number above 0"),
        ({"hours": "True"}, "hours = True: expected a number above 0"),
        ({"metric": "3"}, "metric = 3: expected a name"),
        ({"settings": "{'seed': 3}"}, "settings: seed is given by the study's seeds"),
        ({"arms": "(Arm('a', {'name': 'x'}),)"}, "arm 'a': name is given"),
        ({"arms": "(Arm('a', {'task': 'obb'}),)"}, "arm 'a': task is given"),
        ({"data": "{'a': 'shapes'}"}, "settings: data is also given"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, given, answer):
    assert answer in refusal(tmp_path, **given)


def test_paths_take_variables_and_what_stands_beside_the_study(tmp_path, monkeypatch):
    monkeypatch.setenv("HERE", str(tmp_path / "far"))
    (tmp_path / "own.yaml").touch()
    assert placed("$HERE/data.yaml", tmp_path, "data") == f"{tmp_path}/far/data.yaml"
    assert placed("own.yaml", tmp_path, "data") == f"{tmp_path}/own.yaml"
    assert placed("other.yaml", tmp_path, "data") == "other.yaml"
    monkeypatch.delenv("HERE")
    with pytest.raises(ValueError, match="data = .*variable HERE is not set"):
        placed("${HERE}/data.yaml", tmp_path, "data")


def test_a_study_is_made_by_keywords():
    with pytest.raises(TypeError):
        Study("why?", "yolo11n", (Arm("base"),), (0,))
