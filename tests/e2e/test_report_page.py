"""The pages in a real browser: no requests, no errors, no horizontal scrolling, light and dark, without JavaScript."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fathomlab.report.page import write_report
from fathomlab.store.reading import Store
from tests.helpers.accessibility import RULES
from tests.helpers.cluster_records import write_cluster

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
waiting = pytest.importorskip("selenium.webdriver.support.wait", reason="selenium is not installed")

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("1_1", "1_2", "1_3", "2_2", "index", "hand-in")
SCHEMES = ("light", "dark")
OVERFLOW = "return [document.documentElement.scrollWidth, window.innerWidth]"
LUMINANCE = """
const seen = (text) => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  const part = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
};
const style = getComputedStyle(document.body), root = getComputedStyle(document.documentElement);
const names = ['--ink', '--muted', '--accent', '--good', '--bad', '--open'];
return [seen(style.backgroundColor), ...names.map(name => seen(root.getPropertyValue(name).trim()))];
"""
MARKS = """
return [...document.querySelectorAll('figure > svg')].filter(svg => svg.getClientRects().length).map(svg => {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
  const sizes = [...svg.querySelectorAll('text')].map(text => parseFloat(getComputedStyle(text).fontSize));
  const scale = box.width / svg.viewBox.baseVal.width;
  const right = Math.max(0, ...texts.map(text => text.right - box.right));
  return {id: svg.parentElement.id, top: box.top, right, left: Math.min(0, ...texts.map(text => text.left - box.left)),
          smallest: Math.min(...sizes) * scale, width: box.width};
});
"""

OVERLAPS = """
return [...document.querySelectorAll('figure > svg')].filter(svg => svg.getClientRects().length).flatMap(svg => {
  const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  return texts.flatMap(([name, a], i) => texts.slice(i + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    .map(([other]) => `${svg.parentElement.id}: ${name} / ${other}`));
});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One headless Chromium with a fresh profile; skipped with a reason if it is not installed."""
    for needed in (BROWSER, DRIVER):
        if not needed.exists():
            pytest.skip(f"{needed} is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def look(browser: Any, width: int = 1280, scheme: str = "light") -> None:
    """Give the open page another width and color scheme."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})


def show(browser: Any, page: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open a page at a width in a color scheme, with empty logs."""
    look(browser, width, scheme)
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    loaded = "return document.readyState === 'complete'"  # on a busy machine, `get` may return before
    waiting.WebDriverWait(browser, 30, 0.02).until(lambda driver: driver.execute_script(loaded))


@pytest.mark.parametrize("name", NAMES)
def test_page_requests_nothing_and_logs_nothing(browser: Any, pages: dict[str, Path], name: str):
    """One request: the file itself. Data URIs are not network requests."""
    show(browser, pages[name])
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [item["params"]["request"]["url"] for item in messages if item["method"] == "Network.requestWillBeSent"]
    assert [url for url in sent if not url.startswith("data:")] == [pages[name].as_uri()]


OPEN = "document.querySelectorAll('details').forEach(item => { item.open = true; });"


@pytest.mark.parametrize("name", NAMES)
def test_page_does_not_scroll_sideways(browser: Any, pages: dict[str, Path], name: str):
    """Also with all details open, which contain the tables."""
    show(browser, pages[name])
    for script in ("", OPEN):
        browser.execute_script(script)
        for width, scheme in ((360, "light"), (768, "dark"), (1280, "light")):
            look(browser, width, scheme)
            content, window = browser.execute_script(OVERFLOW)
            assert window == width
            assert content <= window, (width, scheme, script)


def test_page_of_a_cluster_does_not_scroll_sideways(browser: Any, tmp_path: Path):
    """Its tables of runs and versions fit into 1280 pixels, and nothing is wider than a phone."""
    page = write_report(Store(tmp_path), write_cluster(tmp_path))
    show(browser, page)
    browser.execute_script(OPEN)
    for width, scheme in ((360, "dark"), (1280, "light")):
        look(browser, width, scheme)
        content, window = browser.execute_script(OVERFLOW)
        assert content <= window, width
    boxes = "return [...document.querySelectorAll('#cost .scroll, #provenance .scroll')]"
    sizes = browser.execute_script(f"{boxes}.map(box => [box.scrollWidth, box.clientWidth]);")
    assert len(sizes) >= 5
    assert all(content <= box for content, box in sizes), sizes


def test_cost_table_fits_on_the_page(browser: Any, pages: dict[str, Path]):
    show(browser, pages["2_2"])
    boxes = "return [...document.querySelectorAll('#cost .scroll')].map(box => [box.scrollWidth, box.clientWidth]);"
    for width in (800, 900, 1152):
        look(browser, width)
        sizes = browser.execute_script(boxes)
        assert sizes
        assert all(content <= box for content, box in sizes), (width, sizes)


@pytest.mark.parametrize("name", ["1_1", "1_2", "1_3", "2_2"])
def test_figures_are_readable_on_a_phone(browser: Any, pages: dict[str, Path], name: str):
    """No text under 11 pixels at 360 beside a scroll bar, none cut off at the left of its figure."""
    show(browser, pages[name], 360)
    marks = browser.execute_script(MARKS)
    assert len(marks) >= 6
    for mark in marks:
        assert mark["smallest"] >= 11, mark
        assert mark["left"] >= -4, mark
        assert mark["width"] > 150, mark


@pytest.mark.parametrize("name", ["1_1", "1_2", "1_3", "2_2"])
def test_figure_text_has_twelve_pixels(browser: Any, pages: dict[str, Path], name: str):
    """At the size shown, with every figure once, and no text outside of its figure or across another.

    The main chart is on the first screen, and wider than a third of the text.
    """
    show(browser, pages[name])
    widths = (1400, 900, 400)
    for width in widths:
        look(browser, width)
        first = browser.execute_script(MARKS)[0]
        assert first["id"] == "accuracy-1"
        assert width == 400 or (first["top"] < 550 and first["width"] > 450)
    browser.execute_script(OPEN)
    for width in widths:
        look(browser, width)
        marks = browser.execute_script(MARKS)
        assert len(marks) == browser.execute_script("return document.querySelectorAll('figure').length")
        for mark in marks:
            assert mark["smallest"] >= 11.99, (width, mark)
            assert mark["left"] >= -4, (width, mark)
            assert mark["right"] <= 4, (width, mark)
        assert browser.execute_script(OVERLAPS) == []


@pytest.mark.parametrize("name", ["1_1", "1_2", "1_3", "2_2"])
def test_first_screen_has_chart_and_verdict(browser: Any, pages: dict[str, Path], name: str):
    """At 1280 x 800: the finding, the main chart on 60% of the width of the text, and the first card beside it."""
    show(browser, pages[name], 1280)
    boxes = """return ['main', '.summary', '#accuracy-1 svg.wide', '.card'].map(name => {
      const box = document.querySelector(name).getBoundingClientRect();
      return [box.left, box.top, box.width, box.bottom];
    })"""
    main, finding, chart, card = browser.execute_script(boxes)
    assert chart[2] >= 0.6 * main[2]
    assert finding[3] < chart[1] < 400
    assert chart[3] <= 800
    assert card[0] > chart[0] + chart[2]
    assert card[1] < 450


def test_tables_need_no_scrolling(browser: Any, pages: dict[str, Path]):
    """All columns of claims and students are visible."""
    for name, section in (("1_2", "claims"), ("2_2", "claims"), ("2_2", "distillation")):
        show(browser, pages[name])
        browser.execute_script(OPEN)
        boxes = f"return [...document.querySelectorAll('#{section} > .scroll, #{section} > details > .scroll')]"
        for width in (1400, 900):
            look(browser, width)
            sizes = browser.execute_script(f"{boxes}.map(item => [item.scrollWidth, item.clientWidth])")
            assert len(sizes) >= 3
            assert all(content <= visible + 1 for content, visible in sizes), (name, section, width, sizes)


@pytest.mark.parametrize("name", NAMES)
def test_text_has_contrast_in_both_schemes(browser: Any, pages: dict[str, Path], name: str):
    """A contrast of at least 4.5 for every text color on the background (WCAG AA), in both schemes."""
    papers: list[float] = []
    show(browser, pages[name])
    for scheme in SCHEMES:
        look(browser, scheme=scheme)
        paper, *inks = browser.execute_script(LUMINANCE)
        papers.append(paper)
        for ink in inks:
            high, low = max(paper, ink), min(paper, ink)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, inks)
    assert papers[0] > 0.9
    assert papers[1] < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_page_follows_accessibility_rules(browser: Any, pages: dict[str, Path], name: str):
    """All rules with all details open: wide and light, narrow and dark."""
    show(browser, pages[name])
    browser.execute_script(OPEN)
    for width, scheme in ((1280, "light"), (360, "dark")):
        look(browser, width, scheme)
        broken = {rule: offenders for rule, body in RULES.items() if (offenders := browser.execute_script(body))}
        assert broken == {}


FAULTS = {
    "every control, picture and landmark has a name": "<a href='#x'></a>",
    "every reference leads somewhere": "<p aria-labelledby='nowhere'>x</p>",
    "every id is used once": "<i id='content'></i>",
    "headings are in order": "<h5>too deep</h5>",
    "landmarks are there and differ": "<main>another</main>",
    "pictures have title and description": "<svg role='img'><title>x</title></svg>",
    "tables have headers, and rows as many cells": "<table><tbody><tr><td>1</table>",
    "what scrolls takes the keyboard": "<div style='overflow:auto;width:20px'><p style='width:90px'>x</p></div>",
    "a figure has a caption, a table and a file": "<figure id='bare'></figure>",
    "the order of the keyboard is that of the page": "<p tabindex='3'>x</p>",
    "text stands out": "<p style='color:#999;background:#fff'>pale</p>",
}


def test_each_accessibility_rule_can_fail(browser: Any, pages: dict[str, Path]):
    """A page with one added fault breaks its rule; the page without it does not."""
    assert FAULTS.keys() == RULES.keys()
    show(browser, pages["2_2"])
    for rule, fault in FAULTS.items():
        assert browser.execute_script(RULES[rule]) == [], rule
        browser.execute_script("document.querySelector('main').insertAdjacentHTML('beforeend', arguments[0])", fault)
        assert browser.execute_script(RULES[rule]), rule
        browser.execute_script("document.querySelector('main').lastElementChild.remove()")


def test_keyboard_reaches_the_content_first(browser: Any, pages: dict[str, Path]):
    """The first stop is the skip link, the contents follow in their order, and focus shows."""
    show(browser, pages["1_2"])
    stops: list[str] = []
    for _ in range(16):
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
            browser.execute_cdp_cmd("Input.dispatchKeyEvent", event)
        focused = "const e = document.activeElement; return [e.getAttribute('href'), getComputedStyle(e).outlineStyle]"
        address, outline = browser.execute_script(focused)
        assert outline != "none", address
        stops.append(address)
    links = browser.execute_script("return [...document.querySelectorAll('nav a')].map(e => e.getAttribute('href'))")
    assert stops[0] == "#content"
    assert stops[1 : 1 + len(links)] == links[: len(stops) - 1]


def test_printed_page_shows_full_tables(browser: Any, pages: dict[str, Path]):
    """On paper nothing scrolls, closed blocks are open except the data of figures, and the background is white."""
    show(browser, pages["2_2"], scheme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    styles = """return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('nav')).display,
      getComputedStyle(document.querySelector('.scroll')).overflowX]"""
    assert browser.execute_script(styles) == ["rgb(255, 255, 255)", "none", "visible"]
    closed = """return [...document.querySelectorAll('details:not([open]) > :is(p, ul, .scroll, pre, .grid)')]
      .map(item => [!!item.closest('figure'), item.checkVisibility()])"""
    blocks = browser.execute_script(closed)
    assert {in_figure for in_figure, _ in blocks} == {True, False}
    assert all(visible != in_figure for in_figure, visible in blocks)


@pytest.mark.parametrize("name", ["1_2", pytest.param("2_2", marks=pytest.mark.slow)])
def test_page_is_complete_without_javascript(browser: Any, pages: dict[str, Path], name: str):
    """Sections and figures exist, and a table opens with the keyboard; read through the DevTools protocol."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, pages[name])
        root = browser.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]

        def count(selector: str) -> int:
            return len(
                browser.execute_cdp_cmd("DOM.querySelectorAll", {"nodeId": root, "selector": selector})["nodeIds"]
            )

        for section in ("answer", "claims", "accuracy", "curves", "audit", "cost", "methods", "trials", "provenance"):
            assert count(f"main section#{section} h2") == 1, section
        assert count("#gradients") == (name == "1_2")
        assert count("#distillation") == (name == "2_2")
        assert count("figure > svg[role=img]") >= 6
        before = count("details[open]")
        for _ in range(60):
            for kind in ("keyDown", "keyUp"):
                browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, "key": "Tab", "code": "Tab"})
            if count("summary:focus"):
                break
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyDown", **enter})
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
        assert count("details[open]") == before + 1
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
