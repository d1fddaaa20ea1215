"""Tables of a page, with a CSV download embedded in the page."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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

    def parts(self, starts: Sequence[str]) -> list["Table"]:
        """The table in parts that fit on a page without scrolling: each has the first column, and new ones begin at `starts`."""
        cuts = [1, *(self.columns.index(start) for start in starts), len(self.columns)]
        return [self._part([0, *range(first, last)]) for first, last in pairwise(cuts)]

    def _part(self, indices: Sequence[int]) -> "Table":
        columns = tuple(self.columns[index] for index in indices)
        rows = tuple(tuple(row[index] for index in indices) for row in self.rows)
        return Table(self.name, columns, rows, sum(index < self.texts for index in indices))

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
