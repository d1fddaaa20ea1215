"""run | verify | report: from a question to its verdicts and its page."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from fathomlab.base.problems import UserError
from fathomlab.cli.options import Device, File, Json, Overrides, Progress, Quick, RunsFolder, Workers, count, print_json
from fathomlab.run.signals import Stopped
from fathomlab.store.reading import Store

app = typer.Typer()


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
    extend: Annotated[
        bool, typer.Option("--extend", help="Add the seeds that undecided claims still need, look by look.")
    ] = False,
    budget: Annotated[int, typer.Option(help="Seeds in all that --extend may reach.")] = 30,
    as_json: Json = False,
) -> None:
    """Train what the experiment needs and the store does not have, and write its report."""
    from fathomlab import api
    from fathomlab.run.progress import MODES

    if progress not in MODES:
        raise UserError("invalid-option", f"--progress should be one of {', '.join(MODES)} (got {progress!r}).")
    planned = api.load(file, overrides or [], quick)
    how: dict[str, Any] = {"device": device, "workers": workers, "wait": wait, "allow_drift": allow_drift}
    try:
        results = api.run(planned, runs=runs, progress=progress, max_seeds=budget if extend else None, **how)
    except Stopped as stopped:  # typer makes 130 of each KeyboardInterrupt, whichever signal it was
        raise typer.Exit(128 + stopped.signum) from None
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
def verify(
    file: File, overrides: Overrides = None, quick: Quick = False, runs: RunsFolder = None, as_json: Json = False
) -> None:
    """Print the verdict on each claim from the trials in the store; exit status 0 only if every claim is supported."""
    from fathomlab import api

    planned = api.load(file, overrides or [], quick)
    found, missing = api.verify(planned, runs or api.default_runs())
    if as_json:
        print_json({"unfinished": missing, "verdicts": found})
    else:
        for verdict in found:
            late = " (exploratory: declared after the first result)" if verdict["exploratory"] else ""
            print(f"{verdict['verdict']}: {verdict['sentence']}{late}")
        if missing:
            print(f"{count(missing, 'trial')} of the plan not finished: fathomlab run {file}")
    if missing or any(verdict["verdict"] != "supported" for verdict in found):
        raise typer.Exit(1)


@app.command()
def report(
    experiment: Annotated[
        str | None, typer.Argument(help="An experiment's name, as the list shows it; all where it is not given.")
    ] = None,
    runs: RunsFolder = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare the numbers of two reports: files, or experiments."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the reports again from the store, and the index page; or compare two of them."""
    from fathomlab import api
    from fathomlab.report.page import write_index

    root = runs or api.default_runs()
    if diff is not None:
        rows, said = api.compare(root, *diff)
        print_json(rows) if as_json else print("\n".join(said))
        return
    store = Store(root)
    names = [experiment] if experiment else [record.name for record in store.experiments()]
    if not names:
        raise UserError("no-such-experiment", f"{root}: holds no experiment. Run one first: fathomlab run 1_2 --quick")
    written = [str(api.write_reports(root, name)) for name in names]
    index = str(write_index(store))
    if as_json:
        print_json({"reports": written, "index": index})
    else:
        print("\n".join([*(f"report: {path}" for path in written), f"index: {index}"]))
