"""Shared by the commands: options with their help, counts, JSON and tables on standard output."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathomlab.base.errors import UserError

if TYPE_CHECKING:
    from fathomlab.execute.progress import Mode

File = Annotated[str, typer.Argument(help="Experiment file, or the name of a bundled one (e.g. 1_2).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Override, key.path=value. A list (a,b) or range (0..9) becomes a factor."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
RunsFolder = Annotated[
    Path | None, typer.Option("--runs", help="Results directory [default: $FATHOMLAB_RUNS or ./runs].")
]
Quick = Annotated[bool, typer.Option("--quick", help="Apply the file's `quick` overrides for a fast trial run.")]
Device = Annotated[str, typer.Option(help="auto, cpu, or cuda.")]
Workers = Annotated[str, typer.Option(help="Number of worker processes, or auto (one per core).")]
Progress = Annotated[str, typer.Option(help="Progress on standard error: auto, rich, plain, json, or off.")]


def check_progress(name: str) -> "Mode":
    """The value of `--progress`.

    Raises:
        UserError: If there is no such mode.
    """
    from fathomlab.execute.progress import MODES

    if name not in MODES:
        raise UserError("invalid-option", f"--progress must be one of {', '.join(MODES)}, got {name!r}.")
    return name


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document, indent=1, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns; nothing if it has no rows."""
    if not rows:
        return
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    print(f"\n{title}")
    for row in (columns, *rows):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
