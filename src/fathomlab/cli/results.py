"""list | show: experiments and trials in the store."""

import itertools
import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fathomlab.base.errors import UserError, unknown_name
from fathomlab.base.labels import count
from fathomlab.base.output import escape_control_chars
from fathomlab.cli.complete import experiments, statuses_of_trials
from fathomlab.cli.options import Json, RunsFolder, print_json, print_table

if TYPE_CHECKING:
    from fathomlab.analysis.tables import ExperimentRow
    from fathomlab.base.codec import JsonObject
    from fathomlab.store.reading import Store

app = typer.Typer()


@app.command("list")
def list_results(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="List the trials of this experiment: a name or its beginning, a file, or a bundled one.",
            autocompletion=experiments,
        ),
    ] = None,
    trials: Annotated[bool, typer.Option("--trials", help="List the trials of all experiments.")] = False,
    statuses: Annotated[
        list[str] | None,
        typer.Option(
            "--status", help="Only trials with this status; may be repeated.", autocompletion=statuses_of_trials
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only experiments with this tag.")] = None,
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """List experiments, or the trials of one. The newest is last. --json lists trials."""
    from fathomlab import api
    from fathomlab.store.reading import Store
    from fathomlab.store.records import STATUSES

    if runs is not None and not os.path.isdir(runs):
        raise UserError("no-such-store", f"{runs}: not a results directory.")
    for problem in filter(None, (unknown_name("status", status, STATUSES) for status in statuses or ())):
        raise UserError("invalid-option", f"--status: {problem}")
    store = Store(runs or api.default_runs())
    if experiment is None and not (trials or statuses or as_json):
        _print_experiments(store, tag, "" if runs is None else f" --runs {shlex.quote(str(runs))}")
        return
    from fathomlab.analysis.tables import trial_rows

    name = store.readable(api.find_experiment(store, experiment)).name if experiment is not None else None
    rows = trial_rows(store, name, statuses or (), tag)
    print_json(rows) if as_json else _print_trials(rows, named=name is not None)


def _print_experiments(store: "Store", tag: str | None, runs: str) -> None:
    """Print a table of the experiments, and commands for their trials with the option `runs`."""
    from fathomlab.analysis.tables import experiment_rows

    rows = [
        [
            escape_control_chars(row.record.name),
            _date(row.record.created),
            _counts(row),
            "quick" if row.record.quick else "",
            escape_control_chars(", ".join(row.record.tags)),
        ]
        for row in experiment_rows(store, tag)
    ]
    columns = [column for column in range(5) if column < 3 or any(row[column] for row in rows)]
    headings = ("experiment", "first run", "trials", "quick", "tags")
    if not rows:
        start = f"No experiments in {store.root}. Start with: fathomlab run 1_2 --quick"
        print("No experiments with this tag." if tag else start)
    print_table("", [headings[column] for column in columns], [[row[column] for column in columns] for row in rows])
    if rows:
        print(f"\nList trials with: fathomlab list {rows[-1][0]}{runs}")
    known = {pair.trial for record in store.experiments() for item in record.conditions for pair in item.trials}
    if tag is None and (others := sum(trial not in known for trial in store.trials())):
        print(f"{count(others, 'trial')} of no readable experiment. List them with: fathomlab list --trials{runs}")


def _date(created: str) -> str:
    """Local date of an ISO 8601 text."""
    try:
        return datetime.fromisoformat(created).astimezone().strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "-"


def _counts(row: "ExperimentRow") -> str:
    """Trials by status, or what is wrong with the record."""
    if row.record.cause is not None:
        return "outdated" if row.record.outdated else "damaged"
    return ", ".join(f"{number} {status}" for status, number in row.statuses.items()) or "none"


def _print_trials(rows: "Sequence[JsonObject]", named: bool) -> None:
    """A table per experiment; without its name if it was named."""
    for experiment, group in itertools.groupby(rows, lambda row: row["experiment"]):
        cells: list[list[str]] = []
        for row in group:
            accuracy = row["metrics"].get("test/accuracy")
            shown = f"{100 * accuracy:8.2f}" if accuracy is not None else f"{'-':>8}"
            condition = escape_control_chars(row["condition"] or "-")
            cells.append([row["trial"][:12], row["status"], shown, str(row["seed"]), condition])
        title = "" if named else escape_control_chars(experiment or "no experiment")
        print_table(title, ("trial", "status", "test (%)", "seed", "condition"), cells)
    if not rows:
        print("No such trials.")
    if outdated := sum(row["status"] == "outdated" for row in rows):
        print(f"{count(outdated, 'trial')} of an older store format: not reused. Run the experiment again.")
