"""Thirty hostile texts in every text field of every record: the page keeps its elements."""

import importlib.util
import json
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fathomlab.report.page import write_index, write_report
from fathomlab.store.reading import Store

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "-->",
    "<![CDATA[x]]>",
    "]]>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "` onload=`alert(1)",
    "</title></style></pre></code></table><iframe src=//x>",
    "</svg><script>alert(1)</script>",
    "<svg><a xlink:href='javascript:alert(1)'>x</a></svg>",
    "<style>@import 'http://x'</style>",
    "url(http://x)",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<base href=//x>",
    "<meta http-equiv=refresh content=0;url=//x>",
    "<form action=//x><input>",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "{{ 7 * 7 }}{% raw %}{# x",
    "\u2028\u2029",
    "\u202e\u2066<b>",
    "\ud800",
    "\x00\x1b[31m\x07",
    "a,b;\t\"c\"\r\n=cmd|' /C calc'!A0",
    "<" * 300,
)
assert len(PAYLOADS) == 30
# Keywords of the format: changing them changes the page, so they are not free text.
WORDS = ("trial", "status", "role", "verdict", "headline", "outcome", "kind", "expect", "started", "created", "seal")
CLAIM = {
    "name": "n",
    "factor": "model.params.residual",
    "levels": [True, False],
    "expect": "greater",
}  # full key: spoiled alike
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


def _stores() -> Any:
    path = Path(__file__).parents[1] / "unit" / "report" / "stores.py"
    spec = importlib.util.spec_from_file_location("hostile_stores", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stores = _stores()


class Skeleton(HTMLParser):
    """Elements with the names of their attributes, comments, declarations; and what could be loaded or run."""

    def __init__(self, page: str):
        """Parse it."""
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.sections: list[str] = []
        self.wrong: list[str] = []
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

    def handle_comment(self, data: str) -> None:
        """Count comments."""
        self.tags.append(("comment", []))

    def unknown_decl(self, data: str) -> None:
        """CDATA and the like."""
        self.tags.append(("declaration", []))


def spoiled(value: Any, added: Callable[[str], str], key: str = "") -> Any:
    """A document in which each text that is no word of the format, and each key that people choose, has a text added.

    Equal texts are spoiled equally: the layers of two snapshots are still the same layers.
    """
    if key in ("claims", "factors"):  # a claim with a lone surrogate cannot be evaluated
        return _spoiled(value, lambda text: added(text).encode(errors="replace").decode(), key)
    return _spoiled(value, added, key)


def _spoiled(value: Any, added: Callable[[str], str], key: str) -> Any:
    if isinstance(value, dict):
        free = key in ("resolved", "files", "versions", "hardware", "factors", "at", "logging")
        return {f"{name}{added(name)}" if free else name: spoiled(item, added, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_spoiled(item, added, key) for item in value]
    return f"{value}{added(value)}" if isinstance(value, str) and key not in WORDS else value


def pages(root: Path, added: Callable[[str], str]) -> tuple[Skeleton, Skeleton]:
    """Report and index of a store that is spoiled so."""
    stores.write_depths(root, depths=(20,), epochs=2, cause="cause", claims=[CLAIM], question="question")
    for path in sorted(root.rglob("*.json")):
        about = json.loads(path.read_text())
        path.write_text(json.dumps(spoiled(about, added)))  # `reseal` below computes the checksums
    for path in sorted(root.rglob("*.jsonl")):
        lines = [spoiled(json.loads(line), added) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stores.reseal(root)
    store = Store(root)
    (experiment,) = store.experiments()
    report, index = write_report(store, experiment.name), write_index(store)
    return Skeleton(report.read_text(encoding="utf-8")), Skeleton(index.read_text(encoding="utf-8"))


def rotating(start: int) -> Callable[[str], str]:
    """A payload per text; over thirty pages each text gets each payload."""
    return lambda text: PAYLOADS[(zlib.crc32(text.encode()) + start) % len(PAYLOADS)]


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Skeleton, Skeleton]:
    """The same pages with three letters in all fields."""
    return pages(tmp_path_factory.mktemp("harmless"), lambda _: "xxx")


def compared(made: tuple[Skeleton, Skeleton], harmless: tuple[Skeleton, Skeleton]) -> None:
    """The elements and sections of the harmless pages, and nothing that loads or runs."""
    for page, plain in zip(made, harmless, strict=True):
        assert page.wrong == []
        assert page.sections == plain.sections
        assert page.tags == plain.tags


@pytest.mark.parametrize("start", range(0, 30, 10))
def test_hostile_texts_add_nothing_to_a_page(tmp_path: Path, harmless: tuple[Skeleton, Skeleton], start: int):
    """Three pages; each text has a different payload on each page."""
    assert {"answer", "claims"} <= set(harmless[0].sections)
    compared(pages(tmp_path, rotating(start)), harmless)


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_each_hostile_text_adds_nothing_to_a_page(tmp_path: Path, harmless: tuple[Skeleton, Skeleton], payload: str):
    """One payload in all fields."""
    compared(pages(tmp_path, lambda _: payload), harmless)


def test_deeply_nested_record_still_gives_pages(tmp_path: Path, harmless: Callable[..., Any]):
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
