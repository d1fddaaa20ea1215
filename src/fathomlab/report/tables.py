"""Tables of a page, with a CSV download embedded in the page."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from urllib.parse import quote

MAX_ROWS = 500  # more are not read on a page, and make it slow to open


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        name: File name of the CSV, without extension.
        columns: Headings, with units in parentheses.
        rows: One text per column.
        texts: Number of columns on the left that contain text.
        sparse: Whether parts leave out the rows in which they have no text.
        left_out: What the table of a large experiment leaves out, as a sentence; "" if it is complete.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    sparse: bool = False
    left_out: str = ""

    def limited(self, rows: int = 0) -> "Table":
        """The table, or its first rows if it has more than `rows` (0 for `MAX_ROWS`). The name of its CSV then says so."""
        limit = rows or MAX_ROWS
        if len(self.rows) <= limit:
            return self
        text = " ".join(filter(None, (self.left_out, f"The first {limit:,} of {len(self.rows):,} rows.")))
        return replace(self, name=f"{self.name}-first-{limit}", rows=self.rows[:limit], left_out=text)

    def parts(self, starts: Sequence[str]) -> list["Table"]:
        """The table in parts that fit on a page without scrolling: each has the first column, and new ones begin at `starts`."""
        cuts = [1, *(self.columns.index(start) for start in starts if start in self.columns), len(self.columns)]
        return [self._part([0, *range(first, last)]) for first, last in pairwise(cuts)]

    def _part(self, indices: Sequence[int]) -> "Table":
        columns = tuple(self.columns[index] for index in indices)
        rows = tuple(tuple(row[index] for index in indices) for row in self.rows)
        if self.sparse:
            rows = tuple(row for row in rows if any(row[1:])) or rows
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


def compact(table: Table) -> Table:
    """The table without columns that are empty in all rows, whose parts leave out rows without a text.

    Example:
        >>> compact(Table("t", ("network", "placebo", "gain"), (("a", "", ""), ("b", "", "1")))).columns
        ('network', 'gain')
    """
    kept = [index for index in range(len(table.columns)) if index == 0 or any(row[index] for row in table.rows)]
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
    columns = tuple(table.columns[index] for index in kept)
    return Table(table.name, columns, rows, sum(index < table.texts for index in kept), True, table.left_out)


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> Table:
    """Make a table from any sequences."""
    return Table(name, tuple(columns), tuple(tuple(row) for row in rows), texts)
