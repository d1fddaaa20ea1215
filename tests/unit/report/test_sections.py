"""The list of sections: complete, in the order of the page, and with no unused template."""

import re
from pathlib import Path

import pytest

from fathomlab.analysis.audit import audit
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import judge
from fathomlab.report import sections as package
from fathomlab.report.section import Section
from fathomlab.report.sections import SECTIONS
from fathomlab.store.reading import Store

FOLDER = Path(package.__file__).parent
SHARED = {"base.html", "macros.html", "index.html", "report.html", "combined.html", "heading.html", "sections.html"}
SHARED |= {"plain.html", "style.css", "breakdown.html"}  # the last one needs placebos


def sections_of(store: Store, name: str) -> list[Section]:
    """The sections that an experiment has."""
    results = study(store, store.experiment(name))
    verdicts, audits = judge(results), audit(results)
    return [section for build in SECTIONS if (section := build(results, verdicts, audits)) is not None]


def test_sections_contains_every_module() -> None:
    modules = {f"fathomlab.report.sections.{file.stem}" for file in FOLDER.glob("*.py") if file.stem != "__init__"}
    assert [build.__name__ for build in SECTIONS] == ["section"] * len(modules)
    assert {build.__module__ for build in SECTIONS} == modules


@pytest.fixture(scope="module")
def built(written: Store) -> dict[str, list[Section]]:
    """The sections of three experiments."""
    return {name: sections_of(written, name) for name in ("1_1", "1_2", "2_2")}


def test_page_shows_sections_in_order(written: Store, built: dict[str, list[Section]]) -> None:
    """Each has its anchor, its heading, and its entry in the list of contents; every template is used.

    `tuning.html` is in tests/e2e/test_tuning.py, because none of these experiments is tuned.
    """
    templates: set[str] = set()
    for name, expected in built.items():
        page = (written.root / "experiments" / name / "report.html").read_text()
        assert re.findall(r'<section id="(\w+)"', page) == [section.anchor for section in expected]
        assert re.findall(r'<li><a href="#(\w+)">', page) == [section.anchor for section in expected]
        assert re.findall(r'<h2 id="h-\w+">([^<]+)</h2>', page) == [section.heading for section in expected]
        templates |= {section.template for section in expected}
    assert {file.name for file in FOLDER.with_name("templates").iterdir()} == templates | SHARED | {"tuning.html"}


def test_page_omits_sections_without_content(built: dict[str, list[Section]]) -> None:
    anchors = {name: {section.anchor for section in sections} for name, sections in built.items()}
    assert anchors["1_2"] - anchors["1_1"] == {"claims", "failures", "gradients", "probes", "audit"}
    assert "distillation" in anchors["2_2"] - anchors["1_2"]
