"""Hostile texts in every text field of every record: the page has the elements of a harmless one, and shows the text."""

import json
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fathomlab.report.page import write_index, write_report
from fathomlab.store.reading import Store
from tests.helpers import stores
from tests.helpers.hostile_text import ALL, MARKUP

# Keywords of the format: changing them changes the page, so they are not free text.
KEYWORDS = ("trial", "status", "role", "verdict", "headline", "outcome", "kind", "expect", "started", "created", "seal")
CLAIM = {
    "name": "n",
    "factor": "model.params.residual",
    "levels": [True, False],
    "expect": "greater",
}  # full key: with_text alike
LOADING = (
    "href",
    "src",
    "srcset",
    "action",
    "formaction",
    "data",
    "poster",
    "background",
    "xlink:href",
    "cite",
    "style",
)


class Skeleton(HTMLParser):
    """Elements with the names of their attributes, comments, declarations; and what could be loaded or run."""

    def __init__(self, page: str):
        """Parse it."""
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.sections: list[str] = []
        self.wrong: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element, and its attributes."""
        self.tags.append((tag, sorted(key for key, _ in attrs)))
        self.sections += [str(value) for key, value in attrs if tag == "section" and key == "id"]
        for key, value in attrs:
            text = (value or "").strip()
            local = text.startswith(("#", "experiments/", "data:text/csv;", "data:image/png;"))
            if key.startswith("on") or (key in LOADING[:-1] and not local) or (key == "style" and "url(" in text):
                self.wrong.append(f"{tag} {key}={text[:100]}")

    def handle_data(self, data: str) -> None:
        """Collect the text."""
        self.text += data

    def handle_comment(self, data: str) -> None:
        """Count comments."""
        self.tags.append(("comment", []))

    def unknown_decl(self, data: str) -> None:
        """CDATA and the like."""
        self.tags.append(("declaration", []))


def with_text(value: Any, added: Callable[[str], str], key: str = "") -> Any:
    """A document in which each text that is no word of the format, and each key that people choose, has a text added.

    Equal texts are with_text equally: the layers of two snapshots are still the same layers.
    """
    if key in ("claims", "factors"):  # a claim with a lone surrogate cannot be evaluated
        return _with_text(value, lambda text: added(text).encode(errors="replace").decode(), key)
    return _with_text(value, added, key)


def _with_text(value: Any, added: Callable[[str], str], key: str) -> Any:
    if isinstance(value, dict):
        free = key in ("resolved", "files", "versions", "hardware", "factors", "at", "logging")
        return {f"{name}{added(name)}" if free else name: with_text(item, added, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_text(item, added, key) for item in value]
    return f"{value}{added(value)}" if isinstance(value, str) and key not in KEYWORDS else value


def pages(root: Path, added: Callable[[str], str]) -> tuple[Skeleton, Skeleton]:
    """Report and index of a store that is with_text so."""
    stores.write_depths(root, depths=(20,), epochs=2, cause="cause", claims=[CLAIM], question="question")
    for path in sorted(root.rglob("*.json")):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(with_text(record, added)))  # `reseal` below computes the checksums
    for path in sorted(root.rglob("*.jsonl")):
        lines = [with_text(json.loads(line), added) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stores.reseal(root)
    store = Store(root)
    (experiment,) = store.experiments()
    report, index = write_report(store, experiment.name), write_index(store)
    return Skeleton(report.read_text(encoding="utf-8")), Skeleton(index.read_text(encoding="utf-8"))


def rotating(start: int) -> Callable[[str], str]:
    """A hostile text per field, which differs between pages."""
    return lambda text: ALL[(zlib.crc32(text.encode()) + start) % len(ALL)]


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Skeleton, Skeleton]:
    """The same pages with three letters in all fields."""
    return pages(tmp_path_factory.mktemp("harmless"), lambda _: "xxx")


def check_equal(result: tuple[Skeleton, Skeleton], harmless: tuple[Skeleton, Skeleton]) -> None:
    """The elements and sections of the harmless pages, and nothing that loads or runs."""
    for page, plain in zip(result, harmless, strict=True):
        assert page.wrong == []
        assert page.sections == plain.sections
        assert page.tags == plain.tags


@pytest.mark.parametrize("start", [0, 17])
def test_hostile_text_adds_no_element(tmp_path: Path, harmless: tuple[Skeleton, Skeleton], start: int):
    """Each text field has a different hostile text on each page."""
    assert {"answer", "claims"} <= set(harmless[0].sections)
    check_equal(pages(tmp_path, rotating(start)), harmless)


@pytest.mark.parametrize(
    "payload", [MARKUP[11], *(pytest.param(text, marks=pytest.mark.slow) for text in ALL)], ids=ascii
)
def test_hostile_text_is_shown(tmp_path: Path, harmless: tuple[Skeleton, Skeleton], payload: str):
    """One text in all fields."""
    result = pages(tmp_path, lambda _: payload)
    check_equal(result, harmless)
    if payload.isprintable():
        assert all(payload in page.text for page in result)


def test_deeply_nested_records_do_not_stop_pages(tmp_path: Path, harmless: Callable[..., Any]):
    """The record is reported as corrupted or shown; the page and the index are written."""
    stores.write_depths(tmp_path, depths=(20,), epochs=1, seeds=1)
    (file,) = tmp_path.glob("experiments/*/experiment.json")
    trial = next(tmp_path.glob("trials/*/trial.json"))
    for depth in (300, 900, 100_000):
        deep = '{"a":' * depth + "1" + "}" * depth
        file.write_text(f'{{"format": 3, "name": "1_2", "title": "deep", "resolved": {deep}}}')
        trial.write_text(f'{{"format": 3, "trial": "{trial.parent.name}", "content": {deep}}}')
        store = Store(tmp_path)
        assert "<html" in write_report(store, "1_2").read_text()
        assert "<html" in write_index(store).read_text()
        assert store.trial(trial.parent.name).trial == trial.parent.name
    stores.write(file, {"title": "intact", "resolved": json.loads('{"a":' * 100 + "1" + "}" * 100)})
    assert Store(tmp_path).experiment("1_2").cause is None
    assert "<html" in write_report(Store(tmp_path), "1_2").read_text()
