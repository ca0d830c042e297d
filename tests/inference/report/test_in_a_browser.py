"""The page of a run in a real browser: Debian's package `chromium`."""

import base64
import json

import chromium
import kept_run
import pytest

from yolojax.inference import report

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        chromium.program() is None, reason="no browser: apt-get install chromium"
    ),
]

PAPER = "getComputedStyle(document.body).backgroundColor"
INK = "getComputedStyle(document.body).color"
ORDER = """[...document.querySelectorAll("#s4-classes tbody:not(.total) tr")]
    .map((row) => row.cells[0].textContent)"""
# Elements that reach beyond the window without a box of theirs that scrolls.
TOO_WIDE = """[...document.querySelectorAll("body *")].filter((e) =>
    e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, svg"))
    .map((e) => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of one run and of three."""
    root = tmp_path_factory.mktemp("runs")
    runs = [kept_run.make(root / name, lr0=0.01 * i) for i, name in enumerate("abc", 1)]
    return report.write_page(runs[:1]), report.write_page(runs)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.started(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("which", [0, 1])
def test_a_page_fits_the_window_and_follows_the_scheme(
    browser, pages, which, width, scheme
):
    browser.open(pages[which], width=width, scheme=scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(TOO_WIDE) == []
    paper, ink = (
        sum(json.loads(f"[{browser.run(what)[4:-1]}]")) for what in (PAPER, INK)
    )
    assert (paper > 600 and ink < 200) if scheme == "light" else (paper < 100 < ink)
    assert browser.complaints() == []


def test_a_click_on_a_heading_sorts_and_another_turns_the_order(browser, pages):
    browser.open(pages[0], width=1600)
    names = list(kept_run.NAMES)
    assert browser.run(ORDER) == names
    head = 'document.querySelectorAll("#s4-classes th")'
    click = head + '[{}].querySelector("button").click()'
    browser.run(click.format(0))
    assert browser.run(ORDER) == sorted(names)
    browser.run(click.format(0))
    assert browser.run(ORDER) == sorted(names, reverse=True)
    browser.run(click.format(5))  # mAP50: of the first class alone it is not 0
    assert browser.run(ORDER)[0] == names[0]
    assert browser.run(head + '[5].getAttribute("aria-sort")') == "descending"
    browser.run(click.format(5))
    assert browser.run(ORDER)[-1] == names[0]
    assert browser.complaints() == []


def test_a_picture_is_enlarged_and_closed(browser, pages):
    browser.open(pages[0], width=1000)
    shown = 'document.querySelector("figure:target")?.getBoundingClientRect().width'
    assert browser.run(shown) is None
    browser.run('document.querySelector("figure a.open").click()')
    assert browser.run(shown) == 1000
    first = browser.run("location.hash")
    browser.press("ArrowRight")
    assert browser.run("location.hash") not in ("", first)
    browser.press("Escape")
    assert browser.run(shown) is None


def test_a_word_hides_its_boxes(browser, pages):
    browser.open(pages[0], width=1000)
    seen = 'getComputedStyle(document.querySelector("g.missed")).display'
    assert browser.run(seen) != "none"
    browser.run('document.querySelector("label.missed").click()')
    assert browser.run(seen) == "none"


def test_a_page_prints_and_loads_at_once(browser, pages):
    browser.open(pages[0], width=1000)
    pdf = base64.b64decode(browser("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    taken = browser.run(
        "performance.timing.loadEventStart - performance.timing.navigationStart"
    )
    assert taken < 5000  # milliseconds, on a machine that others use as well


def test_without_scripts_everything_but_the_sorting_is_there(browser, pages):
    browser("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(pages[0], width=1000)
        assert browser.run(ORDER) == list(kept_run.NAMES)
        assert browser.run('document.querySelectorAll("th button").length') == 0
        assert browser.run('document.querySelectorAll("figure.chart svg").length') > 8
    finally:
        browser("Emulation.setScriptExecutionDisabled", value=False)
