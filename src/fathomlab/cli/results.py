"""list | show: trials in the store."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathomlab.base.errors import UserError, unknown_name
from fathomlab.base.labels import count
from fathomlab.base.output import escape_control_chars
from fathomlab.cli.options import Json, RunsFolder, print_json, print_table

if TYPE_CHECKING:
    from fathomlab.store.records import ProbeSnapshot

app = typer.Typer()


@app.command("list")
def list_trials(
    experiment: Annotated[
        str | None, typer.Argument(help="Experiment: a name or its beginning, a file, or a bundled one [default: all].")
    ] = None,
    statuses: Annotated[
        list[str] | None, typer.Option("--status", help="Only trials with this status; may be repeated.")
    ] = None,
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """List the trials in the results directory by experiment, condition, and seed."""
    from fathomlab import api
    from fathomlab.analysis.tables import trial_rows
    from fathomlab.store.reading import Store
    from fathomlab.store.records import STATUSES

    if runs is not None and not os.path.isdir(runs):
        raise UserError("no-such-store", f"{runs}: not a results directory.")
    for problem in filter(None, (unknown_name("status", status, STATUSES) for status in statuses or ())):
        raise UserError("invalid-option", f"--status: {problem}")
    store = Store(runs or api.default_runs())
    name = api.find_experiment(store, experiment) if experiment is not None else None
    rows = trial_rows(store, name, statuses or ())
    if as_json:
        print_json(rows)
        return
    for row in rows:
        accuracy = row["metrics"].get("test/accuracy")
        shown = f"{100 * accuracy:.2f}%" if accuracy is not None else "-"
        print(
            f"{row['trial'][:12]}  {row['status']:<9}  test {shown:>7}  seed {row['seed']}  "
            f"{escape_control_chars(row['condition'] or '-')}  {escape_control_chars(row['experiment'] or '-')}"
        )
    if not rows:
        print("No trials yet." if experiment is None and not statuses else "No such trials.")
    if outdated := sum(row["status"] == "outdated" for row in rows):
        print(f"{count(outdated, 'trial')} of an older store format: not reused. Run the experiment again.")


@app.command()
def show(
    trial: Annotated[str, typer.Argument(help="Trial hash or a unique prefix (4+ characters).")],
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """Show one trial: options, metrics, curves, probes, and provenance."""
    from fathomlab import api
    from fathomlab.analysis.tables import experiments_of, snapshot_row, trial_row
    from fathomlab.base.labels import flatten_keys
    from fathomlab.store.reading import Store

    store = Store(runs or api.default_runs())
    record = store.trial(store.find(trial))
    row, gradients = trial_row(record, experiments_of(store)), record.probes.get("gradients", ())
    if as_json:
        fields = {name: getattr(record, name) for name in ("cause", "seconds", "curves")}
        snapshots = [snapshot_row("gradients", snapshot) for snapshot in gradients]
        probes = {
            name: {"title": probe.title, "snapshots": [snapshot_row(name, item, probe) for item in record.probes[name]]}
            for name, probe in record.descriptions.items()
        }
        provenance = record.provenance.to_json()
        print_json({**row, **fields, "gradients": snapshots, "probes": probes, "provenance": provenance})
        return
    print(f"trial {record.trial}\nstatus {record.status}" + (f": {record.cause}" if record.cause else ""))
    print(f"experiment {row['experiment'] or '-'}\ncondition {row['condition'] or '-'}")
    print_table("Options", ("key", "value"), [(key, _text(value)) for key, value in row["config"].items()])
    print_table("Metrics", ("metric", "value"), [(key, _number(value)) for key, value in row["metrics"].items()])
    names = list(record.curves)
    print_table(
        "Curves", names, [[_number(value) for value in values] for values in zip(*record.curves.values(), strict=True)]
    )
    _print_gradients(gradients)
    for name, probe in record.descriptions.items():
        if name != "gradients":
            rows = [
                [str(item.step), str(item.epoch), *(_numbers(item.columns[column]) for column in probe.columns)]
                for item in record.probes[name]
            ]
            print_table(f"{name}: {probe.title}", ("step", "epoch", *probe.columns), rows)
    print_table(
        "Provenance",
        ("key", "value"),
        [(key, _text(value)) for key, value in flatten_keys(record.provenance.to_json()).items()],
    )


def _print_gradients(snapshots: Sequence["ProbeSnapshot"]) -> None:
    """Norms per layer at the first and the last snapshot."""
    if not snapshots:
        return
    ends = [snapshots[0], snapshots[-1]] if len(snapshots) > 1 else [snapshots[0]]
    for title, axis, column in (("weights", "layer", "weight"), ("activations", "point", "activation")):
        headings = ["layer", *(f"step {snapshot.step}" for snapshot in ends)]
        layers = enumerate(ends[0].names[axis])
        rows = [[layer, *(_number(end.columns[column][index]) for end in ends)] for index, layer in layers]
        print_table(f"Gradient norms ({title})", headings, rows)


def _text(value: Any) -> str:
    """A value for a table, as an experiment file spells it."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)


def _numbers(values: Sequence[Any]) -> str:
    """The number of a snapshot, or the smallest and the largest of several."""
    known = [value for value in values if value is not None]
    if len(values) == 1 or not known:
        return _number(values[0] if values else None)
    return f"{_number(min(known))} to {_number(max(known))}"


def _number(value: Any) -> str:
    """A number for a table: integers in full, others with five significant digits."""
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) and not value.is_integer() else f"{value:g}"
