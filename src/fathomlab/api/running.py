"""Runs an experiment and writes its report; adds seeds while claims are undecided, if requested."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fathomlab.analysis.as_json import looks_json
from fathomlab.analysis.extension import plan_extension
from fathomlab.analysis.looks import look_history, planned_looks
from fathomlab.analysis.sequential import next_look
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import judge
from fathomlab.api.interim import CurrentEffect
from fathomlab.api.planning import Source, load
from fathomlab.api.results import Results
from fathomlab.api.stores import default_runs, write_reports
from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.execute.events import Emit, Event, Note, Warned
from fathomlab.execute.executors import with_executor
from fathomlab.execute.experiment import (
    RunOptions,
    RunSummary,
    experiment_name,
    recorded_seed_count,
    run_experiment,
)
from fathomlab.execute.modes import Mode
from fathomlab.execute.progress import progress_reporter
from fathomlab.execute.signals import StopRequest, handle_signals
from fathomlab.export.live import Live
from fathomlab.export.trackers import choose_trackers
from fathomlab.plan import Plan, with_seeds
from fathomlab.store.directory import write_experiment
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
    max_seeds: int | None = None,
    data: Any = None,
    model: type | Sequence[type] | None = None,
    log: str | Sequence[str] | None = None,
    minutes: float | None = None,
    executor: str | None = None,
) -> Results:
    """Train the missing trials of an experiment and write its report.

    Args:
        source: A file, number, or mapping as for `load`, or a plan.
        overrides: As for `load`.
        runs: The results directory.
        quick: Apply the file's `quick` section.
        device: auto, cpu, cuda, or cuda:N.
        workers: Number of worker processes, or auto (one per GPU, or per core on a CPU).
        progress: How to show progress on stderr.
        wait: Wait for another process that uses the results directory instead of refusing.
        allow_drift: Resume trials in a different environment (PyTorch, processor, device, or code).
        max_seeds: Add the seeds that undecided claims need, up to this total. Each interim analysis spends a part of the 2.5%
            error level (alpha spending), so that looking does not make false results more likely.
        data: As for `load`.
        model: As for `load`.
        log: Trackers that show the run live, such as `"wandb"`, or `"none"`. By default, Weights & Biases if wandb is installed,
            `logging.project_name` is set, and the run is not quick.
        minutes: Stop after this time with the progress saved, like an interrupt. Time of a suspended machine does not count.
        executor: Where workers run (inline, local, ray, slurm, auto); `run.executor` by default.

    Raises:
        ConfigError: If the experiment has problems; all of them, before any training.
        UserError: If results cannot be written, or data, device, or a requested tracker are missing.
        RunInterrupted: If a signal or `minutes` stopped it; a `KeyboardInterrupt`, for notebooks. The same call resumes.
    """
    stop = StopRequest(minutes)
    plan = with_executor(_plan(source, overrides, quick, data, model), executor)
    root = Path(runs) if runs is not None else default_runs()
    name = experiment_name(plan, Store(root).experiment_names())
    _check_extension(plan, max_seeds)
    plan = with_seeds(plan, recorded_seed_count(root, name))
    trackers, notices = choose_trackers(plan, log)
    log_file, options = root / "experiments" / name / "log.txt", RunOptions(device, workers, wait, allow_drift, name)
    with handle_signals(stop), progress_reporter(progress, log=log_file, clock=stop.clock) as show:
        report = _Once(show)
        for notice in (*plan.notices, *notices):
            report(Note(notice))
        effects = CurrentEffect(plan.loaded.file.claims, root, name, report)
        with Live(trackers, root, name, effects.emit, stop) as live:
            plan, summary = _run_in_stages(plan, root, options, max_seeds, live, stop)
    _write_report(root, name, summary)
    return Results(Store(root), name, plan, replace(summary, notices=tuple(report.said)))


def _plan(source: Source | Plan, overrides: Sequence[str | Sequence[str]], quick: bool, data: Any, model: Any) -> Plan:
    """The plan to run. A plan is not combined with data or models."""
    if not isinstance(source, Plan):
        texts = [text for item in overrides for text in ([item] if isinstance(item, str) else item)]
        return load(source, texts, quick, data, model)
    if data is not None or model is not None:
        raise UserError("conflict", "data and model cannot be combined with a plan; pass them to fathomlab.load.")
    return source


class _Once:
    """Passes events on, but each note and warning only once: several workers may say the same. `said` has their texts."""

    def __init__(self, report: Emit):
        self._report = report
        self.said: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note | Warned):
            if event.text in self.said:
                return
            self.said.append(event.text)
        self._report(event)


def _write_report(root: Path, name: str, summary: RunSummary) -> None:
    """Write the report and the index, unless nothing was trained since they were written."""
    folder = root / "experiments" / name
    path = folder / "report.html"
    fresh = path.is_file() and path.stat().st_mtime_ns > (folder / "experiment.json").stat().st_mtime_ns
    if summary.trained or not fresh:
        write_reports(root, [name])


def _check_extension(plan: Plan, budget: int | None) -> None:
    if budget is None:
        return
    if not plan.claims:
        raise UserError("no-claims", "--max-seeds requires at least one claim.")
    if budget < len(plan.seeds):
        raise UserError(
            "invalid-option", f"--max-seeds must be >= {len(plan.seeds)}, the seeds of the file, got {budget}."
        )


def _run_in_stages(
    plan: Plan, root: Path, options: RunOptions, budget: int | None, live: Live, stop: StopRequest
) -> tuple[Plan, RunSummary]:
    """Train. With a budget of seeds, analyze, add seeds, and train again, until every claim is decided or the seeds or the five
    looks are used.
    """
    summary = run_experiment(live.expect(plan), root, options, live.emit, stop)
    while budget is not None:
        store, n = Store(root), len(plan.seeds)
        record = store.experiment(summary.experiment)
        looks = list(planned_looks(record.looks) or look_history(record, store.experiments(), ()).looks)
        if not looks or looks[-1].n < n:
            looks.append(next_look(looks, n, budget))
        write_experiment(root, replace(record, looks=tuple(looks_json(looks))))
        verdicts = judge(study(store, store.experiment(summary.experiment)))
        step = plan_extension(verdicts, n, looks, budget)
        action = f" Adding {count(step.seeds, 'seed')}." if step.seeds else ""
        live.emit(Note(f"{count(n, 'seed')}: {step.reason}.{action}"))
        if not step.seeds:
            return plan, summary
        plan = with_seeds(plan, n + step.seeds)
        more = run_experiment(live.expect(plan), root, options, live.emit, stop)
        trained = summary.trained + more.trained
        fleet = summary.fleet + more.fleet if summary.fleet and more.fleet else summary.fleet or more.fleet
        seconds = summary.seconds + more.seconds
        summary = replace(more, trained=trained, cached=more.trials - trained, seconds=seconds, fleet=fleet)
    return plan, summary
