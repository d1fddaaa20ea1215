"""Reads report pages: the experiments that a page embeds, and the rows of its tables. No code of a page runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

from fathomlab.api.planning import match_experiment
from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError, format_value

MAX_BYTES = 100_000_000  # far above any page; a larger file is not read
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class Page:
    """A report page.

    Attributes:
        path: Its file.
        experiments: Name of each experiment to the numbers that the page embeds of it, in the order of the page.
        rows: Id of each table row that has one, to the text of its cells by column.
    """

    path: Path
    experiments: Mapping[str, JsonObject]
    rows: Mapping[str, Mapping[str, str]]

    def experiment(self, name: str) -> JsonObject:
        """The numbers of an experiment.

        Args:
            name: Its name or the beginning, as for the store; "" for the only one.

        Raises:
            UserError: If the page has none of this name, or if several match.
        """
        if not name and len(self.experiments) == 1:
            return next(iter(self.experiments.values()))
        names = list(self.experiments)
        if not name:
            text = f"{self.path}: contains {len(names)} experiments: {', '.join(names)}."
            raise UserError("ambiguous-experiment", f"{text} Choose one: {self.path}#{names[0]}")
        return self.experiments[match_experiment(names, name, str(self.path))]


def split_address(text: str) -> tuple[Path, str] | None:
    """The file and the fragment of `PAGE.html#FRAGMENT`; None if `text` does not name a page."""
    file, _, fragment = text.rpartition("#")
    if file.lower().endswith(SUFFIXES):
        return Path(file), fragment
    return (Path(text), "") if text.lower().endswith(SUFFIXES) else None


def read_page(path: Path) -> Page:
    """Read a report page.

    Raises:
        UserError: If the file does not exist, or is not a page that fathomlab wrote.
    """
    try:
        if not path.is_file():
            raise UserError("no-such-file", f"{path}: no such file.")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        parser = _Parser()
        parser.feed(path.read_text(encoding="utf-8"))
        parser.close()
        documents = [cast(Any, json.loads(text)) for text in parser.documents]
        experiments = {str(document["name"]): cast(JsonObject, document) for document in documents}
    except OSError as error:
        raise UserError("unreadable-file", f"{path}: cannot be read: {error.strerror or error}.") from None
    except (
        ValueError,
        TypeError,
        KeyError,
        RecursionError,
        AssertionError,
    ) as error:  # the last one from the HTML parser
        if isinstance(error, UserError):
            raise
        experiments, parser = {}, _Parser()
    if not experiments:
        raise not_a_report(path)
    return Page(path, experiments, parser.rows)


def not_a_report(path: Path) -> UserError:
    """The error for a file that fathomlab did not write, or that another program changed."""
    message = f"{format_value(str(path))}: not a fathomlab report. Regenerate it with: fathomlab report"
    return UserError("not-a-report", message)


class _Parser(HTMLParser):
    """Extracts the JSON that a page embeds, and the rows with ids.

    Attributes:
        documents: The text of each script element with JSON.
        rows: Id of a row to the text of its cells by column.
    """

    def __init__(self) -> None:
        super().__init__()
        self.documents: list[str] = []
        self.rows: dict[str, dict[str, str]] = {}
        self._target: list[str] | None = None  # the texts to which that of the open element is added
        self._pieces: list[str] = []
        self._columns: list[str] = []
        self._cells: list[str] = []
        self._row = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "script" and attributes.get("type") == "application/json":
            self._open(self.documents)
        elif tag in ("table", "tr", "tbody"):
            self._end_row()
            self._columns = [] if tag == "table" else self._columns
            self._row = attributes.get("id") or "" if tag == "tr" else ""
        elif tag in ("td", "th"):
            self._open(self._columns if attributes.get("scope") == "col" else self._cells)

    def handle_data(self, data: str) -> None:
        if self._target is not None:
            self._pieces.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._end_row()
        elif tag == "script":
            self._open(None)

    def close(self) -> None:
        super().close()
        self._open(None)

    def _open(self, target: list[str] | None) -> None:
        """Add the text of the open element to its target, and begin another one."""
        if self._target is not None:
            self._target.append("".join(self._pieces))
        self._target, self._pieces = target, []

    def _end_row(self) -> None:
        self._open(None)
        if self._row and len(self._cells) == len(self._columns):
            texts = (text.strip() for text in self._cells)
            self.rows[self._row] = dict(zip(self._columns, texts, strict=True))
        self._cells = []
