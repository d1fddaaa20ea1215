"""list | show: what the store holds."""

import os
from typing import Annotated

import typer

from fathomlab.analysis.tables import experiments_of, trial_row, trial_rows
from fathomlab.base.problems import UserError
from fathomlab.cli.options import Json, RunsFolder, print_json
from fathomlab.config.plain import printable
from fathomlab.store.reading import Store

app = typer.Typer()


@app.command("list")
def list_trials(runs: RunsFolder = None, as_json: Json = False) -> None:
    """List every trial of the store."""
    from fathomlab import api

    if runs is not None and not os.path.isdir(runs):
        raise UserError("no-such-store", f"{runs}: is no folder of results.")
    rows = trial_rows(Store(runs or api.default_runs()))
    if as_json:
        print_json(rows)
        return
    for row in rows:
        accuracy = row["metrics"].get("test/accuracy")
        shown = f"{accuracy:.4f}" if accuracy is not None else "-"
        print(
            f"{row['trial'][:12]}  {row['status']:<9}  test {shown}  seed {row['seed']}  "
            f"{printable(str(row['condition']))}  {printable(str(row['experiment']))}"
        )
    if not rows:
        print("no trials yet")


@app.command()
def show(
    trial: Annotated[str, typer.Argument(help="The first four or more digits of a trial's hash.")],
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """Show one trial: options, every curve, gradients, provenance."""
    from fathomlab import api

    store = Store(runs or api.default_runs())
    record = store.trial(store.find(trial))
    row = trial_row(record, experiments_of(store))
    whole = row | {
        "cause": record.cause,
        "seconds": record.seconds,
        "curves": record.curves,
        "gradients": record.gradients,
        "provenance": record.provenance,
    }
    if as_json:
        print_json(whole)
        return
    print(f"trial {record.trial}\nstatus {record.status}" + (f": {record.cause}" if record.cause else ""))
    for key, value in [*row["config"].items(), *row["metrics"].items()]:
        print(f"  {printable(key)} = {printable(str(value))}")
