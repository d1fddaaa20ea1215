"""Markup in any field of a record stays text: the page has the elements of a harmless one, and no more."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from fathomlab.report.page import write_index, write_report
from fathomlab.store.reading import Store

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><iframe onload=alert(1)>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "]]>",
    "\u2028\u2029",
    "</pre></code></style></title><iframe>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
)


class Skeleton(HTMLParser):
    """The tags of a page with the names of their attributes, the comments, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, sorted(key for key, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", []))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def skeletons(
    stores: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Skeleton, Skeleton]]:
    """Report and index of a store that has the given text in every field."""

    def made(text: str) -> tuple[Skeleton, Skeleton]:
        root = tmp_path_factory.mktemp("hostile")
        claim = {"name": text, "factor": "residual", "levels": [True, False], "expect": "greater"}
        about = {"title": text, "overrides": [text], "source": text, "created": text, "claims": [claim]}
        about |= {"yaml": f"# Question: {text}?\nname: {text}\n", "resolved": {"key": text}, "claims_hash": text}
        stores.write_depths(root, depths=(20,), epochs=2, cause=text, **about)
        spoil(stores, root, text)
        store = Store(root)
        return Skeleton(write_report(store, "1_2").read_text()), Skeleton(write_index(store).read_text())

    return made


@pytest.fixture(scope="module")
def harmless(skeletons: Callable[[str], tuple[Skeleton, Skeleton]]) -> tuple[Skeleton, Skeleton]:
    """The same with a text of three letters."""
    return skeletons("xxx")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_text_adds_no_element(
    skeletons: Callable[[str], tuple[Skeleton, Skeleton]], harmless: tuple[Skeleton, Skeleton], payload: str
):
    """No element, attribute or comment more than the harmless page has; and the text is there to be read."""
    report, index = skeletons(payload)
    assert report.tags == harmless[0].tags
    assert index.tags == harmless[1].tags
    assert payload in report.text
    assert payload in index.text


def spoil(stores: ModuleType, root: Path, text: str) -> None:
    """Put a text into labels, factors, layers and provenance."""
    file = root / "experiments" / "1_2" / "experiment.json"
    about = json.loads(file.read_text())
    for place, condition in enumerate(about["conditions"]):
        condition["label"] = f"{text}{place}"
        condition["factors"][f"model.{text}"] = text
    stores.change(file, **about)
    for folder in (root / "trials").iterdir():
        lines = [json.loads(line) for line in (folder / "gradients.jsonl").read_text().splitlines()]
        for line in lines:
            line["layers"] = [f"{text}{place}" for place in range(len(line["layers"]))]
        (folder / "gradients.jsonl").write_text(stores.lines(lines))
        about = json.loads((folder / "provenance.json").read_text())
        about["versions"][text] = text
        about["data"] = {"name": text, "files": {text: text}, "unofficial": [text], "notes": [text]}
        stores.change(folder / "provenance.json", **about)
