"""Reads report pages: elements, tables, and embedded numbers."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

from fathomlab.store.reading import Store


class Elements(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def elements(text: str) -> Elements:
    """A page, parsed."""
    parser = Elements()
    parser.feed(text)
    parser.close()
    return parser


def page(store: Store, name: str) -> str:
    """The text of a written page."""
    return (store.root / "experiments" / name / "report.html").read_text()


def tables(text: str) -> dict[str, list[dict[str, str]]]:
    """The tables of a page by name, as their CSV has them."""
    entries: dict[str, list[dict[str, str]]] = {}
    for tag, attributes in elements(text).tags:
        if tag == "a" and "download" in attributes:
            address = attributes["href"] or ""
            assert address.startswith("data:text/csv;charset=utf-8,")
            content = unquote(address.split(",", 1)[1])
            entries[(attributes["download"] or "").removesuffix(".csv")] = list(csv.DictReader(io.StringIO(content)))
    return entries


def embedded(text: str) -> dict[str, Any]:
    """The numbers that a page carries for other programs."""
    match = re.search(r'<script type="application/json" id="results">(.*?)</script>', text, re.DOTALL)
    assert match is not None
    return json.loads(match[1])
