"""store check | repair | prune: maintenance of results."""

from typing import TYPE_CHECKING, Annotated

import typer

from fathomlab.base.labels import count
from fathomlab.cli.options import Json, RunsFolder, print_json

if TYPE_CHECKING:
    from fathomlab.store.maintenance import Change

app = typer.Typer(help="Check, repair, and clean up the results directory.", no_args_is_help=True)


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
    """Truncate incomplete logs, quarantine corrupted files, regenerate reports."""
    from fathomlab import api
    from fathomlab.store.maintenance import repair_store

    root = api.existing_runs(runs)
    with api.upkeep(root):
        changes = repair_store(root)
        names = api.rewrite_reports(root)
    _print_changes(changes, names, as_json)


@app.command()
def prune(
    runs: RunsFolder = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also remove unfinished trials.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also remove unreferenced trials.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also remove quarantined files.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove checkpoints of finished trials; optionally other files."""
    from fathomlab import api
    from fathomlab.store.maintenance import prune_store

    root = api.existing_runs(runs)
    with api.upkeep(root):
        changes = prune_store(root, unfinished, orphans, damaged, dry_run)
    _print_changes(changes, [], as_json)


def _print_changes(changes: "list[Change]", reports: list[str], as_json: bool) -> None:
    if as_json:
        done = [{"path": str(change.path), "did": change.action} | _freed(change) for change in changes]
        print_json({"done": done, "reports": reports})
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
