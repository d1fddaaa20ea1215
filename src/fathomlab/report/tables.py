"""Tables of a page, with a CSV download embedded in the page."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        name: File name of the CSV, without extension.
        columns: Headings, with units in parentheses.
        rows: One text per column.
        texts: Number of columns on the left that contain text.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1

    @property
    def csv(self) -> str:
        """The table as RFC 4180 CSV."""
        target = io.StringIO()
        csv.writer(target, lineterminator="\r\n").writerows([self.columns, *self.rows])
        return target.getvalue()

    @property
    def data_uri(self) -> str:
        """The CSV as a data URI."""
        return "data:text/csv;charset=utf-8," + quote(self.csv, ",;:/-_.~()*!+=@", errors="replace")


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> Table:
    """Make a table from any sequences."""
    return Table(name, tuple(columns), tuple(tuple(row) for row in rows), texts)
