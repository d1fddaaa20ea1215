"""run | verify: from an experiment file to verdicts and a report."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.cli.complete import experiment_files
from fathomlab.cli.guard import Stopped
from fathomlab.cli.links import file_link
from fathomlab.cli.options import (
    Device,
    Executor,
    File,
    Json,
    Overrides,
    Progress,
    Quick,
    RunsFolder,
    Workers,
    check_progress,
    print_json,
)
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
    executor: Executor = None,
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
    mode = check_progress(progress)
    options: dict[str, Any] = {"device": device, "workers": workers, "wait": wait, "allow_drift": allow_drift}
    options |= {"max_seeds": max_seeds, "log": log, "minutes": minutes, "executor": executor}
    from fathomlab.execute.worker_process import early_workers

    with early_workers(workers, executor):
        _announce(file, mode)
        from fathomlab import api

        planned = api.load(file, overrides or [], quick)
        try:
            results = api.run(planned, runs=runs, progress=mode, **options)
        except RunInterrupted as reason:
            raise Stopped(reason) from None
    summary = results.summary
    if as_json:
        document = {**asdict(summary), "report": str(results.report), "seconds": round(summary.seconds, 3)}
        print_json({key: value for key, value in document.items() if key not in ("fleet", "notices") or value})
    else:
        _print_outcome(results, summary, quick)
    if summary.failed:
        raise typer.Exit(1)


def _announce(file: str, mode: "Mode") -> None:
    """Print the first line before large libraries are imported."""
    from fathomlab.execute.modes import print_line, resolve_mode

    if resolve_mode(mode, sys.stderr) in ("plain", "rich"):
        print_line(sys.stderr, f"Planning {file} ...")


def _print_outcome(results: "Results", summary: "RunSummary", quick: bool) -> None:
    """Print what a run did, the means, the verdicts, and a link to the report."""
    from fathomlab.cli.means import print_means
    from fathomlab.cli.verdicts import print_verdicts, tally

    outcomes = f"{summary.trained} trained, {summary.cached} cached"
    outcomes += f", {summary.diverged} diverged" if summary.diverged else ""
    outcomes += f", {summary.failed} failed" if summary.failed else ""
    print(f"{count(summary.trials, 'trial')}: {outcomes} ({summary.seconds:.0f} s)")
    if summary.fleet is not None:
        print(summary.fleet.text())
    print_means(results.study)
    verdicts = results.verdicts
    if quick and verdicts:
        print("Quick run: use these verdicts to check the setup, not as evidence.")
    print_verdicts(verdicts)
    if verdicts:
        print(tally(verdicts))
    print(f"report: {file_link(results.report)}")


@app.command()
def verify(
    file: Annotated[
        str,
        typer.Argument(
            help="Experiment file or bundled name (claims), or REPORT.html#TRIAL (repeats a trial).",
            autocompletion=experiment_files,
        ),
    ],
    overrides: Overrides = None,
    quick: Quick = False,
    runs: RunsFolder = None,
    details: Annotated[bool, typer.Option("--details", help="Also print the statistics behind each verdict.")] = False,
    plugin: Annotated[
        list[Path] | None, typer.Option("--plugin", help="Plugin file that a repeated trial may run; may be repeated.")
    ] = None,
    progress: Progress = "auto",
    as_json: Json = False,
) -> None:
    """Print the verdict for each claim, or train a trial of a report again.

    Exits with 0 only if all claims are supported, or if the repeated trial agrees with the report. A repeated trial is trained in
    a temporary directory; --runs names another one.
    """
    from fathomlab import api
    from fathomlab.analysis.as_json import verdict_json
    from fathomlab.cli.repeat import check_alone, verify_page
    from fathomlab.cli.verdicts import print_verdicts

    address = api.split_address(file)
    if address is not None:
        check_alone([("overrides", overrides), ("--quick", quick), ("--details", details)])
        verify_page(*address, plugin or [], runs, progress, as_json)
        return
    if plugin:
        raise UserError("invalid-option", "--plugin: only for a report. An experiment file names its plugins.")
    planned = api.load(file, overrides or [], quick)
    verdicts, missing = api.verify(planned, runs or api.default_runs())
    if as_json:
        print_json({"unfinished": missing, "verdicts": [verdict_json(verdict) for verdict in verdicts]})
    else:
        print_verdicts(verdicts, details)
        if missing:
            folder = [] if runs is None else ["--runs", str(runs)]
            words = ["fathomlab", "run", file, *(["--quick"] if quick else []), *(overrides or []), *folder]
            print(f"{count(missing, 'trial')} not finished. Run: {shlex.join(words)}")
    if missing or any(verdict.decision != "supported" for verdict in verdicts):
        raise typer.Exit(1)
