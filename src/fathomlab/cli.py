"""The commands: plan | run | report | list | show | data. Each with --json prints one JSON document on stdout."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fathomlab.analysis.tables import experiments_of, trial_row, trial_rows
from fathomlab.base.problems import UserError
from fathomlab.store.reading import Store

app = typer.Typer(
    name="fathomlab",
    help="Controlled questions about deep networks: plan, train, measure, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Data sets: what is here, and how to get what is not.", no_args_is_help=True)
app.add_typer(data_app, name="data")

File = Annotated[str, typer.Argument(help="Experiment file, or the number of one of the laboratory's, such as 1_2.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="key.path=value; a comma or a range such as 0..9 makes a factor.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
RunsFolder = Annotated[Path | None, typer.Option("--runs", help="The store. Default: FATHOMLAB_RUNS, or ./runs.")]
Quick = Annotated[bool, typer.Option("--quick", help="Lay the file's quick section over the rest: about a minute.")]


@app.command()
def plan(
    file: File, overrides: Overrides = None, quick: Quick = False, runs: RunsFolder = None, as_json: Json = False
) -> None:
    """Say what an experiment needs: trials, how many are in the store, cost. Trains nothing."""
    from fathomlab import api
    from fathomlab.run import cost
    from fathomlab.run.experiment import experiment_name, form_packs, unfinished, worker_count
    from fathomlab.run.resolve import recipe

    planned = api.load(file, overrides or [], quick)
    store = Store(runs or api.default_runs())
    todo = unfinished(planned, store)
    groups = form_packs(planned, todo)
    like = [trial for trial in planned.trials if trial not in set(todo)]
    seconds = {trial: store.trial(trial.hash).seconds for trial in like[:50]}
    measured = cost.rate({"flops": cost.flops(trial), "seconds": taken} for trial, taken in seconds.items())
    estimate = cost.estimate(todo, measured, worker_count("auto", len(groups)))
    document = {
        "experiment": experiment_name(planned),
        "trials": len(planned.trials),
        "cached": len(planned.trials) - len(todo),
        "packs": len(groups),
        "compiled_packs": sum(
            cost.compiling_pays([recipe(trial) for trial in group], cost.training_images(group[0])) for group in groups
        ),
        "conditions": len(planned.conditions),
        "seeds": len(planned.seeds),
        "factors": {key: list(levels) for key, levels in planned.factors.items()},
        "labels": [condition.label for condition in planned.conditions],
        "seed_list": list(planned.seeds),
        "claims": [claim.name for claim in planned.loaded.file.claims],
        "notices": list(planned.notices),
        "estimate": estimate,
    }
    if as_json:
        _print_json(document)
        return
    from fathomlab.run.progress import duration

    compiled = f" ({document['compiled_packs']} compiled)" if document["compiled_packs"] else ""
    print(
        f"{_count(document['trials'], 'trial')} ({_count(document['conditions'], 'condition')} x "
        f"{_count(document['seeds'], 'seed')}), {document['cached']} cached, {len(todo)} to run in "
        f"{_count(len(groups), 'pack')}{compiled}, about {duration(estimate['seconds'])} ({estimate['basis']})"
    )
    for condition in planned.conditions:
        print(f"  {condition.label}")
    for notice in planned.notices:
        print(f"note: {notice}")


@app.command()
def run(
    file: File,
    overrides: Overrides = None,
    quick: Quick = False,
    runs: RunsFolder = None,
    workers: Annotated[str, typer.Option(help="Worker processes: a number, or auto for one a core.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    progress: Annotated[str, typer.Option(help="auto, rich, plain, json or off; on stderr.")] = "auto",
    as_json: Json = False,
) -> None:
    """Train what the experiment needs and the store does not have, and write its report."""
    from fathomlab import api
    from fathomlab.run.progress import MODES

    if progress not in MODES:
        raise UserError(f"--progress should be one of {', '.join(MODES)} (got {progress!r}).")
    planned = api.load(file, overrides or [], quick)
    results = api.run(planned, runs=runs, device=device, workers=workers, progress=progress)
    summary = results.summary
    for notice in planned.notices:
        print(f"note: {notice}", file=sys.stderr)
    if as_json:
        _print_json({**asdict(summary), "report": str(results.report), "seconds": round(summary.seconds, 3)})
    else:
        print(
            f"{_count(summary.trials, 'trial')}: {summary.trained} trained, {summary.cached} cached, "
            f"{summary.failed} failed, {summary.seconds:.0f} s\nreport: {results.report}"
        )
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def report(
    experiment: Annotated[
        str | None, typer.Argument(help="An experiment's name, as the list shows it; all where it is not given.")
    ] = None,
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """Write the reports again from the store, and the index page."""
    from fathomlab import api
    from fathomlab.report.page import write_index

    root = runs or api.default_runs()
    store = Store(root)
    names = [experiment] if experiment else [record.name for record in store.experiments()]
    if not names:
        raise UserError(f"{root}: holds no experiment. Run one first: fathomlab run 1_2 --quick")
    written = [str(api.write_reports(root, name)) for name in names]
    index = str(write_index(store))
    if as_json:
        _print_json({"reports": written, "index": index})
    else:
        print("\n".join([*(f"report: {path}" for path in written), f"index: {index}"]))


@app.command("list")
def list_trials(runs: RunsFolder = None, as_json: Json = False) -> None:
    """List every trial of the store."""
    from fathomlab import api

    if runs is not None and not runs.is_dir():
        raise UserError(f"{runs}: is no folder of results.")
    rows = trial_rows(Store(runs or api.default_runs()))
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        accuracy = row["metrics"].get("test/accuracy")
        shown = f"{accuracy:.4f}" if accuracy is not None else "-"
        print(
            f"{row['trial'][:12]}  {row['status']:<9}  test {shown}  seed {row['seed']}  {row['condition']}  {row['experiment']}"
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
        _print_json(whole)
        return
    print(f"trial {record.trial}\nstatus {record.status}" + (f": {record.cause}" if record.cause else ""))
    for key, value in [*row["config"].items(), *row["metrics"].items()]:
        print(f"  {key} = {value}")


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """Say which data sets are here, where, and how to get what is not."""
    from fathomlab import data

    rows = data.status()
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        where = f"{row['folder']} ({row['bytes'] / 1e6:.0f} MB)" if row["folder"] else "comes with fathomlab"
        print(f"{row['name']:<14} {row['state']:<10} {where if row['present'] else row['remedy']}")


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="A data set, as the list shows it.")], as_json: Json = False
) -> None:
    """Fetch a data set, check every file, and put it into the data folder."""
    from fathomlab import data

    folder = data.download(name)
    if as_json:
        _print_json({"name": name, "folder": str(folder)})
    else:
        print(f"{name}: {folder}")


@data_app.command("import")
def data_import(
    folder: Annotated[Path, typer.Argument(help="What torchvision or Keras has left.")], as_json: Json = False
) -> None:
    """Take data sets over from a folder, after checking every file; nothing in it is executed."""
    from fathomlab import data

    imported = data.import_folder(folder)
    if as_json:
        _print_json([{key: str(value) for key, value in asdict(entry).items()} for entry in imported])
        return
    for entry in imported:
        print(entry)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 1 when trials failed, 2 for a user's mistake, 130 when stopped."""
    sys.exit(_guarded(lambda: app(arguments, standalone_mode=False)))


def laboratory(arguments: list[str] | None = None) -> int:
    """The seed's command: `main.py --experiment 1_1 [--device D] [key=value ...]`; all options of `run` are taken."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    place = next((place for place, word in enumerate(given) if word.split("=")[0] == "--experiment"), None)
    _, equals, name = given[place].partition("=") if place is not None else ("", "", "")
    if place is not None and not equals:
        name = "".join(given[place + 1 : place + 2])
    if place is not None and name:
        rest = given[place + 1 :] if equals else given[place + 2 :]
        words = ["run", name, *given[:place], *rest]
        return _guarded(lambda: app(words, standalone_mode=False))
    if given[:1] in (["--help"], ["-h"]):
        print("usage: python main.py --experiment 1_1 [--device auto|cpu|cuda] [--quick] [key=value ...]")
        return 0
    print("--experiment is missing. Example: python main.py --experiment 1_1", file=sys.stderr)
    return 2


def _guarded(command: Callable[[], Any]) -> int:
    try:
        status = command()
        if status == 130:  # what typer makes of Ctrl-C, without a word
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except typer.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("stopped; finished trials are kept, the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None or not hasattr(error, "exit_code"):
            raise
        show()
        return int(getattr(error, "exit_code", 2))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=1, allow_nan=False))
