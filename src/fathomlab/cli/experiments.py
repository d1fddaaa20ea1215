"""run | verify | report: from an experiment file to verdicts and a report."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.cli.guard import Stopped
from fathomlab.cli.options import Device, File, Json, Overrides, Progress, Quick, RunsFolder, Workers, print_json
from fathomlab.execute.signals import RunInterrupted

if TYPE_CHECKING:
    from fathomlab.api import Results
    from fathomlab.execute.experiment import RunSummary
    from fathomlab.execute.modes import Mode

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
        bool, typer.Option("--wait", help="Wait if another process is using the results directory.")
    ] = False,
    allow_drift: Annotated[
        bool,
        typer.Option(
            "--allow-drift", help="Resume checkpoints written in a different environment (PyTorch, CPU/GPU, code)."
        ),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option("--max-seeds", help="Add seeds in stages until all claims are decided, up to this total."),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            "--log", help="Trackers: wandb, tensorboard, or none [default: wandb if the file names a project]."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="Stop after this time (min); the same command resumes."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the missing trials and write the report."""
    mode = _announce(file, progress)
    from fathomlab import api

    planned = api.load(file, overrides or [], quick)
    options: dict[str, Any] = {"device": device, "workers": workers, "wait": wait, "allow_drift": allow_drift}
    options |= {"max_seeds": max_seeds, "log": log, "minutes": minutes}
    try:
        results = api.run(planned, runs=runs, progress=mode, **options)
    except RunInterrupted as reason:
        raise Stopped(reason) from None
    summary = results.summary
    if as_json:
        print_json({**asdict(summary), "report": str(results.report), "seconds": round(summary.seconds, 3)})
    else:
        _print_outcome(results, summary, quick)
    if summary.failed:
        raise typer.Exit(1)


def _announce(file: str, progress: str) -> "Mode":
    """Check and return the mode of progress, and print the first line before large libraries are imported."""
    from fathomlab.execute.modes import MODES, print_line, resolve_mode

    if progress not in MODES:
        raise UserError("invalid-option", f"--progress must be one of {', '.join(MODES)}, got {progress!r}.")
    mode = cast("Mode", progress)
    if resolve_mode(mode, sys.stderr) in ("plain", "rich"):
        print_line(sys.stderr, f"Planning {file} ...")
    return mode


def _print_outcome(results: "Results", summary: "RunSummary", quick: bool) -> None:
    """Print what a run did, its verdicts, and a link to its report."""
    from fathomlab.cli.verdicts import print_verdicts, tally

    outcomes = f"{summary.trained} trained, {summary.cached} cached"
    outcomes += f", {summary.diverged} diverged" if summary.diverged else ""
    outcomes += f", {summary.failed} failed" if summary.failed else ""
    print(f"{count(summary.trials, 'trial')}: {outcomes} ({summary.seconds:.0f} s)")
    verdicts = results.verdicts
    if quick and verdicts:
        print("Quick run: use these verdicts to check the setup, not as evidence.")
    print_verdicts(verdicts)
    if verdicts:
        print(tally(verdicts))
    print(f"report: {Path(os.path.abspath(results.report)).as_uri()}")


@app.command()
def verify(
    file: File,
    overrides: Overrides = None,
    quick: Quick = False,
    runs: RunsFolder = None,
    details: Annotated[bool, typer.Option("--details", help="Also print the statistics behind each verdict.")] = False,
    as_json: Json = False,
) -> None:
    """Print the verdict for each claim. Exits with 0 only if all are supported."""
    from fathomlab import api
    from fathomlab.analysis.as_json import verdict_json
    from fathomlab.cli.verdicts import print_verdicts

    planned = api.load(file, overrides or [], quick)
    verdicts, missing = api.verify(planned, runs or api.default_runs())
    if as_json:
        print_json({"unfinished": missing, "verdicts": [verdict_json(verdict) for verdict in verdicts]})
    else:
        print_verdicts(verdicts, details)
        if missing:
            print(f"{count(missing, 'trial')} not finished. Run: fathomlab run {file}")
    if missing or any(verdict.decision != "supported" for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def report(
    experiment: Annotated[
        str | None, typer.Argument(help="Experiment: a name or its beginning, a file, or a bundled one [default: all].")
    ] = None,
    runs: RunsFolder = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare two reports (HTML files or experiments)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Regenerate reports and the index from the results, or compare two reports."""
    from fathomlab import api
    from fathomlab.analysis.as_json import differences_json
    from fathomlab.analysis.compare import format_diff
    from fathomlab.report.page import write_index

    root = runs or api.default_runs()
    if diff is not None:
        rows = api.compare(root, *diff)
        print_json(differences_json(rows)) if as_json else print("\n".join(format_diff(rows)))
        return
    from fathomlab.store.reading import Store

    store = Store(root)
    names = [api.find_experiment(store, experiment)] if experiment else store.experiment_names()
    if not names:
        raise UserError("no-such-experiment", f"No experiments in {root}. Start with: fathomlab run 1_2 --quick")
    outdated = [] if experiment else [record for record in store.experiments() if record.outdated]
    names = [name for name in names if name not in {record.name for record in outdated}]
    written = [str(api.write_reports(root, name)) for name in names]
    for record in outdated:
        print(f"{record.folder}: {record.cause}. Its report stays as it is.", file=sys.stderr)
    index = str(write_index(store))
    if as_json:
        print_json({"reports": written, "index": index})
    else:
        print("\n".join([*(f"report: {path}" for path in written), f"index: {index}"]))
