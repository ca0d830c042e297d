"""What a study leaves beside its results: tables, plot, page and finding."""

import csv
import io

import kept_run
import pytest

from yolojax.studies import Arm, Study, written
from yolojax.studies.grid import PlannedRun
from yolojax.studies.results import Result

HOSTILE = "50 % | *a_b* <!-- /finding --> $x$"
FILES = ("table.md", "table.tex", "plot.png", "report.html", "README.md")


def case(folder, arms=("base", "other"), seeds=8, data=("shapes",), left_out=()):
    """Returns a study, its runs and their results; every arm is 0.02 better."""
    study = Study(
        question="Does it help?",
        config="yolo11n",
        arms=[Arm(name, {"mosaic": i / 10}) for i, name in enumerate(arms)],
        seeds=range(seeds),
        folder=folder,
    )
    planned, results = [], []
    for name in data:
        for seed in range(seeds):
            for i, arm in enumerate(arms):
                place = folder / "runs" / f"{len(planned):012x}"
                run = PlannedRun(
                    arm=arm,
                    seed=seed,
                    data=name,
                    settings={},
                    key=place.name,
                    folder=place,
                    config="yolo11n",
                    place=folder,
                    epochs=1,
                    decides={"task": "detect"},
                )
                planned.append(run)
                value = 0.4 + 0.01 * (seed * 3 % 7) + 0.02 * i + 0.001 * (seed % 3 * i)
                metrics = {"mAP50": value + 0.1, "mAP50-95": value}
                if (arm, seed) not in left_out:
                    results.append(Result(arm, seed, name, metrics, 1, 2.0, place))
    return study, planned, results


def texts(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_all_is_written_and_the_same_bytes_twice(tmp_path):
    sentences = written.write(*case(tmp_path), tmp_path)
    assert sentences[0].startswith("other: better than base by 0.0209 (")
    first = texts(tmp_path)
    written.write(*case(tmp_path), tmp_path)
    assert texts(tmp_path) == first
    table = first["table.md"].decode()
    assert "| base | 8 | 0.426" in table
    assert "| other | 8 | 0.4471 | " in table
    assert "| +0.0209 | " in table
    assert "| 0.00781 | better |" in table
    assert "mAP50-95, 16 of 16 runs are finished." in table
    page = first["report.html"].decode()
    for text in ("Does it help?", sentences[0], "mosaic=0.1", "runs/00000000000f"):
        assert text in page
    assert 'src="data:image/png;base64,' in page
    assert str(tmp_path) not in page
    readme = first["README.md"].decode()
    assert readme.startswith("# Does it help?\n\n<!-- finding -->\n")
    assert readme.endswith("<!-- /finding -->\n")
    assert f"- {sentences[0]}" in readme


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_only_what_stands_between_the_marks_is_replaced(tmp_path, line):
    before, after = f"# Mine{line}caf\xe9 ", f" end{line}without a last line"
    old = f"{before}<!-- finding -->old{line}<!-- /finding -->{after}"
    (tmp_path / "README.md").write_bytes(old.encode("latin-1"))  # no UTF-8
    written.write(*case(tmp_path), tmp_path)
    found = (tmp_path / "README.md").read_bytes().decode("latin-1")
    assert found.startswith(f"{before}<!-- finding -->{line}")
    assert found.endswith(f"<!-- /finding -->{after}")
    assert "old" not in found
    assert found.count("\n") == found.count(line)


def test_marks_are_made_at_the_end_of_a_readme_without_them(tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n\ntext")
    written.write(*case(tmp_path), tmp_path)
    assert (tmp_path / "README.md").read_text().startswith("# Mine\n\ntext\n\n<!-- f")


@pytest.mark.parametrize(
    "text", ["<!-- finding -->", "<!-- /finding -->", "<!-- /finding --><!-- finding "]
)
def test_half_a_pair_of_marks_raises_before_anything_is_written(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ValueError, match="one of the marks"):
        written.write(*case(tmp_path), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_a_page_of_somebody_else_is_not_replaced(tmp_path):
    (tmp_path / "report.html").write_text("<p>mine")
    with pytest.raises(ValueError, match=r"report\.html .* Move it away"):
        written.write(*case(tmp_path), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_names_mean_nothing_to_any_format(tmp_path):
    written.write(*case(tmp_path, ("base", HOSTILE)), tmp_path)
    found = {name: text.decode("utf-8", "replace") for name, text in _text(tmp_path)}
    rows = [x for x in found["table.md"].splitlines() if x.startswith("| ")]
    assert len({_cells_of(row) for row in rows}) == 1
    readme = found["README.md"]
    assert readme.count("<!-- /finding -->") == 1
    assert r"50 \% | *a\_b* \textless{}!" in found["table.tex"]
    assert r"\$x\$" in found["table.tex"]
    assert "<!-- /finding" not in found["report.html"]
    again = written.with_finding(readme, "new", "")
    assert "50 %" not in again


def _text(folder):
    return [(n, t) for n, t in texts(folder).items() if not n.endswith(".png")]


def _cells_of(row):
    return len(next(csv.reader(io.StringIO(row.replace(r"\|", "")), delimiter="|")))


def test_latex_has_as_many_columns_in_every_row(tmp_path):
    written.write(*case(tmp_path, seeds=4), tmp_path)
    lines = (tmp_path / "table.tex").read_text().splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert {row.count(" & ") for row in rows} == {7}
    assert "$+$0.0208 & $+$0.02" in rows[2]
    assert rows[2].endswith(r"& 0.125 & undecided (6 seeds needed) \\")


def test_what_is_missing_is_said(tmp_path):
    given = case(tmp_path, seeds=4, left_out=[("other", 0), ("other", 3)])
    sentences = written.write(*given, tmp_path)
    assert sentences == [
        "other: no statement, only 2 seeds in common with base; it takes at least 3."
    ]
    table = (tmp_path / "table.md").read_text()
    assert "6 of 8 runs are finished" in table
    assert "| other | 2 | 0.4665 | " in table


def test_a_study_without_results_or_with_one_arm_says_no_statement(tmp_path):
    study, planned, _ = case(tmp_path)
    assert "no statement" in written.write(study, planned, [], tmp_path)[0]
    alone = written.write(*case(tmp_path, ("base",)), tmp_path)
    assert alone == ["base: no statement, there is nothing to compare it with."]


def test_the_error_of_pictures_is_told_where_runs_kept_what_they_found(tmp_path):
    study, planned, results = case(tmp_path)
    for place in (results[2].folder, results[3].folder):  # both arms, seed 1
        kept_run.make(place)
    written.write(study, planned, results, tmp_path)
    line = (
        "shapes, other against base, seed 1: +0.0000, resampling the 14 validation"
        " pictures gives +0.0000 to +0.0000 (error from the choice of pictures, not of"
        " training)."
    )
    assert f"- {line}\n" in (tmp_path / "README.md").read_text()
    assert line in (tmp_path / "report.html").read_text()
    assert written.picture_errors(planned, results, "mAP50") == []


def test_each_data_set_has_a_table_and_sentences(tmp_path):
    sentences = written.write(*case(tmp_path, data=("a_b", "shapes")), tmp_path)
    assert [s.split(",")[0] for s in sentences] == ["a_b", "shapes"]
    assert "corrected for 2 comparisons" in sentences[0]
    assert (tmp_path / "table.md").read_text().count("| arm | seeds |") == 2
    assert r"\multicolumn{8}{l}{a\_b}" in (tmp_path / "table.tex").read_text()
