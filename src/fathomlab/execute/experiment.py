"""Runs an experiment: finished trials are reused, the others are packed and trained, every outcome is recorded."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fathomlab.base.codec import JsonObject, to_plain
from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.base.labels import Levels, flatten_keys
from fathomlab.config.paths import set_path
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import Emit, Planned, Warned
from fathomlab.execute.executors import EXECUTORS, Executor, choose_executor, requested_executor
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.signals import StopRequest
from fathomlab.execute.sources import save_patch, save_plugin
from fathomlab.plan import Plan, Trial
from fathomlab.prepare import machine
from fathomlab.prepare.backends import requested_backend
from fathomlab.prepare.cost import expected_seconds
from fathomlab.prepare.drift import check_environment, remove_stale_checkpoints
from fathomlab.prepare.jobs import Job, prepare_jobs, provide_datasets
from fathomlab.prepare.packing import worker_count
from fathomlab.store.directory import create_store, record_is_current, write_experiment
from fathomlab.store.inventory import Inventory, take_inventory
from fathomlab.store.lease_files import has_leases
from fathomlab.store.lock import locks_hold, store_lock
from fathomlab.store.reading import Store, trial_status
from fathomlab.store.records import TERMINAL_STATUSES, ConditionRecord, ExperimentRecord, SeedTrial


@dataclass(frozen=True)
class RunSummary:
    """What a run did: `trials = trained + cached`.

    Attributes:
        experiment: Name of the experiment's directory in the store.
        trials: Number of trials in the plan.
        trained: Trials that this run trained, whatever their outcome.
        cached: Trials that had their outcome before.
        failed: Trials of the plan that have no outcome because an error stopped them.
        diverged: Trials of the plan that diverged, now or before. This is an outcome.
        seconds: Time (s), without suspensions of the process or the machine while trials train.
    """

    experiment: str
    trials: int
    trained: int
    cached: int
    failed: int
    diverged: int
    seconds: float


def experiment_name(plan: Plan, names: Iterable[str]) -> str:
    """The directory of a plan in the store: the existing one, or a name from the file's name, or the title of a mapping, and the
    plan's hash.

    The plan alone decides: a file that was renamed or is read under another locale continues its record and its looks.

    Args:
        plan: The plan.
        names: The experiments of the store.
    """
    suffix = f"-{plan.hash[:8]}"
    loaded = plan.loaded
    label = Path(loaded.document.source).stem if loaded.text else loaded.file.experiment.title or "experiment"
    stem = unicodedata.normalize("NFKD", label.lower())
    ascii_stem = re.sub(r"[^a-z0-9_]+", "-", stem.encode("ascii", "ignore").decode()).strip("-")[:40] or "experiment"
    new_name = f"{ascii_stem}{'-quick' if plan.loaded.quick else ''}{suffix}"
    return min((name for name in names if name.endswith(suffix)), default=new_name)


@dataclass(frozen=True)
class RunOptions:
    """Execution options. They are not part of a trial's identity.

    Attributes:
        device: auto, cpu, or cuda.
        workers: Number of processes, or auto.
        wait: Wait for another process that trains into the store instead of refusing.
        allow_drift: Resume trials in a different environment (PyTorch, processor, device, or code).
        name: The experiment's directory; derived from the plan if not given.
    """

    device: str = "auto"
    workers: str | int = "auto"
    wait: bool = False
    allow_drift: bool = False
    name: str | None = None


def run_experiment(plan: Plan, runs: Path, options: RunOptions, emit: Emit, stop: StopRequest) -> RunSummary:
    """Train the trials that the store does not have.

    Args:
        plan: The plan.
        runs: The store.
        options: How to train.
        emit: Called in this thread with each event.
        stop: Whether a stop is requested.

    Raises:
        UserError: If the store cannot be written or is in use, data or device are missing, a trial was started in another
            environment, or workers cannot start.
        RunInterrupted: If `stop` requests it; progress is saved.
    """
    started = stop.clock.seconds()
    if options.device not in ("auto", "cpu", "cuda"):
        raise UserError("invalid-option", f"--device must be auto, cpu, or cuda, got {options.device!r}.")
    worker_count(options.workers, 1)
    create_store(runs)
    executor = choose_executor(requested_executor(plan))
    shared = executor.spans_hosts or not locks_hold(runs)
    with store_lock(runs, options.wait, lambda text: emit(Warned(text)), stop.check, shared) as lock:
        setting = Setting(runs, 1, options.device, lock, plan.loaded.run)
        inventory = take_inventory(runs, plan.trials, plan.loaded.components)
        pending = inventory.pending(plan.trials)
        remove_stale_checkpoints(inventory, [trial for trial in plan.trials if inventory.is_finished(trial.hash)])
        name = options.name or experiment_name(plan, inventory.experiments)
        jobs = _preflight(plan, pending, inventory, options, setting)
        if shared or has_leases(runs):
            jobs = tuple(replace(job, leases=True, may_drift=options.allow_drift) for job in jobs)
        stop.clock.seconds()  # a download waits without a tick
        record = _with_history(_record(plan, runs / "experiments" / name), plan, inventory)
        if pending or not record_is_current(inventory.experiments.get(name), record):
            write_experiment(runs, record)
        cached = len(plan.trials) - len(pending)
        count = executor.count_workers(setting, options.workers, len(jobs)) if jobs else 1
        work, measured = expected_seconds(plan.trials, inventory)
        emit(Planned(len(plan.trials), cached, len(jobs), count, work, plan.labels, measured))
        if jobs:
            save_patch(runs)
            for plugin in {plugin for job in jobs for plugin in job.plugins}:
                save_plugin(runs, plugin)
            _train(jobs, executor, replace(setting, workers=min(count, len(jobs))), emit, stop)
        statuses = {trial.hash: inventory.trials[trial.hash].status for trial in plan.trials}
        statuses |= {trial.hash: trial_status(runs, trial.hash) for trial in pending}
        diverged = sum(status == "diverged" for status in statuses.values())
        failed = sum(status not in TERMINAL_STATUSES for status in statuses.values())
        seconds = stop.clock.seconds() - started
        if pending:
            write_experiment(runs, replace(record, seconds=(record.seconds or 0.0) + seconds))
    return RunSummary(name, len(plan.trials), len(pending), cached, failed, diverged, seconds)


def _preflight(
    plan: Plan, pending: list[Trial], inventory: Inventory, options: RunOptions, setting: Setting
) -> tuple[Job, ...]:
    """Check everything that must hold before training (device, backend, data, environment, disk space), and form the jobs."""
    requested_backend(plan)  # an unknown name is reported before datasets are downloaded
    executor = choose_executor(requested_executor(plan))
    device = machine.guess_device(options.device)
    on_workers = executor.spans_hosts  # which check what they are, because this machine may differ
    if pending and options.device == "cuda" and not on_workers:
        from fathomlab.execute.pack.devices import choose_device

        choose_device("cuda")
    in_bf16 = [trial for trial in pending if trial.recipe.precision == "bf16"]
    if in_bf16 and not on_workers:
        from fathomlab.execute.pack.devices import check_precision

        check_precision(in_bf16, options.device)
    provide_datasets(plan, pending, inventory.root)
    if not options.allow_drift and not on_workers and any(inventory.checkpoint(trial) for trial in pending):
        from fathomlab.execute.pack.devices import current_environment

        check_environment(inventory, pending, current_environment(device))
    workers = executor.count_workers(setting, options.workers, len(pending)) if pending else 1
    return prepare_jobs(plan, pending, inventory, options.device, workers)


def _train(jobs: Sequence[Job], kind: type[Executor], setting: Setting, emit: Emit, stop: StopRequest) -> None:
    """Train the jobs with an executor; for `auto`, a single one, or one after the other, in this process."""
    if setting.workers == 1 and setting.run.executor == "auto" and not kind.spans_hosts:
        kind = EXECUTORS["inline"]
    with closing(kind(setting)) as executor:
        for event in run_jobs(jobs, executor, stop):
            emit(event)


def recorded_seed_count(runs: Path, name: str) -> int:
    """Number of seeds to which an experiment has been extended; 0 if it has not."""
    try:
        record = Store(runs).experiment(name)
    except UserError:
        return 0
    return len(record.seeds) if record.looks else 0


def _record(plan: Plan, folder: Path) -> ExperimentRecord:
    """The record of an experiment without its history."""
    loaded = plan.loaded
    options = loaded.file.experiment
    conditions = tuple(
        ConditionRecord(
            label=condition.label,
            role=condition.role,
            factors=dict(condition.factors),
            depth=condition.depth,
            trials=tuple(SeedTrial(seed, trial.hash) for seed, trial in zip(plan.seeds, condition.trials, strict=True)),
        )
        for condition in plan.conditions
    )
    return ExperimentRecord(
        name=folder.name,
        folder=folder,
        title=options.title or loaded.document.source,
        question=options.question,
        source=loaded.document.source,
        yaml=loaded.text,
        overrides=tuple(loaded.overrides),
        quick=loaded.quick,
        resolved=_resolved(plan),
        factors=tuple(plan.factors),
        headline="best" if options.primary_metric.startswith("best/") else "last",
        seeds=tuple(plan.seeds),
        logging=to_plain(loaded.file.logging),
        tags=options.tags,
        published=options.published,
        conditions=conditions,
        claims=tuple(plan.claims),
        claims_hash=content_hash(plan.questions),
        tune=plan.tune,
        equal_compute=plan.equal_compute,
    )


def _with_history(record: ExperimentRecord, plan: Plan, inventory: Inventory) -> ExperimentRecord:
    """Add when the experiment was first run, its cost so far, and whether its claims were added after results.

    Claims are late if a trial of the plan was finished before an experiment with the same claims was recorded.
    """
    stored = inventory.experiments.get(record.name)
    if stored is not None and stored.cause is None:
        return replace(
            record,
            created=stored.created,
            seconds=stored.seconds or 0.0,
            claims_late=stored.claims_late,
            looks=stored.looks,
        )
    equal = [other for other in inventory.experiments.values() if other.claims_hash == record.claims_hash]
    early = any(not other.claims_late for other in equal)
    return replace(
        record,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        claims_late=bool(plan.claims) and not early and len(inventory.pending(plan.trials)) < len(plan.trials),
    )


def _resolved(plan: Plan) -> JsonObject:
    """Every option that the trials share, with defaults, and their parents by role; by role if there are several."""
    shared: dict[str, Levels] = {}
    roles = {trial.hash: condition.role for condition in plan.conditions for trial in condition.trials}
    for condition in plan.conditions:
        trial = condition.trials[0]
        left_out = ("format", "seed", "parents", "plugins")  # the digests of plugins are provenance
        content = {key: value for key, value in trial.content.items() if key not in left_out}
        if trial.teachers:
            content["teacher"] = [roles[teacher.hash] for teacher in trial.teachers]
        if trial.start is not None:
            content["start"] = roles[trial.start.hash]
        if offset := trial.seed - plan.seeds[0]:
            content["seed_offset"] = offset
        options = flatten_keys(content)
        previous = shared.setdefault(condition.role, options)
        shared[condition.role] = {
            key: value for key, value in previous.items() if key in options and options[key] == value
        }
    nested: dict[str, Any] = {}
    for role, options in shared.items():
        for key, value in options.items():
            set_path(nested, key if len(shared) == 1 else f"{role}.{key}", value)
    return nested | {"factors": {key: list(levels) for key, levels in plan.factors.items()}, "seeds": list(plan.seeds)}
