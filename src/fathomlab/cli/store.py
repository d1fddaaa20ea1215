"""store check | repair | prune | merge | grade: maintenance of results."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathomlab.base.errors import UserError, format_value
from fathomlab.base.labels import count
from fathomlab.cli.options import Json, RunsFolder, print_json
from fathomlab.cli.store_grade import grade
from fathomlab.cli.store_merge import merge

if TYPE_CHECKING:
    from fathomlab.store.maintenance import Change

app = typer.Typer(help="Check, repair, merge, grade, and clean up results directories.", no_args_is_help=True)


@app.command()
def check(runs: RunsFolder = None, as_json: Json = False) -> None:
    """Verify every file. Exits with 1 if one is corrupted."""
    from fathomlab import api
    from fathomlab.store.maintenance import check_store

    result = check_store(api.existing_runs(runs))
    problems = result.problems
    if as_json:
        faults = [{"path": str(item.path), "problem": item.problem} for item in problems]
        print_json({"trials": result.trials, "files": result.files, "left_out": result.left_out, "faults": faults})
    else:
        for item in problems:
            print(f"{item.path}: {item.problem}")
        summary = count(len(problems), "problem") if problems else "no problems found"
        print(f"{count(result.trials, 'trial')}, {count(result.files, 'file')}: {summary}")
        if result.left_out:
            print(f"note: {count(result.left_out, 'file')} left out of the bundle on purpose: weights, images.")
        if result.outdated:
            print(f"{count(result.outdated, 'trial')} of an older store format: not verified, not reused.")
    if problems:
        raise typer.Exit(1)


@app.command()
def repair(runs: RunsFolder = None, as_json: Json = False) -> None:
    """Fix logs, quarantine corrupted files, rewrite reports."""
    from fathomlab import api
    from fathomlab.store.maintenance import repair_store

    root = api.existing_runs(runs)
    with api.upkeep(root):
        changes = repair_store(root)
        pages = api.write_reports(root)
    _print_changes(changes, pages, as_json)


@app.command()
def prune(
    runs: RunsFolder = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Remove only what was last written longer ago, such as 30d or 4w."
        ),
    ] = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also remove unfinished trials.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also remove trials of no experiment.")] = False,
    experiments: Annotated[
        bool,
        typer.Option("--experiments", help="Also remove experiments and their trials; needs --older-than."),
    ] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also remove quarantined files.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove checkpoints of finished trials.

    Options also remove trials, experiments, and quarantined files. --older-than limits what is removed, by age.
    """
    from fathomlab import api
    from fathomlab.store.pruning import Pruning, prune_store

    if experiments and older_than is None:
        raise UserError("invalid-option", "--experiments needs --older-than, such as --older-than 90d.")
    seconds = None if older_than is None else _seconds(older_than)
    options = Pruning(unfinished, orphans, damaged, experiments, seconds, dry_run)
    root = api.existing_runs(runs)
    with api.upkeep(root):
        changes = prune_store(root, options)
        if experiments and not dry_run:
            api.write_index(root)
    _print_changes(changes, [], as_json)
    if older_than is not None and not experiments and not as_json:
        print("Experiments and their finished trials stay. To remove old ones, too, add --experiments.")


app.command()(merge)
app.command()(grade)


def _seconds(age: str) -> float:
    """The seconds of a number of days or weeks.

    Raises:
        UserError: If it is not one.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,4})([dw])", age.strip().lower())
    if match is None:
        text = f"--older-than must be a number of days or weeks, such as 30d or 4w, got {format_value(age)}."
        raise UserError("invalid-option", text)
    return int(match[1]) * {"d": 86_400.0, "w": 604_800.0}[match[2]]


def _print_changes(changes: "list[Change]", reports: "Sequence[Path]", as_json: bool) -> None:
    if as_json:
        done = [{"path": str(change.path), "did": change.action} | _freed(change) for change in changes]
        print_json({"done": done, "reports": [str(path) for path in reports]})
        return
    for change in changes:
        print(f"{change.path}: {change.action}")
    size = sum(change.size or 0 for change in changes)
    print(
        f"{count(len(changes), 'change')}"
        + (f", {size / 1e6:.1f} MB" if size else "")
        + (f", {count(len(reports), 'report')} written" if reports else "")
    )


def _freed(change: "Change") -> dict[str, int]:
    return {} if change.size is None else {"bytes": change.size}
