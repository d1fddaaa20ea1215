"""The pages in a real browser: nothing loaded, no error, no sideways scroll, light and dark, without JavaScript."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

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
NAMES = ("1_1", "1_2", "1_3", "2_2", "index")
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
return [...document.querySelectorAll('figure > svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
  const sizes = [...svg.querySelectorAll('text')].map(text => parseFloat(text.getAttribute('font-size')));
  const scale = box.width / svg.viewBox.baseVal.width;
  return {id: svg.parentElement.id, left: Math.min(0, ...texts.map(text => text.left - box.left)),
          smallest: Math.min(...sizes) * scale, width: box.width};
});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One headless Chromium with a fresh profile; skipped with the reason where there is none."""
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


def show(browser: Any, page: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open a page at a width in a colour scheme, with empty logs."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_requested_and_the_console_is_silent(browser: Any, pages: dict[str, Path], name: str):
    """One request: the file itself; data addresses are no requests to anyone."""
    show(browser, pages[name])
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [item["params"]["request"]["url"] for item in messages if item["method"] == "Network.requestWillBeSent"]
    assert [url for url in sent if not url.startswith("data:")] == [pages[name].as_uri()]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("name", NAMES)
def test_no_page_scrolls_sideways(browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str):
    """With all details open as well, where the tables are."""
    show(browser, pages[name], width, scheme)
    for script in ("", "document.querySelectorAll('details').forEach(item => { item.open = true; });"):
        browser.execute_script(script)
        content, window = browser.execute_script(OVERFLOW)
        assert window == width
        assert content <= window


@pytest.mark.parametrize("name", ["1_1", "1_2", "1_3", "2_2"])
def test_figures_are_readable_on_a_phone(browser: Any, pages: dict[str, Path], name: str):
    """No text under 9 pixels at 360, none cut off at the left of its figure."""
    show(browser, pages[name], 360)
    marks = browser.execute_script(MARKS)
    assert len(marks) >= 6
    for mark in marks:
        assert mark["smallest"] >= 9, mark
        assert mark["left"] >= -4, mark
        assert mark["width"] > 150, mark


@pytest.mark.parametrize("name", NAMES)
def test_light_and_dark_are_readable(browser: Any, pages: dict[str, Path], name: str):
    """A contrast of 4.5 and more for every text colour on the paper (WCAG AA), in both schemes."""
    papers: list[float] = []
    for scheme in SCHEMES:
        show(browser, pages[name], scheme=scheme)
        paper, *inks = browser.execute_script(LUMINANCE)
        papers.append(paper)
        for ink in inks:
            high, low = max(paper, ink), min(paper, ink)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, inks)
    assert papers[0] > 0.9
    assert papers[1] < 0.05


@pytest.mark.parametrize("name", ["1_2", "2_2"])
def test_all_is_there_without_javascript(browser: Any, pages: dict[str, Path], name: str):
    """Sections, figures and an opening table, by the keyboard alone; the page is read through the tools' protocol."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, pages[name])
        root = browser.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]

        def count(selector: str) -> int:
            found = browser.execute_cdp_cmd("DOM.querySelectorAll", {"nodeId": root, "selector": selector})
            return len(found["nodeIds"])

        for section in ("answer", "accuracy", "curves", "cost", "trials", "configuration", "provenance"):
            assert count(f"main section#{section} h2") == 1, section
        assert count("#gradients") == (name == "1_2")
        assert count("#distillation") == (name == "2_2")
        assert count("figure > svg[role=img]") >= 6
        assert count("details[open]") == 0
        for _ in range(40):
            for kind in ("keyDown", "keyUp"):
                browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, "key": "Tab", "code": "Tab"})
            if count("summary:focus"):
                break
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyDown", **enter})
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
        assert count("details[open]") == 1
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
