"""Tables that are shown and can be taken along as CSV inside the page itself."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        name: Of the file when it is saved, without its ending.
        columns: Headings; those that begin a row of numbers carry their unit.
        rows: One text for each column.
        texts: How many columns at the left hold text rather than numbers.
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
        """The CSV as an address that needs no server."""
        return "data:text/csv;charset=utf-8," + quote(self.csv, ",;:/-_.~()*!+=@", errors="replace")


def table(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> Table:
    """A table from any sequences."""
    return Table(name, tuple(columns), tuple(tuple(row) for row in rows), texts)
