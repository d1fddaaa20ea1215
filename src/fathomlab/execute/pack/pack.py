"""Trains one job and stores its logs, checkpoints, weights, and results in the trials' folders."""

import errno
import json
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import torch

from fathomlab.base.errors import UserError
from fathomlab.base.user_code import describe_error
from fathomlab.engine.backends import BACKENDS
from fathomlab.engine.balance import GradientBalance
from fathomlab.engine.device_data import split_indices
from fathomlab.engine.evaluation import evaluate
from fathomlab.engine.loop import Progress, train
from fathomlab.engine.opaque import structure
from fathomlab.engine.precision import choose_precision, param_dtype
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.events import Emit, EpochDone, Finished, Measured, Refused, Started, Warned
from fathomlab.execute.pack.backend import prepare_backend
from fathomlab.execute.pack.checkpointer import Checkpointer, Replica
from fathomlab.execute.pack.devices import choose_device, current_environment
from fathomlab.execute.pack.failure import record_failure
from fathomlab.execute.pack.inputs import load_dataset, load_starts, load_teachers
from fathomlab.execute.pack.measuring import measure_replicas
from fathomlab.execute.pack.results import Columns, evaluate_test, metric_columns
from fathomlab.execute.pack.settings import determinism, deterministic_mode
from fathomlab.execute.pack.speed import pack_speeds
from fathomlab.execute.pack.weights import save_weights
from fathomlab.execute.signals import RunInterrupted
from fathomlab.prepare import machine
from fathomlab.prepare.cost import should_separate_replicas
from fathomlab.prepare.drift import environment_diff
from fathomlab.prepare.jobs import Job
from fathomlab.probes import Probe
from fathomlab.probes.schedule import snapshot_steps
from fathomlab.probes.user import UserProbe
from fathomlab.store.checksums import nan_to_none
from fathomlab.store.leases import Lease, LeaseHeldError, LeaseLostError
from fathomlab.store.predictions import PREDICTIONS, encode_classes, write_labels
from fathomlab.store.provenance import BackendBuild, DataSource, PackSlot, PluginDigest
from fathomlab.store.reading import trial_status
from fathomlab.store.records import TERMINAL_STATUSES, Result
from fathomlab.store.tables import table_seconds

DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EFBIG}


def train_job(job: Job, emit: Emit, stop: Callable[[], int | None], node: str = "") -> None:
    """Train the trials of a job, with a lease for each that has no result if other hosts may train into the store.

    Args:
        job: The trials, and how they are trained.
        emit: Takes events.
        stop: Returns a signal number to request a checkpoint and the end; called between two steps.
        node: The node of the cluster that trains; `""` on the machine of the run.

    Raises:
        RunInterrupted: If `stop` requested it. A checkpoint has been written.
    """
    unfinished = [trial for trial in job.hashes if trial_status(job.root, trial) not in TERMINAL_STATUSES]
    try:
        with Lease(job.root, unfinished, node, job.expired) if job.leases else nullcontext() as lease:
            _train_pack(job, emit, stop, node, lease)
    except LeaseHeldError as error:
        emit(Refused(error.holder, error.lease))
    except LeaseLostError as error:
        emit(Refused(str(error), ""))
    except _UnfitError as error:
        emit(Refused(str(error)))


def _train_pack(job: Job, emit: Emit, stop: Callable[[], int | None], node: str, lease: Lease | None) -> None:
    """Train the trials of a job as one tensor program. Finished trials only keep their slots.

    If a job of several trials raises an error, its trials are trained one by one, so that only the faulty trial fails.
    """
    try:
        try:
            with deterministic_mode():  # for each attempt: a plugin may change a setting while it trains
                _PackRun(job, emit, stop, node, lease).run()
        except (LeaseLostError, _UnfitError):
            raise
        except (Exception, SystemExit) as error:  # a plugin may call sys.exit
            if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
                raise
            if len(job.trials) > 1:
                for trial in job.trials:
                    if trial_status(job.root, trial.hash) not in TERMINAL_STATUSES:
                        _train_pack(replace(job, trials=(trial,)), emit, stop, node, lease)
                return
            trial = next(iter(job.trials))
            cause = str(error) if isinstance(error, UserError) else describe_error(error)
            failure = record_failure(trial, job, cause, lease)
            if failure is not None:
                emit(failure)
    except OSError as error:
        if error.errno not in DISK_ERRNOS:
            raise
        free = shutil.disk_usage(job.root).free / 1e6
        text = f"{job.root}: cannot write results: {error.strerror} ({free:.1f} MB free)."
        emit(Warned(f"{text} Run the same command again to resume."))


class _UnfitError(Exception):
    """The environment of the worker is not that of the checkpoint."""


class _PackRun:
    """One pack from its data to its results."""

    def __init__(self, job: Job, emit: Emit, stop: Callable[[], int | None], node: str, lease: Lease | None):
        device = choose_device(job.device)
        self.emit, self.stop, self.device, self.node = emit, stop, device, node
        self.environment = current_environment(device.type)
        self.checkpointer = Checkpointer(job, self.environment, emit, lease)
        self._check_environment()
        recipes = [trial.recipe for trial in job.trials]
        requested, saved = recipes[0], self.checkpointer.newest
        precision = (
            saved.precision
            if saved
            else choose_precision(requested.precision, requested.architecture, requested.batch_size, device)
        )
        self.recipes = [replace(recipe, precision=precision) for recipe in recipes]
        common = self.recipes[0]
        dataset, dtype = job.trials[0].data.component, param_dtype(common.precision)
        self.arrays, images = load_dataset(dataset, job.root, device.type, dtype)
        train_index, validation_index = split_indices(self.recipes, self.arrays.train_labels, device)
        teachers = load_teachers(job.trials, self.recipes, images, job.root, device, stop)
        separate = should_separate_replicas(common.architecture)
        self.training = PackTrainer(self.recipes, images, train_index, validation_index, device, teachers, separate)
        self.training.between_batches = self._poll
        self.probes = job.trials[0].probes
        load_starts(job.trials, self.training, job.root)
        self.balance = GradientBalance(self.training)
        self.backend, self.step = prepare_backend(
            job, saved.backend if saved else None, self.training, self.checkpointer.warn
        )
        self.checkpointer.load(self.training, self.backend)
        self._write_provenance()
        active = tuple(replica.trial.hash for _, replica in self.checkpointer.active)
        started, holder = time.time() - self.checkpointer.seconds_before_resume, lease.id if lease else ""
        emit(Started(active, common.epochs, started, node, holder))

    def _check_environment(self) -> None:
        saved = self.checkpointer.newest
        if saved is not None and not self.checkpointer.job.may_drift:
            changes = environment_diff(saved.environment, self.environment)
            if changes:
                raise _UnfitError(", ".join(changes))

    def run(self) -> None:
        """Train, measure, test, and write the results."""
        steps_per_epoch, epochs = self.training.steps_per_epoch, self.training.shared_recipe.epochs
        due = {probe.name: snapshot_steps(probe.at, steps_per_epoch, epochs) for probe in self.probes}
        diverged = self._all_diverged()  # interrupted during the test
        steps = frozenset[int]().union(*due.values())
        for snapshot in () if diverged else train(self.training, steps, self.step):
            for probe in self.probes:
                if snapshot.step in due[probe.name]:
                    self._measure(probe.name, probe.component, snapshot)
            if snapshot.validation is not None:
                self._record_epoch(snapshot)
                if self._all_diverged():
                    break
                if self.checkpointer.due(ends_epoch=True):
                    self.checkpointer.save(self.training)
        self._finish()

    def _all_diverged(self) -> bool:
        return all(replica.diverged for replica in self.checkpointer.replicas)

    def _poll(self) -> None:
        """Called between two steps or two batches of an evaluation: write a checkpoint if one is due or a stop is requested."""
        signum = self.stop()
        if signum is not None or self.checkpointer.due(ends_epoch=False):
            self.checkpointer.save(self.training)
        if signum is not None:
            raise RunInterrupted(signum)

    def _measure(self, name: str, probe: Probe, snapshot: Progress) -> None:
        bad_steps = self.training.state.diverged_at_step.tolist()
        slots = [slot for slot, _ in self.checkpointer.active if not bad_steps[slot]]
        measured = measure_replicas(probe, self.training, slots)
        for slot, replica in self.checkpointer.active:
            if slot in measured:
                if isinstance(probe, UserProbe) and not replica.folder.describe(name, probe.describe(measured[slot])):
                    raise probe.defect("must return the same columns at every snapshot")
                record = {"step": snapshot.step, "epoch": snapshot.epoch, **measured[slot]}
                self.checkpointer.append(replica, f"{name}.jsonl", record)
                at_epoch = snapshot.step == 0 or snapshot.validation is not None
                if name == "gradients" and at_epoch and self.checkpointer.job.logging.log_gradients:
                    norms = dict(zip(measured[slot]["layers"], nan_to_none(measured[slot]["weight"]), strict=True))
                    self.emit(Measured(replica.trial.hash, snapshot.epoch, norms))

    def _record_epoch(self, snapshot: Progress) -> None:
        assert snapshot.train is not None
        assert snapshot.validation is not None
        bad_steps = self.training.state.diverged_at_step.tolist()
        columns = {**metric_columns("train", snapshot.train), **metric_columns("val", snapshot.validation)}
        columns |= self.balance.measure()
        for slot, replica in self.checkpointer.active:
            if replica.diverged:
                continue
            replica.diverged = bad_steps[slot]
            metrics = {name: float("nan") if replica.diverged else column[slot] for name, column in columns.items()}
            if snapshot.objective is not None and not self.recipes[slot].plain and not replica.diverged:
                metrics["train/objective"] = float(snapshot.objective[slot])
            lr, seconds = snapshot.lr[slot], self.checkpointer.seconds
            record = {"epoch": snapshot.epoch, "step": snapshot.step, "lr": lr, **metrics, "seconds": seconds}
            self.checkpointer.append(replica, "metrics.jsonl", record)
            replica.metrics.update(metrics)
            self.emit(EpochDone(replica.trial.hash, snapshot.epoch, nan_to_none(metrics), lr, seconds))

    def _finish(self) -> None:
        state = self.training.state
        test, outcomes, predictions = evaluate_test(self.training)
        for slot, replica in self.checkpointer.active:
            if not replica.diverged:
                replica.folder.write_bytes(PREDICTIONS, encode_classes(predictions[slot].cpu().numpy()))
        test_labels = self.training.data.test_labels.cpu().numpy()
        labels = write_labels(self.checkpointer.job.root, self.recipes[0].data, test_labels)
        best = evaluate(self.training, state.best.params, state.best.buffers, validation=False)
        opaque = self.recipes[0].architecture.opaque
        module = None if opaque is None else structure(opaque)
        self.checkpointer.map_active(lambda slot, replica: save_weights(self.training, slot, replica, module))
        metrics, seconds = {**metric_columns("best/test", best), **test}, self.checkpointer.seconds
        healthy = [slot for slot, replica in self.checkpointer.active if not replica.diverged]
        speeds = pack_speeds(self.training, healthy, self.checkpointer.warn)
        finished = [
            Result("finished", seconds=seconds, outcome=outcome, labels=labels, speed=speeds.get(slot))
            for slot, outcome in enumerate(outcomes)
        ]
        for result in self.checkpointer.map_active(
            lambda slot, replica: self._write_result(slot, replica, metrics, finished[slot])
        ):
            self.emit(result)
        self.checkpointer.clear()

    def _write_result(self, slot: int, replica: Replica, columns: Columns, result: Result) -> Finished:
        """Write the result of one trial, which finishes it."""
        state = self.training.state
        metrics = replica.metrics | {name: column[slot] for name, column in columns.items()}
        metrics["best/epoch"] = int(state.best.epoch[slot])
        metrics["best/val/accuracy"] = float(state.best_accuracy[slot])
        if replica.diverged:
            cause = f"the loss was not finite at step {replica.diverged}"
            result = Result("diverged", cause, seconds=result.seconds)
            metrics |= {name: None for name in metrics if name.startswith(("test/", "best/"))}
        parameters, seconds = self.recipes[slot].num_trained, float(result.seconds or 0)
        result = replace(
            result,
            parameters=parameters,
            epochs=state.epoch,
            steps=state.step,
            metrics=metrics,
            table_seconds=table_seconds(self.checkpointer.job.root, replica.trial),
        )
        stored, status = replica.folder.finish(result), "diverged" if replica.diverged else "finished"
        return Finished(replica.trial.hash, status, result.cause, seconds, stored.metrics, parameters)

    def _write_provenance(self) -> None:
        arrays, process = self.arrays, machine.collect_provenance()
        gpu = self.environment["gpu"]
        assert process.hardware is not None
        shared = replace(
            process,
            hardware=replace(process.hardware, gpu=None if gpu is None else str(gpu)),
            environment=self.environment,
            device=self.device.type,
            precision=self.recipes[0].precision,
            backend=BackendBuild(self.backend, BACKENDS[self.backend].build()),
            threads=torch.get_num_threads(),
            deterministic=determinism(),
            data=DataSource(
                json.loads(self.recipes[0].data)["name"],
                dict(arrays.files),
                tuple(arrays.modified),
                tuple(arrays.notes),
            ),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            resumed=self.checkpointer.resumed,
            node=self.node or None,
        )
        members = tuple(replica.trial.hash for replica in self.checkpointer.replicas)
        for slot, replica in self.checkpointer.active:
            plugins = tuple(PluginDigest(plugin.name, plugin.sha256) for plugin in replica.trial.plugins)
            pack = PackSlot(len(members), slot, members)
            replica.folder.write_provenance(replace(shared, pack=pack, plugins=plugins))
