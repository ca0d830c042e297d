"""Pages: what a browser would make of them, and what of data cannot get in."""

import math
import re
from html.parser import HTMLParser

import pytest

from yolojax.writers import page
from yolojax.writers.page.chart import ticks

HOSTILE = "<script>alert(1)</script>\"'&"
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta"}
EMPTY |= {"source", "track", "wbr"}


class Read(HTMLParser):
    """The elements and the text of a page; fails where one is not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), f"twice in {attributes}"
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def of(*blocks, title="T", note=""):
    return page.html(page.Page(title, "s", [page.Section(title, blocks, note)], "f"))


def everything(text):
    """Returns a page with the same text wherever text can stand."""
    marks = [page.Mark(k, [(0, 0), (9, 9)], text) for k in ("missed", "right")]
    picture = page.Picture(b"jpeg", 10, 10, marks, text, text)
    line = page.Series(text, [(1, 2), (2, 3)])
    blocks = (
        page.Facts([(text, text)]),
        page.Tiles([(text, text, text)]),
        page.Table([text, "n"], [[text, 1], [text, None]], [text, 2], text),
        page.Chart(
            text, [line, page.Series(text, [(1, 1)])], text, None, (1, text), text
        ),
        page.Bars(text, [text, text], [(text, [1, 2])]),
        page.Matrix([text], [text], [[3]], text),
        page.Pictures([picture, picture]),
        page.Notes([text], warning=True),
        page.Notes([text], code=True),
        page.Links([(text, text, text)]),
    )
    sections = [page.Section(text, blocks, text)]
    return page.html(page.Page(text, text, sections, text))


def test_a_text_that_would_be_markup_is_shown_as_it_is():
    word = "w" * len(HOSTILE)
    plain, hostile = Read(everything(word)), Read(everything(HOSTILE))
    assert [t for t, _ in plain.elements] == [t for t, _ in hostile.elements]
    assert [sorted(a) for _, a in plain.elements] == [
        sorted(a) for _, a in hostile.elements
    ]
    count = "".join(plain.words).count(word)
    assert "".join(hostile.words).count(HOSTILE) == count > 20


def test_nothing_is_loaded_and_no_other_script_runs():
    read = Read(everything(HOSTILE))
    (policy,) = [
        m["content"]
        for m in read.all("meta")
        if m.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert not [t for t, _ in read.elements if t in ("link", "iframe", "img", "base")]
    addresses = [a.get("href", "") for _, a in read.elements]
    assert all(":" not in a or a.startswith("data:image/jpeg;") for a in addresses)
    assert not [
        k for _, a in read.elements for k in a if k.startswith("on") or k == "src"
    ]


def test_the_hash_in_the_policy_is_that_of_the_script():
    import base64
    import hashlib

    text = of()
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text


def test_links_inside_the_page_lead_somewhere_and_no_name_is_given_twice():
    read = Read(everything(HOSTILE))
    names = [a["id"] for _, a in read.elements if "id" in a]
    assert len(names) == len(set(names))
    inner = {a["href"][1:] for a in read.all("a") if a["href"].startswith("#")}
    assert inner and inner <= set(names)


def test_sections_of_one_title_have_different_names():
    text = page.html(page.Page("t", "", [page.Section("A", []), page.Section("A", [])]))
    first, second = (s["id"] for s in Read(text).all("section"))
    assert first != second


def test_cells_are_sorted_by_their_values_and_not_by_what_is_shown():
    table = page.Table(("name", "n"), [("x", 12345), ("y", None), ("z", 0.5)])
    cells = [a.get("data-v") for a in Read(of(table)).all("td")]
    assert cells == ["x", "12345", "y", "", "z", "0.5"]
    text = of(table)
    assert ">12,345<" in text and ">0.5000<" in text and text.count('class="n"') == 4


def test_a_change_says_whether_it_is_for_the_better():
    row = [page.Change(0.25, True), page.Change(-0.5, False), page.Change(0.0, None)]
    text = of(page.Table(("a", "b", "c"), [row]))
    for kind, shown in (
        ("better", "+0.2500"),
        ("worse", "-0.5000"),
        ("same", "+0.0000"),
    ):
        assert f'<span class="{kind}">{shown}</span>' in text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1, 3, [1, 2, 3]), (0, 0.0021, None)],
)
def test_ticks_are_round_numbers(low, high, expected):
    found = ticks(low, high, 1.0 if high == 3 else 0.0)
    if expected:
        assert found == pytest.approx(expected)
    assert low <= found[0] and found[-1] <= high + 1e-9 and 2 <= len(found) <= 7


def test_a_line_has_a_gap_where_nothing_was_measured():
    points = [(1, 1), (2, math.nan), (3, 2), (4, 3), (5, math.inf)]
    text = of(page.Chart("t", [page.Series("s", points, 0)]))
    lines = re.findall(r'<polyline[^>]* points="([^"]*)"', text)
    assert [len(line.split()) for line in lines] == [1, 2]
    assert "nan" not in text.lower().replace("finance", "") and "inf," not in text


def test_long_lines_are_thinned_and_keep_their_ends():
    points = [(float(i), float(i)) for i in range(5000)]
    text = of(page.Chart("t", [page.Series("s", points)]))
    (line,) = re.findall(r'<polyline[^>]* points="([^"]*)"', text)
    assert 200 < len(line.split()) <= 401 and "<circle" not in text
    x = [float(p.split(",")[0]) for p in line.split()]
    assert x[0] == pytest.approx(50) and x[-1] == pytest.approx(430)


@pytest.mark.parametrize("points", [[], [(1, math.nan)]])
def test_a_chart_of_nothing_says_so(points):
    assert "nothing was measured" in of(page.Chart("t", [page.Series("s", points)]))


def test_one_value_and_equal_values_are_drawn():
    for points in ([(1, 0.0)], [(1, 5.0), (2, 5.0)]):
        text = of(page.Chart("t", [page.Series("s", points)]))
        numbers = re.findall(r'<polyline[^>]* points="([\d., ]*)"', text)
        assert len(numbers) == 1


def test_words_in_a_picture_do_not_lie_on_each_other():
    corners = [(10, 50), (90, 50), (90, 90), (10, 90)]
    marks = [page.Mark("false", corners, f"word {i}") for i in range(3)]
    text = of(page.Pictures([page.Picture(b"x", 400, 400, marks, "n", "c")]))
    heights = [
        float(y) for y in re.findall(r'<text x="[\d.]+" y="([\d.]+)" style', text)
    ]
    assert len(heights) == 3
    assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) > 400 / 52


def test_a_path_that_is_no_text_is_an_address():
    text = of(page.Links([("a", "x y/\udcff:1#2.png", "")]))
    assert 'href="x%20y/%FF%3A1%232.png"' in text


def test_shares_of_a_matrix_are_those_of_its_rows():
    text = of(page.Matrix(["a", "b"], ["a", "missed"], [[3, 1], [0, 0]], ""))
    assert re.findall(r"--s:([\d.]+)", text) == ["0.750", "0.250", "0.000", "0.000"]
    assert "a found as missed: 1 (25.0%)" in text


def test_a_table_without_rows_has_its_headings():
    assert len(Read(of(page.Table(("a", "b"), []))).all("th")) == 2
