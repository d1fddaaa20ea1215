"""Runs an experiment: finished trials are reused, the others are packed and trained, every outcome is recorded."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from fathomlab.base.errors import UserError
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import Emit, Note, Planned, Warned
from fathomlab.execute.executors import EXECUTORS, Executor, requested_executor, resolve_executor
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.recording import write_end, write_start
from fathomlab.execute.run_log import RunLog
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.execute.sources import save_patch, save_plugin
from fathomlab.execute.worker_process import end_early_workers, has_early_workers
from fathomlab.plan import Plan, Trial
from fathomlab.prepare.backends import check_build, fallback_notice, requested_backend, start_native_build
from fathomlab.prepare.cost import expected_seconds
from fathomlab.prepare.drift import check_environment, remove_stale_checkpoints
from fathomlab.prepare.gpus import check_device
from fathomlab.prepare.jobs import Job, prepare_jobs, provide_datasets
from fathomlab.prepare.machine import describe_machine, guess_device
from fathomlab.prepare.memory import memory_notice, predict_memory
from fathomlab.prepare.packing import worker_count
from fathomlab.store.directory import create_store
from fathomlab.store.inventory import Inventory, take_inventory
from fathomlab.store.lease_files import has_leases
from fathomlab.store.lock import locks_hold, store_lock
from fathomlab.store.reading import Store
from fathomlab.store.records import TERMINAL_STATUSES, ExperimentRecord
from fathomlab.store.run_records import RunRecord
from fathomlab.store.trial_files import trial_status


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
        fleet: What the run used; None if this machine alone trained and no worker was lost.
        notices: Notes and warnings of the run.
    """

    experiment: str
    trials: int
    trained: int
    cached: int
    failed: int
    diverged: int
    seconds: float
    fleet: RunRecord | None = None
    notices: tuple[str, ...] = ()


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
    label = Path(loaded.name).stem if loaded.text else loaded.file.experiment.title or "experiment"
    stem = unicodedata.normalize("NFKD", label.lower())
    ascii_stem = re.sub(r"[^a-z0-9_]+", "-", stem.encode("ascii", "ignore").decode()).strip("-")[:40] or "experiment"
    new_name = f"{ascii_stem}{'-quick' if plan.loaded.quick else ''}{suffix}"
    return min((name for name in names if name.endswith(suffix)), default=new_name)


@dataclass(frozen=True)
class RunOptions:
    """Execution options. They are not part of a trial's identity.

    Attributes:
        device: auto, cpu, cuda, or cuda:N.
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
    check_device(options.device)
    worker_count(options.workers, 1)
    create_store(runs)
    executor_name = resolve_executor(requested_executor(plan))
    executor = EXECUTORS[executor_name]
    shared = executor.spans_hosts or not locks_hold(runs)
    with store_lock(runs, options.wait, lambda text: emit(Warned(text)), stop.check, shared) as lock:
        setting = Setting(runs, 1, options.device, lock, plan.loaded.run)
        inventory = take_inventory(runs, plan.trials, plan.loaded.components)
        pending = inventory.pending(plan.trials)
        remove_stale_checkpoints(inventory, [trial for trial in plan.trials if inventory.is_finished(trial.hash)])
        name = options.name or experiment_name(plan, inventory.experiments)
        jobs = _preflight(plan, pending, inventory, options, executor, setting)
        if shared or has_leases(runs):
            jobs = tuple(replace(job, leases=True, may_drift=options.allow_drift) for job in jobs)
        stop.clock.seconds()  # a download waits without a tick
        record = write_start(plan, name, inventory, lambda text: emit(Warned(text)))
        cached, used = len(plan.trials) - len(pending), None
        count = executor.count_workers(setting, options.workers, len(jobs)) if jobs else 1
        work, measured = expected_seconds(plan.trials, inventory)
        if jobs and (notice := fallback_notice(plan, describe_machine(guess_device(options.device)))):
            emit(Note(notice))
        emit(Planned(len(plan.trials), cached, len(jobs), count, work, plan.labels, measured))
        if not jobs or executor_name != "local":
            end_early_workers()
        if jobs:
            if not executor.spans_hosts and guess_device(options.device) == "cpu":
                _warn_if_memory_is_short(jobs, min(count, len(jobs)), emit)
            save_patch(runs)
            for plugin in {plugin for job in jobs for plugin in job.plugins}:
                save_plugin(runs, plugin)
            elastic = str(options.workers) == "auto"
            setting = replace(setting, workers=min(count, len(jobs)), elastic=elastic)
            used = _train(jobs, executor_name, setting, emit, stop, record)
        statuses = {trial.hash: inventory.trials[trial.hash].status for trial in plan.trials}
        statuses |= {trial.hash: trial_status(runs, trial.hash) for trial in pending}
        diverged = sum(status == "diverged" for status in statuses.values())
        failed = sum(status not in TERMINAL_STATUSES for status in statuses.values())
        seconds = stop.clock.seconds() - started
        if pending:
            write_end(runs, record, used, seconds)
    return RunSummary(name, len(plan.trials), len(pending), cached, failed, diverged, seconds, used)


def _warn_if_memory_is_short(jobs: Sequence[Job], workers: int, emit: Emit) -> None:
    if notice := memory_notice(predict_memory([(job.trials, job.backend) for job in jobs], workers)):
        emit(Warned(notice))


def _preflight(
    plan: Plan,
    pending: list[Trial],
    inventory: Inventory,
    options: RunOptions,
    executor: type[Executor],
    setting: Setting,
) -> tuple[Job, ...]:
    """Check everything that must hold before training (device, backend, data, environment, disk space), and form the jobs."""
    backend = requested_backend(plan)  # an unknown name is reported before datasets are downloaded
    if pending and backend == "native" and not executor.spans_hosts:
        check_build(pending)
    queued = executor.queued(setting) if pending else ()
    on_workers = executor.spans_hosts  # which check what they are, because this machine may differ
    if pending and options.device.startswith("cuda") and not on_workers:
        from fathomlab.execute.pack.devices import choose_device

        choose_device(options.device)
    in_bf16 = [trial for trial in pending if trial.recipe.precision == "bf16"]
    if in_bf16 and not on_workers:
        from fathomlab.execute.pack.devices import check_precision

        check_precision(in_bf16, options.device)
    if pending and not on_workers:
        start_native_build(plan, pending, describe_machine(guess_device(options.device)))
    provide_datasets(plan, pending, inventory.root)
    if not options.allow_drift and not on_workers and any(inventory.checkpoint(trial) for trial in pending):
        from fathomlab.execute.pack.devices import choose_device, current_environment

        check_environment(inventory, pending, current_environment(str(choose_device(options.device))))
    workers = executor.count_workers(setting, options.workers, len(pending)) if pending else 1
    return prepare_jobs(plan, pending, inventory, options.device, workers, queued)


def _train(
    jobs: Sequence[Job], name: str, setting: Setting, emit: Emit, stop: StopRequest, record: ExperimentRecord
) -> RunRecord | None:
    """Train the jobs with an executor; for `auto`, a single one, or one after the other, in this process if no worker was started
    early.

    Returns what the run used. It is also added to the record of an interrupted run.
    """
    one = setting.workers == 1 and setting.run.executor == "auto" and not EXECUTORS[name].spans_hosts
    if one and not has_early_workers():
        name = "inline"
    log, started = RunLog(name, len(jobs)), stop.clock.seconds()
    try:
        with closing(EXECUTORS[name](setting)) as executor:
            for event in run_jobs(jobs, executor, stop):
                log.update(event)
                emit(event)
    except RunInterrupted:
        if (used := log.record(stop.clock.seconds() - started)) is not None:
            write_end(setting.root, record, used)
        raise
    return log.record(stop.clock.seconds() - started)


def recorded_seed_count(runs: Path, name: str) -> int:
    """Number of seeds to which an experiment has been extended; 0 if it has not."""
    try:
        record = Store(runs).experiment(name)
    except UserError:
        return 0
    return len(record.seeds) if record.looks and record.cause is None else 0
