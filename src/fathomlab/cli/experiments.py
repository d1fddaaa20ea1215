"""plan | run | report: from a question to its page."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from fathomlab.base.problems import UserError
from fathomlab.cli.options import Device, File, Json, Overrides, Progress, Quick, RunsFolder, Workers, count, print_json
from fathomlab.store.reading import Store

app = typer.Typer()


@app.command()
def plan(
    file: File, overrides: Overrides = None, quick: Quick = False, runs: RunsFolder = None, as_json: Json = False
) -> None:
    """Say what an experiment needs: trials, how many are in the store, cost. Trains nothing."""
    from fathomlab import api
    from fathomlab.run import cost, provenance
    from fathomlab.run.experiment import experiment_name, form_packs, unfinished, worker_count
    from fathomlab.run.resolve import recipe

    planned = api.load(file, overrides or [], quick)
    store = Store(runs or api.default_runs())
    todo = unfinished(planned, store)
    root = runs or api.default_runs()
    device = provenance.likely_device("auto")
    groups = form_packs(planned, todo, root, device, worker_count("auto", len(todo), device))
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
        print_json(document)
        return
    from fathomlab.run.progress import duration

    compiled = f" ({document['compiled_packs']} compiled)" if document["compiled_packs"] else ""
    print(
        f"{count(document['trials'], 'trial')} ({count(document['conditions'], 'condition')} x "
        f"{count(document['seeds'], 'seed')}), {document['cached']} cached, {len(todo)} to run in "
        f"{count(len(groups), 'pack')}{compiled}, about {duration(estimate['seconds'])} ({estimate['basis']})"
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
    workers: Workers = "auto",
    device: Device = "auto",
    progress: Progress = "auto",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another fathomlab that trains into the store.")
    ] = False,
    allow_drift: Annotated[
        bool,
        typer.Option("--allow-drift", help="Go on with trials begun under another torch, processor, device or code."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train what the experiment needs and the store does not have, and write its report."""
    from fathomlab import api
    from fathomlab.run.progress import MODES

    if progress not in MODES:
        raise UserError(f"--progress should be one of {', '.join(MODES)} (got {progress!r}).")
    planned = api.load(file, overrides or [], quick)
    how: dict[str, Any] = {"device": device, "workers": workers, "wait": wait, "allow_drift": allow_drift}
    results = api.run(planned, runs=runs, progress=progress, **how)
    summary = results.summary
    for notice in planned.notices:
        print(f"note: {notice}", file=sys.stderr)
    if as_json:
        print_json({**asdict(summary), "report": str(results.report), "seconds": round(summary.seconds, 3)})
    else:
        print(
            f"{count(summary.trials, 'trial')}: {summary.trained} trained, {summary.cached} cached, "
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
        print_json({"reports": written, "index": index})
    else:
        print("\n".join([*(f"report: {path}" for path in written), f"index: {index}"]))
