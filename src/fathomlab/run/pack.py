"""Trains one pack and stores its logs, checkpoints, weights, and results in the trials' folders."""

import errno
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fathomlab.base.codec import to_plain
from fathomlab.base.errors import UserError
from fathomlab.engine.cuda_graph import CudaGraphStep
from fathomlab.engine.device_data import split_indices
from fathomlab.engine.evaluation import EvalResult, evaluate, teacher_logits
from fathomlab.engine.loop import Progress, train
from fathomlab.engine.precision import choose_precision, param_dtype
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.training import PackTrainer
from fathomlab.plan import Trial
from fathomlab.probes.outcome import outcome_metrics
from fathomlab.probes.schedule import snapshot_steps
from fathomlab.run import provenance
from fathomlab.run.checkpointer import Checkpointer, Replica
from fathomlab.run.cost import compiling_pays, runs_apart
from fathomlab.run.devices import choose_device
from fathomlab.run.environment import environment
from fathomlab.run.failure import record_failure
from fathomlab.run.inputs import images_of, teachers_of
from fathomlab.run.resume import kernels
from fathomlab.run.settings import deterministic
from fathomlab.run.signals import Stopped
from fathomlab.store.reading import trial_status
from fathomlab.store.records import TERMINAL_STATUSES
from fathomlab.store.weights import save_tensors

Emit = Callable[[Mapping[str, Any]], None]
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EFBIG}


@dataclass(frozen=True)
class Order:
    """Execution options of a pack.

    Attributes:
        root: The store.
        device: auto, cpu, or cuda.
        logging: Stored with each trial for exporters.
        checkpoint_seconds: Time between two checkpoints (s); None spends at most 1% of the time on them.
        stop: Returns a signal number to request a checkpoint and the end; called between two steps.
    """

    root: Path
    device: str = "auto"
    logging: Mapping[str, Any] = field(default_factory=dict[str, Any])
    checkpoint_seconds: float | None = None
    stop: Callable[[], int | None] = lambda: None


def train_pack(trials: Sequence[Trial], order: Order, emit: Emit) -> None:
    """Train trials of one signature as one tensor program. Finished trials only keep their slots.

    If a pack of several trials raises an error, its trials are trained one by one, so that only the faulty trial fails.

    Raises:
        Stopped: If `order.stop` requested it. A checkpoint has been written.
    """
    try:
        try:
            _Pack(trials, order, emit).run()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK:
                raise
            if len(trials) > 1:
                for trial in trials:
                    if trial_status(order.root, trial.hash) not in TERMINAL_STATUSES:
                        train_pack([trial], order, emit)
                return
            cause = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            record_failure(trials[0], order.root, cause, emit, order.logging)
    except OSError as error:
        if error.errno not in DISK:
            raise
        free = shutil.disk_usage(order.root).free / 1e6
        text = f"{order.root}: cannot write results: {error.strerror} ({free:.1f} MB free)."
        emit({"event": "warning", "text": f"{text} Run the same command again to resume."})


class _Pack:
    """One pack from its data to its results."""

    def __init__(self, trials: Sequence[Trial], order: Order, emit: Emit):
        device = choose_device(order.device)
        self.order, self.emit, self.device = order, emit, device
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        self.environment = environment(device.type, gpu, kernels())
        self.checkpointer = Checkpointer(trials, order.root, self.environment, order.checkpoint_seconds, emit)
        planned = [trial.recipe for trial in trials]
        asked, begun = planned[0], self.checkpointer.resumed_numerics()
        precision = (
            begun[0] if begun else choose_precision(asked.precision, asked.architecture, asked.batch_size, device)
        )
        self.recipes = [replace(own, precision=precision) for own in planned]
        common = self.recipes[0]
        self.split, images = images_of(common.data, device.type, param_dtype(common.precision))
        train_index, validation_index = split_indices(self.recipes, self.split.train_labels, device)
        teachers = teachers_of(trials, self.recipes, images, order.root, device) if common.teacher else None
        compiled = begun[1] if begun else device.type == "cpu" and compiling_pays(self.recipes, train_index.shape[1])
        apart = runs_apart(common.architecture)
        self.training = PackTrainer(
            self.recipes, images, train_index, validation_index, device, teachers, compiled, apart
        )
        if device.type == "cuda":
            self.training.captured_step = CudaGraphStep(self.training)
        self.training.between_batches = self._poll
        self.probes = {probe.name: (probe.component, probe.at) for probe in trials[0].probes}
        self.checkpointer.load(self.training, order.logging)
        self.said_compiled = self.training.compiled
        self._provenance()
        emit(
            {
                "event": "started",
                "trials": [replica.trial.hash for _, replica in self.checkpointer.active],
                "epochs": common.epochs,
            }
        )

    def run(self) -> None:
        """Train, measure, test, and write the results."""
        each, epochs = self.training.steps_per_epoch, self.training.shared_recipe.epochs
        due = {name: snapshot_steps(at, each, epochs) for name, (_, at) in self.probes.items()}
        over = self._over()  # interrupted during the test
        for snapshot in () if over else train(self.training, frozenset[int]().union(*due.values())):
            for name, (probe, _) in self.probes.items():
                if snapshot.step in due[name]:
                    self._measure(name, probe, snapshot)
            if snapshot.validation is not None:
                self._epoch(snapshot)
                if self._over():
                    break
                if self.checkpointer.due(ends_epoch=True):
                    self.checkpointer.save(self.training)
        self._finish()

    def _over(self) -> bool:
        """Whether all replicas have diverged."""
        return all(replica.diverged for replica in self.checkpointer.replicas)

    def _poll(self) -> None:
        """Called between two steps or two batches of an evaluation: write a checkpoint if one is due or a stop is requested."""
        signum = self.order.stop()
        if signum is not None or self.checkpointer.due(ends_epoch=False):
            self.checkpointer.save(self.training)
        if signum is not None:
            raise Stopped(signum)

    def _measure(self, name: str, probe: Any, snapshot: Progress) -> None:
        record, bad = _measured(probe, self.training), self.training.state.diverged_at_step.tolist()
        for place, replica in self.checkpointer.active:
            if not bad[place]:
                own = {key: row[place].tolist() if isinstance(row, Tensor) else row for key, row in record.items()}
                self.checkpointer.append(
                    replica, f"{name}.jsonl", {"step": snapshot.step, "epoch": snapshot.epoch, **own}
                )

    def _epoch(self, snapshot: Progress) -> None:
        assert snapshot.train is not None
        assert snapshot.validation is not None
        bad_steps = self.training.state.diverged_at_step.tolist()
        rows = {**_metrics("train", snapshot.train), **_metrics("val", snapshot.validation)}
        for place, replica in self.checkpointer.active:
            if replica.diverged:
                continue
            replica.diverged = bad_steps[place]
            metrics = {name: float("nan") if replica.diverged else row[place] for name, row in rows.items()}
            if snapshot.objective is not None and not self.recipes[place].plain and not replica.diverged:
                metrics["train/objective"] = float(snapshot.objective[place])
            record = {"epoch": snapshot.epoch, "step": snapshot.step, "lr": snapshot.lr[place], **metrics}
            self.checkpointer.append(replica, "metrics.jsonl", record | {"seconds": self.checkpointer.seconds})
            replica.metrics.update(metrics)
            self.emit({"event": "epoch", "trial": replica.trial.hash, "epoch": snapshot.epoch, **metrics})

    def _finish(self) -> None:
        state = self.training.state
        if self.training.compiled != self.said_compiled:
            self._provenance()
        shown = self._test()
        best = evaluate(self.training, state.best.params, state.best.buffers, validation=False)
        self.checkpointer.map_active(self._save)
        rows = {**_metrics("best/test", best), **{name: row for name, row in shown.items() if "/" in name}}
        found = {name: row for name, row in shown.items() if "/" not in name}
        for result in self.checkpointer.map_active(lambda place, replica: self._result(place, replica, rows, found)):
            told = ("trial", "status", "cause", "seconds", "metrics")
            self.emit({"event": "finished", **{key: result[key] for key in told}})
        self.checkpointer.clear()

    def _result(
        self, place: int, replica: Replica, rows: Mapping[str, Any], found: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the result of one trial, which finishes it."""
        state = self.training.state
        metrics = replica.metrics | {name: row[place] for name, row in rows.items()}
        metrics["best/epoch"] = int(state.best.epoch[place])
        metrics["best/val/accuracy"] = float(state.best_accuracy[place])
        facts: dict[str, Any] = {
            "parameters": self.recipes[place].architecture.num_params,
            "epochs": state.epoch,
            "steps": state.step,
            "seconds": self.checkpointer.seconds,
        }
        if replica.diverged:
            lost = {name: None if name.startswith(("test/", "best/")) else own for name, own in metrics.items()}
            cause = f"the loss was not finite at step {replica.diverged}"
            return replica.folder.finish("diverged", cause, lost, facts)
        facts["outcome"] = {name: row[place] for name, row in found.items()}
        return replica.folder.finish("finished", None, metrics, facts)

    def _test(self) -> dict[str, Any]:
        """Test-set results of the weights after the last epoch: for each number, a list over the replicas."""
        training, state = self.training, self.training.state
        kept: list[Tensor] = []
        last = evaluate(training, state.params, state.buffers, validation=False, keep=kept)
        taught = torch.cat(list(teacher_logits(training)), 1) if training.teachers else None
        found = outcome_metrics(torch.cat(kept, 1), training.data.test_labels, taught)
        for place, replica in self.checkpointer.active:
            if not replica.diverged:
                packed = np.packbits(found["correct"][place].cpu().numpy())
                replica.folder.write_bytes("correct.bin", packed.tobytes())
        rows = {name: row.tolist() for name, row in found.items() if isinstance(row, Tensor) and name != "correct"}
        alone: dict[str, Any] = {"agreement": [None] * len(self.recipes)}
        examples = [len(training.data.test_labels)] * len(self.recipes)
        return {**_metrics("test", last), **alone, **rows, "examples": examples}

    def _save(self, place: int, replica: Replica) -> None:
        """Write the weights after the last epoch (the last finite ones if the replica diverged) and the best weights."""
        state = self.training.state
        last = (state.last_finite if replica.diverged else None) or state
        epochs = int(state.last_finite.epoch[place]) if replica.diverged else state.epoch
        for name, kept, epoch in (("checkpoint", last, epochs), ("best", state.best, int(state.best.epoch[place]))):
            own = {key: tensor[place] for key, tensor in {**kept.params, **kept.buffers}.items()}
            about = {"trial": replica.trial.hash, "epoch": epoch, "step": epoch * self.training.steps_per_epoch}
            save_tensors(replica.folder.path / f"{name}.safetensors", own, about)

    def _provenance(self) -> None:
        split = self.split
        machine = provenance.machine()
        shared = {
            **machine,
            "hardware": {**machine["hardware"], "gpu": self.environment["gpu"]},
            "environment": self.environment,
            "device": self.device.type,
            "precision": self.recipes[0].precision,
            "compiled": self.training.compiled,
            "threads": torch.get_num_threads(),
            "deterministic": deterministic(),
            "data": {
                "name": json.loads(self.recipes[0].data)["name"],
                "files": dict(split.files),
                "unofficial": list(split.modified),
                "notes": list(split.notes),
            },
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "resumed": [to_plain(item) for item in self.checkpointer.resumed],
        }
        members = [replica.trial.hash for replica in self.checkpointer.replicas]
        for place, replica in self.checkpointer.active:
            pack = {"size": len(members), "place": place, "members": members}
            replica.folder.write("provenance.json", shared | {"pack": pack})


def _measured(probe: Any, training: PackTrainer) -> dict[str, Any]:
    """Measure each replica; replicas that run as separate networks are measured one by one."""
    if not training.replica_trainers:
        return probe.measure(Snapshot(training))
    found = [probe.measure(Snapshot(part)) for part in training.replica_trainers]
    return {
        name: torch.cat([own[name] for own in found]) if isinstance(first, Tensor) else first
        for name, first in found[0].items()
    }


def _metrics(name: str, outcome: EvalResult) -> dict[str, list[float]]:
    return {f"{name}/loss": outcome.loss.tolist(), f"{name}/accuracy": outcome.accuracy.tolist()}
