"""show: one trial, its curves and gradients as plots, and the command that repeats it."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathomlab.base.labels import count
from fathomlab.cli.complete import trial_hashes
from fathomlab.cli.options import Json, RunsFolder, output_width, print_json, print_table
from fathomlab.cli.plots import characters, text_plot

if TYPE_CHECKING:
    from fathomlab.base.codec import JsonObject
    from fathomlab.store.records import ProbeSnapshot, TrialRecord

PIPE_WIDTH, WIDEST_PLOT = 80, 100  # columns
MEMBERS_SHOWN = 3
LARGEST_WHOLE = 1e9  # a larger float is not shown in full

app = typer.Typer()


@app.command()
def show(
    trial: Annotated[
        str, typer.Argument(help="Beginning of the trial's hash, 4 or more digits.", autocompletion=trial_hashes)
    ],
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """Show one trial, and how to repeat it.

    Prints its result, curves, gradients, options, and provenance.
    """
    from fathomlab import api
    from fathomlab.analysis.tables import experiments_of, measured_numbers, trial_row
    from fathomlab.api.commands import run_command
    from fathomlab.store.reading import Store
    from fathomlab.store.records import ConditionRecord

    store = Store(runs or api.default_runs())
    record, members = store.trial(store.find(trial)), experiments_of(store)
    name, condition = next(iter(members.get(record.trial, ())), ("", ConditionRecord()))
    again = run_command(record.trial, store.experiment(name) if name else None, condition)
    row = trial_row(record, members)
    if as_json:
        print_json({**row, **_details(record), "command": again.command or None})
        return
    _print_result(record, row)
    _print_plots(record)
    print_table("Metrics", ("metric", "value"), [(key, _number(value)) for key, value in row["metrics"].items()])
    numbers = [pair for pair in measured_numbers(record).items() if pair[1] is not None]
    print_table("Test set and speed", ("quantity", "value"), [(key, _number(value)) for key, value in numbers])
    _print_measurements(record)
    print_table("Options", ("key", "value"), [(key, _text(value)) for key, value in row["config"].items()])
    print_table("Provenance", ("key", "value"), _provenance(record))
    if again.command:
        print(f"\nTrain it again with:\n  {again.command}")
    if again.note:
        print(f"{'' if again.command else chr(10)}{again.note}")


def _details(record: "TrialRecord") -> dict[str, Any]:
    """What `--json` prints in addition to the row of `list`. The gradients have a key of their own."""
    from fathomlab.analysis.tables import snapshot_row
    from fathomlab.base.codec import to_plain

    fields = {name: getattr(record, name) for name in ("cause", "seconds", "table_seconds", "curves")}
    fields |= {"outcome": to_plain(record.outcome), "speed": to_plain(record.speed)}
    snapshots = [snapshot_row("gradients", snapshot) for snapshot in record.probes.get("gradients", ())]
    probes = {
        name: {"title": probe.title, "snapshots": [snapshot_row(name, item, probe) for item in record.probes[name]]}
        for name, probe in record.descriptions.items()
        if name != "gradients"
    }
    return {**fields, "gradients": snapshots, "probes": probes, "provenance": record.provenance.to_json()}


def _print_result(record: "TrialRecord", row: "JsonObject") -> None:
    print(f"trial       {record.trial}")
    print(f"experiment  {row['experiment'] or '-'}")
    print(f"condition   {row['condition'] or '-'}, seed {row['seed']}")
    accuracy, seconds = record.metrics.get("test/accuracy"), record.seconds
    result = [record.status + (f": {record.cause}" if record.cause else "")]
    result += [] if accuracy is None else [f"test accuracy {100 * accuracy:.2f}%"]
    result += [] if record.parameters is None else [count(record.parameters, "parameter")]
    result += [] if seconds is None else [f"trained in {seconds:.1f} s"]
    print(f"result      {', '.join(result)}")


def _print_plots(record: "TrialRecord") -> None:
    """Loss and accuracy per epoch, and the gradient norms per layer at the first and the last snapshot."""
    width = min(output_width() or PIPE_WIDTH, WIDEST_PLOT)
    drawn_with = characters(getattr(sys.stdout, "encoding", None))
    epochs = [epoch for epoch in record.curves.get("epoch", ()) if epoch is not None]
    plots = [
        text_plot(
            kind.capitalize(),
            {name: record.curves[f"{name}/{kind}"] for name in ("train", "val") if f"{name}/{kind}" in record.curves},
            (f"epoch {epochs[0]}", f"epoch {epochs[-1]}") if epochs else ("", ""),
            width,
            drawn_with=drawn_with,
        )
        for kind in ("loss", "accuracy")
    ]
    if ends := _ends(record):
        layers = ends[0].names["layer"]
        series = {f"step {end.step}": end.columns["weight"] for end in ends}
        title = "Gradient norm of the weights per layer (log scale)"
        plots.append(text_plot(title, series, (layers[0], layers[-1]), width, log=True, drawn_with=drawn_with))
    for lines in filter(None, plots):
        print("\n" + "\n".join(lines))


def _ends(record: "TrialRecord") -> "list[ProbeSnapshot]":
    """The first and the last snapshot of the gradients."""
    snapshots = [item for item in record.probes.get("gradients", ()) if item.names.get("layer")]
    return [snapshots[0], snapshots[-1]] if len(snapshots) > 1 else list(snapshots)


def _print_measurements(record: "TrialRecord") -> None:
    """The curves, the gradient norms, and the other probes as tables."""
    names = list(record.curves)
    lines = zip(*record.curves.values(), strict=True)
    print_table("Curves", names, [[_number(value) for value in values] for values in lines])
    ends = _ends(record)
    for title, axis, column in (("weights", "layer", "weight"), ("activations", "point", "activation")):
        layers = enumerate(ends[0].names.get(axis, ()) if ends else ())
        rows = [[layer, *(_number(end.columns[column][index]) for end in ends)] for index, layer in layers]
        print_table(f"Gradient norms ({title})", ["layer", *(f"step {end.step}" for end in ends)], rows)
    for name, probe in record.descriptions.items():
        if name != "gradients":
            rows = [
                [str(item.step), str(item.epoch), *(_numbers(item.columns[column]) for column in probe.columns)]
                for item in record.probes[name]
            ]
            print_table(f"{name}: {probe.title}", ("step", "epoch", *probe.columns), rows)


def _provenance(record: "TrialRecord") -> list[tuple[str, str]]:
    """Where the numbers come from. Of the hashes of other trials, the beginnings of the first ones are shown."""
    from fathomlab.base.labels import flatten_keys

    fields = dict(flatten_keys(record.provenance.to_json()))
    if members := fields.get("pack.members"):
        more = f", and {len(members) - MEMBERS_SHOWN} more" if len(members) > MEMBERS_SHOWN else ""
        fields["pack.members"] = ", ".join(str(member)[:12] for member in members[:MEMBERS_SHOWN]) + more
    if resumed := fields.get("resumed"):
        fields["resumed"] = ", ".join(f"step {item['step']}" for item in resumed)
    return [(key, _text(value)) for key, value in fields.items()]


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
    whole = isinstance(value, int) or (value.is_integer() and abs(value) < LARGEST_WHOLE)
    return str(int(value)) if whole else f"{value:.5g}"
