"""Trains one pack and keeps everything that it finds in the trials' folders."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fathomlab import data as datasets
from fathomlab.base.problems import UserError
from fathomlab.data.split import limited
from fathomlab.data.table import Split
from fathomlab.engine.images import Pictures, pictures, splits
from fathomlab.engine.loop import Snapshot, train
from fathomlab.engine.precision import choose_precision, storage
from fathomlab.engine.recipe import Recipe
from fathomlab.engine.training import Outcome, Teachers, Training, evaluate
from fathomlab.models.network import Network
from fathomlab.plan import Trial
from fathomlab.probes.table import PROBES
from fathomlab.run import provenance
from fathomlab.run.cost import compiling_pays
from fathomlab.run.failure import record_failure
from fathomlab.run.resolve import recipe
from fathomlab.store.checkpoints import load_tensors, save_tensors
from fathomlab.store.reading import Store
from fathomlab.store.writing import TrialFolder

Emit = Callable[[Mapping[str, Any]], None]
TEACHER_BATCH = 512


def choose_device(name: str) -> torch.device:
    """The device that `--device` names.

    Raises:
        UserError: It is not here.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here. Use --device cpu or auto.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


@dataclass
class Replica:
    """A trial of the pack while it is trained."""

    trial: Trial
    folder: TrialFolder
    metrics: dict[str, Any]
    diverged: int = 0


def train_pack(
    trials: Sequence[Trial], root: Path, device_name: str, emit: Emit, logging: Mapping[str, Any] | None = None
) -> None:
    """Train trials of one signature as one tensor program.

    A pack of several that raises is trained again one by one, so that only the guilty trial fails.
    """
    try:
        _Pack(trials, root, choose_device(device_name), emit, logging or {}).run()
    except KeyboardInterrupt:
        raise
    except Exception as error:
        if len(trials) > 1:
            for trial in trials:
                if Store(root).trial(trial.hash).status not in ("finished", "diverged"):
                    train_pack([trial], root, device_name, emit, logging)
            return
        cause = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        record_failure(trials[0], root, cause, emit, logging)


class _Pack:
    """One pack from its data to its results."""

    def __init__(
        self, trials: Sequence[Trial], root: Path, device: torch.device, emit: Emit, logging: Mapping[str, Any]
    ):
        self.started = time.monotonic()
        self.root, self.device, self.emit = root, device, emit
        planned = [recipe(trial) for trial in trials]
        asked = planned[0]
        precision = choose_precision(asked.precision, asked.architecture, asked.batch_size, device)
        self.recipes = [replace(own, precision=precision) for own in planned]
        common = self.recipes[0]
        split, images = _images(common.data, device.type, storage(common.precision))
        train_index, validation_index = splits(self.recipes, split.train_labels, device)
        teachers = _teachers(trials, self.recipes, images, root, device) if common.teaching else None
        compiled = device.type == "cpu" and compiling_pays(self.recipes, train_index.shape[1])
        self.training = Training(self.recipes, images, train_index, validation_index, device, teachers, compiled)
        self.replicas = [Replica(trial, TrialFolder(root, trial.hash, trial.content, logging), {}) for trial in trials]
        self.probes = [PROBES[name]() for name in trials[0].content["probes"]]
        self.split, self.said_compiled = split, compiled
        self._provenance()
        emit({"event": "started", "trials": [trial.hash for trial in trials], "epochs": common.epochs})

    def run(self) -> None:
        """Train, measure, test, and write the results."""
        steps = frozenset({0, 1}) if self.probes else frozenset[int]()
        for snapshot in train(self.training, steps):
            self._measure(snapshot)
            if snapshot.validation is not None:
                self._epoch(snapshot)
                if all(replica.diverged for replica in self.replicas):
                    break
        self._finish()

    def _measure(self, snapshot: Snapshot) -> None:
        for probe in self.probes:
            record = probe.measure(self.training)
            for place, replica in enumerate(self.replicas):
                if not replica.diverged:
                    own = {
                        name: row[place].tolist() if isinstance(row, Tensor) else row for name, row in record.items()
                    }
                    replica.folder.append("gradients.jsonl", {"step": snapshot.step, "epoch": snapshot.epoch, **own})

    def _epoch(self, snapshot: Snapshot) -> None:
        assert snapshot.train is not None
        assert snapshot.validation is not None
        bad_steps = self.training.state.bad_step.tolist()
        seconds = (time.monotonic() - self.started) / len(self.replicas)
        rows = {**_metrics("train", snapshot.train), **_metrics("val", snapshot.validation)}
        for place, replica in enumerate(self.replicas):
            if replica.diverged:
                continue
            metrics = {name: row[place] for name, row in rows.items()}
            if snapshot.objective is not None and not self.recipes[place].plain:
                metrics["train/objective"] = float(snapshot.objective[place])
            record = {"epoch": snapshot.epoch, "step": snapshot.step, "lr": snapshot.lr[place], **metrics}
            replica.folder.append("metrics.jsonl", record | {"seconds": seconds})
            replica.diverged = bad_steps[place]
            replica.metrics.update(metrics)
            self.emit({"event": "epoch", "trial": replica.trial.hash, "epoch": snapshot.epoch, **metrics})

    def _finish(self) -> None:
        state = self.training.state
        if self.training.compiled != self.said_compiled:
            self._provenance()
        last = evaluate(self.training, state.values, state.buffers, validation=False)
        best = last
        if not bool((state.best.epoch == state.epoch).all()):
            best = evaluate(self.training, state.best.values, state.best.buffers, validation=False)
        rows = {**_metrics("test", last), **_metrics("best/test", best)}
        for place, replica in enumerate(self.replicas):
            if not replica.diverged:
                self._save(replica, place)
        seconds = (time.monotonic() - self.started) / len(self.replicas)
        for place, replica in enumerate(self.replicas):
            metrics = replica.metrics | {name: row[place] for name, row in rows.items()}
            metrics["best/epoch"] = int(state.best.epoch[place])
            metrics["best/val/accuracy"] = float(state.best.accuracy[place])
            status, cause = "finished", None
            if replica.diverged:
                status = "diverged"
                cause = f"the loss was not finite at step {replica.diverged}"
                metrics = {
                    name: None if name.startswith(("test/", "best/")) else value for name, value in metrics.items()
                }
            facts = {
                "parameters": self.recipes[place].architecture.numel,
                "epochs": state.epoch,
                "steps": state.step,
                "seconds": seconds,
            }
            result = replica.folder.finish(status, cause, metrics, facts)
            self.emit(
                {
                    "event": "finished",
                    **{key: result[key] for key in ("trial", "status", "cause", "seconds", "metrics")},
                }
            )

    def _save(self, replica: Replica, place: int) -> None:
        state = self.training.state
        about = {"trial": replica.trial.hash, "epoch": state.epoch, "step": state.step}
        for name, tensors in (
            ("checkpoint", {**state.values, **state.buffers}),
            ("best", {**state.best.values, **state.best.buffers}),
        ):
            own = {key: tensor[place] for key, tensor in tensors.items()}
            epoch = int(state.best.epoch[place]) if name == "best" else state.epoch
            save_tensors(replica.folder.path / f"{name}.safetensors", own, about | {"epoch": epoch})

    def _provenance(self) -> None:
        split = self.split
        hardware = dict(provenance.hardware())
        if self.device.type == "cuda":
            hardware["gpu"] = torch.cuda.get_device_name(self.device)
        shared = {
            **provenance.machine(),
            "hardware": hardware,
            "device": self.device.type,
            "precision": self.recipes[0].precision,
            "compiled": self.training.compiled,
            "threads": torch.get_num_threads(),
            "data": {
                "name": json.loads(self.recipes[0].data)["name"],
                "files": dict(split.files),
                "unofficial": list(split.unofficial),
                "notes": list(split.notes),
            },
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        for place, replica in enumerate(self.replicas):
            replica.folder.write("provenance.json", shared | {"pack": {"size": len(self.replicas), "place": place}})


def _metrics(name: str, outcome: Outcome) -> dict[str, list[float]]:
    return {f"{name}/loss": outcome.loss.tolist(), f"{name}/accuracy": outcome.accuracy.tolist()}


@lru_cache(maxsize=2)
def _images(data: str, device: str, dtype: torch.dtype) -> tuple[Split, Pictures]:
    """A data set on the device, kept between packs."""
    choice = json.loads(data)
    split = datasets.load(choice["name"], choice["params"])
    return split, pictures(split, datasets.DATASETS[choice["name"]].facts, torch.device(device), dtype)


def _teachers(
    trials: Sequence[Trial], recipes: Sequence[Recipe], images: Pictures, root: Path, device: torch.device
) -> Teachers:
    """The teachers of a pack of students, with their logits for every training image, stored beside them."""
    dtype = storage(recipes[0].precision)
    columns, logits = [], []
    rows = torch.arange(len(images.labels), device=device)
    if recipes[0].limit is not None:
        rows = torch.from_numpy(limited(images.labels.cpu().numpy(), recipes[0].limit)).to(device)
    for trial, own in zip(trials, recipes, strict=True):
        assert trial.teacher is not None
        assert own.teaching is not None
        folder = root / "trials" / trial.teacher.hash
        if not (folder / "checkpoint.safetensors").exists():
            raise UserError(
                f"its teacher, trial {trial.teacher.hash[:12]}, has no weights: it failed or was not trained"
            )
        tensors, _ = load_tensors(folder / "checkpoint.safetensors")
        columns.append({name: tensor.to(device, dtype) for name, tensor in tensors.items()})
        network = Network([own.teaching.architecture], device)
        logits.append(_teacher_logits(folder, network, columns[-1], images, rows).to(dtype))
    stacked = {name: torch.stack([column[name] for column in columns]) for name in columns[0]}
    network = Network([own.teaching.architecture for own in recipes if own.teaching], device)
    return Teachers(torch.stack(logits), network, stacked, stacked)


@torch.no_grad()
def _teacher_logits(
    folder: Path, network: Network, tensors: dict[str, Tensor], images: Pictures, rows: Tensor
) -> Tensor:
    """A teacher's outputs for the un-augmented training images at `rows`, in a table (n, classes) over all of them.

    They are stored beside the teacher with the rows that they belong to, and reused by every later student.
    """
    path = folder / "logits.safetensors"
    device = images.images.device
    table = torch.full((len(images.images), network.architecture.classes), torch.nan, device=device)
    if path.exists():
        stored, about = load_tensors(path)
        if about.get("trial") == folder.name and torch.equal(stored["rows"], rows.cpu()):
            table[rows] = stored["logits"].to(device)
            return table
    single = {name: tensor.unsqueeze(0) for name, tensor in tensors.items()}
    for start in range(0, len(rows), TEACHER_BATCH):
        some = rows[start : start + TEACHER_BATCH]
        batch = images.normalised(images.images[some]).unsqueeze(0)
        table[some] = network(single, single, batch, "eval")[0].float()
    save_tensors(path, {"logits": table[rows], "rows": rows}, {"trial": folder.name})
    return table
