"""Shared by the commands: options with their help, counts, JSON and tables on standard output."""

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathomlab.base.errors import UserError
from fathomlab.cli.complete import experiment_files

if TYPE_CHECKING:
    from fathomlab.execute.modes import Mode

NARROWEST = 16  # columns of wrapped text

File = Annotated[
    str,
    typer.Argument(help="Experiment file, or the name of a bundled one (e.g. 1_2).", autocompletion=experiment_files),
]
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
Executor = Annotated[
    str | None, typer.Option("--executor", help="Where workers run: auto, inline, local, ray, or slurm.")
]
Progress = Annotated[str, typer.Option(help="Progress on standard error: auto, rich, plain, json, or off.")]


def check_progress(name: str) -> "Mode":
    """The value of `--progress`.

    Raises:
        UserError: If there is no such mode.
    """
    from fathomlab.execute.modes import MODES

    if name not in MODES:
        raise UserError("invalid-option", f"--progress must be one of {', '.join(MODES)}, got {name!r}.")
    return name


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document, indent=1, allow_nan=False))


def output_width() -> int | None:
    """Columns of the terminal; None if standard output is not one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns, indented below its title; nothing if it has no rows.

    In a terminal, a table that is too wide continues below with its first column. Long cells of the last column are wrapped.
    """
    if not rows:
        return
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    longest_word = max(len(word) for row in (columns, *rows) for word in row[-1].split() or [""])
    limit, indent = output_width(), "  " if title else ""
    if title:
        print(f"\n{title}")
    for group in _column_groups(widths, longest_word, limit and limit - len(indent)):
        for row in (columns, *rows):
            line = indent + "  ".join(row[index].ljust(widths[index]) for index in group)
            start = len(indent) + sum(widths[index] + 2 for index in group[:-1])
            cells = [line[start:]]
            if limit and len(line.rstrip()) > limit:
                cells = textwrap.wrap(line[start:], max(NARROWEST, limit - start), break_on_hyphens=False)
            print(f"\n{' ' * start}".join([line[:start] + cells[0].rstrip(), *cells[1:]]).rstrip())


def _column_groups(widths: Sequence[int], longest_word: int, limit: int | None) -> list[list[int]]:
    """The columns that are printed next to each other: as many as fit, each group with the first one.

    The last column needs the width of its longest word, because its cells are wrapped.
    """
    groups = [[0]]
    for index in range(1, len(widths)):
        needed = max(longest_word, NARROWEST) if index == len(widths) - 1 else widths[index]
        width = sum(widths[other] + 2 for other in groups[-1]) + min(needed, widths[index])
        if limit is not None and width > limit and len(groups[-1]) > 1:
            groups.append([0])
        groups[-1].append(index)
    return groups
