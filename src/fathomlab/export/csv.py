"""`fathomlab export csv`: four CSV files with a header, UTF-8, for spreadsheets, R, and data frames."""

import codecs
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, final

from fathomlab.export.files import check_targets, open_target
from fathomlab.export.tables import Cell, tidy_tables

if TYPE_CHECKING:
    from fathomlab.analysis.study import Study


@final
@dataclass(frozen=True)
class Csv:
    """Tables trials, curves, gradients, and verdicts as CSV files in a directory, by default EXPERIMENT-csv.

    Numbers have as many digits as they need to be read back exactly. Null is an empty cell.

    Attributes:
        overwrite: Whether existing files may be replaced.
    """

    overwrite: bool = False

    extra: ClassVar[str] = ""
    subject: ClassVar[Literal["experiment"]] = "experiment"

    def export(self, study: "Study", target: Path | None) -> tuple[Path, ...]:
        """Write the four files; raises as `Exporter.export` does."""
        folder = target or Path(f"{study.experiment.name}-csv")
        tables = {folder / f"{table.name}.csv": table for table in tidy_tables(study)}
        check_targets(list(tables), self.overwrite)
        for path, table in tables.items():
            with open_target(path) as file:
                writer = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\r\n")
                writer.writerow(column.name for column in table.columns)
                writer.writerows(_texts(table.rows()))
        return tuple(tables)


def _texts(rows: Iterable[tuple[Cell, ...]]) -> Iterator[list[Cell]]:
    """Rows with booleans as `true` and `false`, which both pandas and polars read."""
    for row in rows:
        yield [str(cell).lower() if isinstance(cell, bool) else cell for cell in row]
