"""Trains one job and stores its logs, checkpoints, weights, and results in the trials' folders."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from fathomlab.base.files import nothing
from fathomlab.engine.balance import GradientBalance
from fathomlab.engine.device_data import split_indices
from fathomlab.engine.loop import Progress, train
from fathomlab.engine.opaque import structure
from fathomlab.engine.precision import param_dtype
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.events import Emit, EpochDone, Finished, Measured, Refused, Started, Warned
from fathomlab.execute.pack.backend import initial_precision, prepare_backend
from fathomlab.execute.pack.checkpointer import Checkpointer, Replica
from fathomlab.execute.pack.claim import DISK_ERRNOS, NotClaimedError, claim, unfinished, unwritable
from fathomlab.execute.pack.devices import choose_device, current_environment, on_device
from fathomlab.execute.pack.failure import record_failure
from fathomlab.execute.pack.inputs import load_dataset, load_starts, load_teachers
from fathomlab.execute.pack.measuring import measure_replicas
from fathomlab.execute.pack.origin import write_provenance
from fathomlab.execute.pack.recovery import (
    Problem,
    cause_of_trial,
    describe_problem,
    halving_warning,
    parts,
    release_memory,
)
from fathomlab.execute.pack.results import Columns, evaluate_test, metric_columns
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.execute.pack.speed import pack_speeds
from fathomlab.execute.pack.weights import save_weights
from fathomlab.execute.signals import RunInterrupted
from fathomlab.prepare.cost import should_separate_replicas
from fathomlab.prepare.drift import environment_diff
from fathomlab.prepare.jobs import Job
from fathomlab.probes import Probe
from fathomlab.probes.schedule import snapshot_steps
from fathomlab.probes.user import UserProbe
from fathomlab.store.checksums import nan_to_none
from fathomlab.store.leases import Lease, LeaseHeldError, LeaseLostError
from fathomlab.store.predictions import PREDICTIONS, encode_classes, write_labels
from fathomlab.store.records import Result
from fathomlab.store.tables import table_seconds


def train_job(job: Job, emit: Emit, stop: Callable[[], int | None], node: str = "") -> None:
    """Train the trials of a job as one tensor program. Finished trials only keep their slots.

    If other hosts may train into the store, each trial without a result needs a lease. If the memory of a CUDA device runs out, a
    job of several trials is trained in two halves, each as one program. They start from the newest checkpoint of the job if there
    is one, and their checkpoints name only the trials of their half. If a job of several trials raises another error, or a half
    runs out of memory, too, its trials are trained one by one, so that only the faulty trial fails.

    Args:
        job: The trials, and how they are trained.
        emit: Takes events.
        stop: Returns a signal number to request a checkpoint and the end; called between two calls of the step function.
        node: The node of the cluster that trains; `""` on the machine of the run.

    Raises:
        RunInterrupted: If `stop` requested it. A checkpoint has been written.
        UserError: If the CUDA device does not work any more in this process.
    """
    try:
        with claim(job, node) as lease:
            if lease is None or unfinished(job):  # another process may have trained them before they were claimed
                _train_parts(job, _Surroundings(emit, stop, node, lease), may_halve=True)
    except LeaseHeldError as error:
        emit(Refused(error.holder, error.lease))
    except (LeaseLostError, NotClaimedError) as error:
        emit(Refused(str(error), ""))
    except _UnfitError as error:
        emit(Refused(str(error)))


@dataclass(frozen=True)
class _Surroundings:
    """What all parts of a job share: the arguments of `train_job`, and its lease."""

    emit: Emit
    stop: Callable[[], int | None]
    node: str
    lease: Lease | None


def _train_parts(job: Job, around: _Surroundings, may_halve: bool) -> None:
    """Train a job, and after an error its parts."""
    try:
        problem = _attempt(job, around)
        if problem is None:
            return
        if len(job.trials) == 1:
            failure = record_failure(job.trials[0], job, cause_of_trial(problem), around.lease)
            if failure is not None:
                around.emit(failure)
        release_memory(job, problem)
        if len(job.trials) == 1:
            return
        halve = may_halve and problem.out_of_memory
        if halve:
            around.emit(Warned(halving_warning(job)))
        for part in parts(job, -(-len(job.trials) // 2) if halve else 1):
            _train_parts(part, around, may_halve=False)
    except OSError as error:
        if error.errno not in DISK_ERRNOS:
            raise
        cause = unwritable(job, error)  # with leases, the file server may come back, or another host may train the job
        retry = f"{cause}. Run the same command again to resume."
        around.emit(Warned(retry) if around.lease is None else Refused(cause, ""))


def _attempt(job: Job, around: _Surroundings) -> Problem | None:
    """Train a job as one program; return what went wrong, or None."""
    try:
        with deterministic_mode(), on_device(job.device):  # a plugin may change a setting while it trains
            run = _PackRun(job, around)
            try:
                run.run()
            finally:
                run.release()
    except (LeaseLostError, _UnfitError):
        raise
    except (Exception, SystemExit) as error:  # a plugin may call sys.exit
        if isinstance(error, OSError) and error.errno in DISK_ERRNOS:
            raise
        return describe_problem(error)
    return None


class _UnfitError(Exception):
    """The environment of the worker is not that of the checkpoint."""


class _PackRun:
    """One pack from its data to its results."""

    def __init__(self, job: Job, around: _Surroundings):
        device, lease = choose_device(job.device), around.lease
        self.emit, self.stop, self.device, self.node = around.emit, around.stop, device, around.node
        self.environment = current_environment(str(device))
        self.checkpointer = Checkpointer(job, self.environment, around.emit, lease)
        self._check_environment()
        recipes = [trial.recipe for trial in job.trials]
        saved = self.checkpointer.newest
        precision = saved.precision if saved else initial_precision(job, device)
        self.recipes = [replace(recipe, precision=precision) for recipe in recipes]
        common = self.recipes[0]
        dataset, dtype = job.trials[0].data.component, param_dtype(common.precision)
        self.arrays, images = load_dataset(dataset, job.root, str(device), dtype)
        train_index, validation_index = split_indices(self.recipes, self.arrays.train_labels, device)
        teachers = load_teachers(job.trials, self.recipes, images, job.root, device, self.stop)
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
        write_provenance(self.checkpointer, common, self.arrays, device.type, around.node)
        active = tuple(replica.trial.hash for _, replica in self.checkpointer.active)
        started, holder = time.time() - self.checkpointer.seconds_before_resume, lease.id if lease else ""
        self.emit(Started(active, common.epochs, started, self.node, holder))

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

    def release(self) -> None:
        """Refer to itself no more, so that the memory is free before the next pack, and not when Python looks for cycles."""
        self.training.between_batches, self.training.predictor = nothing, None

    def _all_diverged(self) -> bool:
        return all(replica.diverged for replica in self.checkpointer.replicas)

    def _poll(self) -> None:
        """Write a checkpoint if one is due or a stop is requested. See `PackTrainer.between_batches`."""
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
        metrics, outcomes, predictions = evaluate_test(self.training)
        for slot, replica in self.checkpointer.active:
            if not replica.diverged:
                replica.folder.write_bytes(PREDICTIONS, encode_classes(predictions[slot].cpu().numpy()))
        test_labels = self.training.data.test_labels.cpu().numpy()
        labels = write_labels(self.checkpointer.job.root, self.recipes[0].data, test_labels)
        opaque = self.recipes[0].architecture.opaque
        module = None if opaque is None else structure(opaque)
        self.checkpointer.map_active(lambda slot, replica: save_weights(self.training, slot, replica, module))
        seconds = self.checkpointer.seconds
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
