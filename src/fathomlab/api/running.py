"""Runs an experiment and writes its page; adds seeds while claims stay undecided, where that is asked for."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fathomlab.analysis.sequential import extension, next_look
from fathomlab.analysis.verdicts import verdicts
from fathomlab.api.planning import Source, load
from fathomlab.api.results import Results
from fathomlab.api.stores import default_runs, write_reports
from fathomlab.base.problems import UserError
from fathomlab.plan import Plan
from fathomlab.run.experiment import Emit, How, Summary, amend_experiment, experiment_name, known_seeds, run_experiment
from fathomlab.run.progress import Mode, showing
from fathomlab.run.resolve import with_seeds
from fathomlab.run.signals import Stop, listening
from fathomlab.store.reading import Store


def run(
    source: Source | Plan,
    *overrides: str | Sequence[str],
    runs: str | os.PathLike[str] | None = None,
    quick: bool = False,
    device: str = "auto",
    workers: str | int = "auto",
    progress: Mode = "auto",
    wait: bool = False,
    allow_drift: bool = False,
    extend: int | None = None,
) -> Results:
    """Train what the experiment needs and the store does not have, and write its report.

    Args:
        source: As `load` takes it, or a plan.
        overrides: Likewise.
        runs: The store.
        quick: Lay the file's `quick` section over the rest.
        device: auto, cpu or cuda.
        workers: Processes, or auto.
        progress: How to show what happens, on stderr.
        wait: Wait for another process that trains into the store, instead of refusing.
        allow_drift: Go on with trials that were begun under another torch, processor, device or code.
        extend: Add the seeds that undecided claims need, up to so many in all; each look at the verdicts spends a part of
            the 2.5 % error (alpha spending), so that looking does not make false findings likelier.

    Raises:
        ConfigError: Every problem of the experiment at once, before any training.
        UserError: The store cannot be written, or the data are not here.
        KeyboardInterrupt: Stopped by a signal; finished trials and checkpoints stay, and the same call goes on.
    """
    words = [word for given in overrides for word in ([given] if isinstance(given, str) else given)]
    plan = source if isinstance(source, Plan) else load(source, words, quick)
    root = Path(runs) if runs is not None else default_runs()
    name = experiment_name(plan)
    if extend is not None:
        _check_extension(plan, extend)
    plan = with_seeds(plan, known_seeds(root, name))
    labels = {
        trial.hash: f"{condition.label} seed={trial.seed}"
        for condition in plan.conditions
        for trial in condition.trials
    }
    log = root / "experiments" / name / "log.txt"
    with listening() as stop, showing(progress, labels, log=log) as emit:
        how = How(device, workers, wait, allow_drift, name)
        summary = run_experiment(plan, root, how, emit, stop)
        if extend is not None:
            plan, summary = _extended(plan, root, how, summary, extend, emit, stop)
    return Results(Store(root), plan, summary, _report(root, name, summary))


def _report(root: Path, name: str, summary: Summary) -> Path:
    """The report, written again unless nothing has been trained since it was."""
    folder = root / "experiments" / name
    path = folder / "report.html"
    fresh = path.is_file() and path.stat().st_mtime_ns > (folder / "experiment.json").stat().st_mtime_ns
    return path if fresh and not summary.trained else write_reports(root, name)


def _labels(plan: Plan) -> dict[str, str]:
    """Trial hash -> condition and seed in words."""
    return {
        trial.hash: f"{condition.label} seed={trial.seed}"
        for condition in plan.conditions
        for trial in condition.trials
    }


def _check_extension(plan: Plan, budget: int) -> None:
    if not plan.claims:
        raise UserError(
            "no-claims", "--extend: the experiment has no claims, so there is nothing that more seeds could decide."
        )
    if budget < len(plan.seeds):
        raise UserError(
            "invalid-option",
            f"--extend: the budget should be at least the {len(plan.seeds)} seeds of the file (got {budget}).",
        )


def _extended(
    plan: Plan, root: Path, how: How, summary: Summary, budget: int, emit: Emit, stop: Stop
) -> tuple[Plan, Summary]:
    """Look, add seeds, look again, until every claim is decided or the budget or the five looks are used."""
    while True:
        record = Store(root).experiment(summary.experiment)
        n, looks = len(plan.seeds), list(record.looks)
        if not looks or looks[-1]["n"] < n:
            looks.append(next_look(looks, n, budget))
            amend_experiment(root, summary.experiment, {"looks": looks})
        found: list[dict[str, Any]] = verdicts(Store(root), replace(record, looks=tuple(looks)))
        step = extension(found, n, looks, budget)
        emit({"event": "warning", "text": f"{n} seeds: {step.reason}; {step.seeds} seeds are added."})
        if not step.seeds:
            return plan, summary
        plan = with_seeds(plan, n + step.seeds)
        more = run_experiment(plan, root, how, emit, stop)
        summary = replace(more, trained=summary.trained + more.trained, seconds=summary.seconds + more.seconds)
