"""`fathomlab export parquet`: four Parquet files with typed columns, for pandas, polars, and DuckDB."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, final

from fathomlab.base.libraries import library
from fathomlab.export.files import check_targets, open_target
from fathomlab.export.tables import TidyTable, tidy_tables

if TYPE_CHECKING:
    from fathomlab.analysis.study import Study

ROWS_PER_GROUP = 50_000


@final
@dataclass(frozen=True)
class Parquet:
    """Tables trials, curves, gradients, and verdicts as Parquet files in a directory, by default EXPERIMENT-parquet.

    Attributes:
        overwrite: Whether existing files may be replaced.
    """

    overwrite: bool = False

    extra: ClassVar[str] = "frames"
    subject: ClassVar[Literal["experiment"]] = "experiment"

    def export(self, study: "Study", target: Path | None) -> tuple[Path, ...]:
        """Write the four files; raises as `Exporter.export` does."""
        pyarrow = library("pyarrow"), library("pyarrow.parquet")
        folder = target or Path(f"{study.experiment.name}-parquet")
        tables = {folder / f"{table.name}.parquet": table for table in tidy_tables(study)}
        check_targets(list(tables), self.overwrite)
        for path, table in tables.items():
            with open_target(path) as file:
                _write(table, file, *pyarrow)
        return tuple(tables)


def _write(table: TidyTable, file: BinaryIO, pa: Any, parquet: Any) -> None:
    """Write a table in groups of rows, so that memory does not grow with the number of rows."""
    types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    schema = pa.schema([(column.name, types[column.kind]) for column in table.columns])
    rows = table.rows()
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, ROWS_PER_GROUP)):
            columns = zip(*group, strict=True)
            writer.write_table(pa.table([list(column) for column in columns], schema=schema))
