"""What the commands share: options with their help, counts in words, JSON on stdout."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

File = Annotated[str, typer.Argument(help="Experiment file, or the number of one of the laboratory's, such as 1_2.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.path=value; a comma or a range such as 0..9 makes a factor.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
RunsFolder = Annotated[Path | None, typer.Option("--runs", help="The store. Default: FATHOMLAB_RUNS, or ./runs.")]
Quick = Annotated[bool, typer.Option("--quick", help="Lay the file's quick section over the rest: about a minute.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Workers = Annotated[str, typer.Option(help="Worker processes: a number, or auto for one a core.")]
Progress = Annotated[str, typer.Option(help="auto, rich, plain, json or off; on stderr.")]


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 trial, 2 trials."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(document, indent=1, allow_nan=False))
