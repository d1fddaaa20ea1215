"""run | verify | report: from an experiment file to verdicts and a report."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.cli.options import Device, File, Json, Overrides, Progress, Quick, RunsFolder, Workers, print_json

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
    as_json: Json = False,
) -> None:
    """Train the missing trials and write the report."""
    from fathomlab import api
    from fathomlab.cli.verdicts import print_verdicts
    from fathomlab.execute.progress import MODES
    from fathomlab.execute.signals import RunInterrupted

    if progress not in MODES:
        raise UserError("invalid-option", f"--progress must be one of {', '.join(MODES)}, got {progress!r}.")
    planned = api.load(file, overrides or [], quick)
    options: dict[str, Any] = {"device": device, "workers": workers, "wait": wait, "allow_drift": allow_drift}
    options |= {"max_seeds": max_seeds, "log": log}
    try:
        results = api.run(planned, runs=runs, progress=progress, **options)
    except RunInterrupted as stopped:  # typer turns every KeyboardInterrupt into 130, whichever signal it was
        raise typer.Exit(128 + stopped.signum) from None
    summary = results.summary
    if as_json:
        print_json({**asdict(summary), "report": str(results.report), "seconds": round(summary.seconds, 3)})
    else:
        outcomes = f"{summary.trained} trained, {summary.cached} cached"
        outcomes += f", {summary.diverged} diverged" if summary.diverged else ""
        outcomes += f", {summary.failed} failed" if summary.failed else ""
        print(f"{count(summary.trials, 'trial')}: {outcomes} ({summary.seconds:.0f} s)")
        if quick and planned.claims:
            print("Quick run: use these verdicts to check the setup, not as evidence.")
        print_verdicts(results.verdicts)
        print(f"report: {results.report}")
    if summary.failed:
        raise typer.Exit(1)


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
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each chart of EXPERIMENT as SVG, PNG, and PDF.")
    ] = None,
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
    if figures is not None and experiment is None:
        raise UserError("missing-argument", "--figures: name one EXPERIMENT, as in: fathomlab report 1_2 --figures DIR")
    names = [api.find_experiment(store, experiment)] if experiment else store.experiment_names()
    if not names:
        raise UserError("no-such-experiment", f"No experiments in {root}. Start with: fathomlab run 1_2 --quick")
    outdated = [] if experiment else [record for record in store.experiments() if record.outdated]
    names = [name for name in names if name not in {record.name for record in outdated}]
    written = [str(api.write_reports(root, name)) for name in names]
    for record in outdated:
        print(f"{record.folder}: {record.cause}. Its report stays as it is.", file=sys.stderr)
    index = str(write_index(store))
    drawn = [str(path) for name in names for path in api.write_figures(root, name, figures)] if figures else []
    if as_json:
        print_json({"reports": written, "index": index, **({"figures": drawn} if figures else {})})
    else:
        lines = [*(f"report: {path}" for path in written), f"index: {index}", *(f"figure: {path}" for path in drawn)]
        print("\n".join(lines))
