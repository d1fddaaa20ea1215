"""doctor: what fathomlab runs on, and what prevents training."""

import shutil
import sys
import textwrap
from dataclasses import asdict

import typer

from fathomlab.base.labels import count
from fathomlab.cli.options import Json, RunsFolder, print_json

NARROWEST = 50  # columns
INDENT = 32

app = typer.Typer()


@app.command()
def doctor(runs: RunsFolder = None, as_json: Json = False) -> None:
    """Check what training needs on this computer. Exits with 1 on a problem."""
    from fathomlab.api.doctor import examine
    from fathomlab.api.stores import default_runs

    stream = sys.stdout
    checks = list(examine(runs or default_runs(), getattr(stream, "encoding", None), stream.isatty()))
    problems = [check for check in checks if check.status == "problem"]
    if as_json:
        print_json({"problems": len(problems), "checks": [asdict(check) for check in checks]})
    else:
        topic = ""
        for check in checks:
            if check.topic != topic:
                topic = check.topic
                print(topic if check is checks[0] else f"\n{topic}")
            _print(f"  {check.status:<7}  {check.name:<20} ", check.value)
            if check.remedy:
                _print(" " * INDENT, check.remedy)
        summary = f"{count(len(problems), 'problem')} found." if problems else "No problems found."
        print(f"\n{summary}")
    if problems:
        raise typer.Exit(1)


def _print(first: str, text: str) -> None:
    """Print a text that is wrapped to the terminal, with the following lines below its beginning."""
    width = max(NARROWEST, shutil.get_terminal_size((100, 24)).columns)
    lines = textwrap.wrap(text, width - len(first), break_long_words=False, break_on_hyphens=False)
    print(first + f"\n{' ' * len(first)}".join(lines))
