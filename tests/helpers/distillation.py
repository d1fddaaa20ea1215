"""Studies of teachers and students that are only records: accuracies, predictions, and curves by hand."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from fathomlab.analysis.study import Study, study
from fathomlab.base.identity import content_hash
from fathomlab.data import DATASETS
from fathomlab.store.predictions import encode_classes, write_labels
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import (
    ConditionRecord,
    ExperimentRecord,
    FileDigest,
    Outcome,
    SeedTrial,
    Speed,
    TrialRecord,
)

IMAGES = 200
KD = {"alpha": 0.7, "temperature": 3.0}


@dataclass(frozen=True)
class Net:
    """A condition.

    Attributes:
        accuracies: One per seed; None for a diverged trial.
        width: Of its hidden layer.
        depth: Its number of layers, if that is a question.
        teacher: Name of the condition that it learns from; "" for none.
        section: Its options in `distillation`.
        factors: Levels by dotted key.
        wrong: For each seed the test images that it gets wrong; empty for the first ones.
        outcome: Values of the outcome, the same for all seeds.
        curves: Values per epoch, the same for all seeds.
        record: Further fields of the trials.
    """

    name: str
    role: str
    accuracies: Sequence[float | None]
    width: int = 16
    depth: int | None = None
    epochs: int = 4
    teacher: str = ""
    section: Mapping[str, Any] = field(default_factory=lambda: dict(KD))
    emulate: Sequence[str] = ()
    factors: Mapping[str, Any] = field(default_factory=dict)
    wrong: Sequence[Sequence[int]] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    offset: int = 0
    augment: Sequence[str] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


def content_of(net: Net, seed: int, teacher: str) -> dict[str, Any]:
    """The resolved options of a trial."""
    params = {"hidden_layers_num": 2, "layers_dim": net.width, "input_size": 784, "class_num": 10}
    training: dict[str, Any] = {"epochs": net.epochs, "optimizer": "Adam", "lr": 0.001}
    content: dict[str, Any] = {
        "format": 3,
        "data": {"name": "mnist-sample", "batch_size": 32, "validation_split": 20.0, "limit": None},
        "model": {"type": "MLP", "params": params},
        "training": training,
        "probes": {},
        "seed": seed + net.offset,
    }
    content["data"]["augment"] = list(net.augment)
    if net.teacher:
        content["distillation"] = dict(net.section)
        content["parents"] = {"teacher": [teacher]}
        training |= {"emulate": list(net.emulate)} if net.emulate else {}
    return content


def study_of(root: Path | None, nets: Sequence[Net], claims: Sequence[Any] = (), **changes: Any) -> Study:
    """The study of these conditions. Predictions are written to `root`; there are none without it.

    Args:
        root: An empty directory, or None.
        nets: The conditions, teachers first.
        claims: As in an experiment file.
        changes: Fields of the record of the experiment.
    """
    records: dict[str, TrialRecord] = {}
    hashes: dict[tuple[str, int], str] = {}
    conditions: list[ConditionRecord] = []
    for net in nets:
        trials: list[SeedTrial] = []
        for seed, accuracy in enumerate(net.accuracies):
            content = content_of(net, seed, hashes.get((net.teacher, seed), "0" * 64))
            name = hashes[net.name, seed] = content_hash({**content, "net": net.name})
            records[name] = _record(root, net, seed, name, content, accuracy)
            trials.append(SeedTrial(seed, name))
        conditions.append(ConditionRecord(net.name, net.role, net.factors, net.depth, tuple(trials)))
    seeds = tuple(range(max(len(net.accuracies) for net in nets)))
    fields = {
        "title": "Distillation",
        "seeds": seeds,
        "conditions": tuple(conditions),
        "claims": tuple(claims),
    } | changes
    experiment = ExperimentRecord("distill", root or Path("nowhere"), **cast(Any, fields))
    return study(cast(Store, _Shelf(records, experiment)), experiment)


class _Shelf:
    """Trials by hash, as a store gives them."""

    def __init__(self, trials: Mapping[str, TrialRecord], experiment: ExperimentRecord):
        self.trials, self.record = trials, experiment

    def experiments(self) -> list[ExperimentRecord]:
        """The only experiment."""
        return [self.record]

    def trial(self, trial: str) -> TrialRecord:
        """The record of one trial."""
        return self.trials[trial]


def _record(
    root: Path | None, net: Net, seed: int, name: str, content: dict[str, Any], accuracy: float | None
) -> TrialRecord:
    predicted: dict[str, Any] = {}
    if root is not None and accuracy is not None:
        count = round(IMAGES * (1 - accuracy))
        wrong = net.wrong[seed] if net.wrong else range(count)
        predicted = _predictions(root, name, wrong)
    curves: dict[str, Any] = {"epoch": [*range(1, net.epochs + 1)], "step": [*range(10, 10 * net.epochs + 1, 10)]}
    metrics = {} if accuracy is None else {"test/accuracy": accuracy, "test/loss": 0.3, **net.metrics}
    fields: dict[str, Any] = {
        "status": "diverged" if accuracy is None else "finished",
        "cause": None,
        "parameters": 1000 * net.width,
        "seconds": 2.0 * net.epochs,
        "outcome": Outcome(**{"examples": IMAGES, **net.outcome}) if accuracy is not None else Outcome(),
        "folder": Path("nowhere"),
        **predicted,
        **net.record,
    }
    return TrialRecord(
        trial=name,
        content=content,
        metrics=metrics,
        curves={**curves, **{key: list(values) for key, values in net.curves.items()}},
        provenance=Provenance(),
        dataset=DATASETS["mnist-sample"].info,
        **fields,
    )


def _predictions(root: Path, name: str, wrong: Sequence[int] | range) -> dict[str, Any]:
    """Predictions of images of classes 0 to 9 in turn; wrong ones are the next class."""
    folder = root / "trials" / name
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(IMAGES) % 10
    classes = labels.copy()
    classes[list(wrong)] = (classes[list(wrong)] + 1) % 10
    data = encode_classes(classes)
    (folder / "predictions.bin").write_bytes(data)
    files = {"predictions.bin": FileDigest(hashlib.sha256(data).hexdigest())}
    return {"folder": folder, "files": files, "labels": write_labels(root, "images", labels)}


SPEED = Speed(0.0005, 0.0009, 40_000.0, 256)


def suite(root: Path | None = None, **changes: Any) -> Study:
    """A teacher, a baseline, a student with all controls, and a student with a mistake, over five seeds."""
    rng = np.random.default_rng(0)

    def around(level: float) -> list[float]:
        return [round(level + value, 4) for value in rng.normal(0, 0.003, 5)]

    base = around(0.80)

    def above(gain: float, spread: float = 0.003) -> list[float]:
        return [round(value + gain + noise, 4) for value, noise in zip(base, rng.normal(0, spread, 5), strict=True)]

    def outcome(ece: float, kl: float | None = None, **also: Any) -> dict[str, Any]:
        scaled = {"scaled_loss": 0.28, "scaled_calibration_error": 0.012, "scaled_brier": 0.14, "temperature": 1.4}
        like = {} if kl is None else {"teacher_kl": kl, "softened_kl": kl / 2}
        return {"calibration_error": ece, "brier": 0.15, **scaled, **like, **also}

    def curves(share: float) -> dict[str, Any]:
        shares = [share, share + 0.02, share + 0.03, share + 0.03]
        return {"distillation/soft_share": shares, "distillation/cosine": [0.6, 0.4, 0.2, -0.1]}

    def placebo(name: str, gain: float) -> Net:
        section = {**KD, "placebo": name}
        factors = {"distillation.placebo": name}
        values, like = above(gain), outcome(0.03, 0.4, agreement=0.8)
        return Net(name, "distilled", values, teacher="teacher", section=section, factors=factors, outcome=like)

    record = {"speed": SPEED}
    taught: dict[str, Any] = {"teacher": "teacher", "record": record, "outcome": outcome(0.02, 0.1, agreement=0.9)}
    none = {"distillation.placebo": None}
    nets = [
        Net("teacher", "teacher", above(0.08), width=64, epochs=6, outcome=outcome(0.05), record=record),
        Net("baseline", "baseline", base, outcome=outcome(0.06), record=record),
        Net("longer", "longer", above(0.01), epochs=33, outcome=outcome(0.06), record=record),
        Net("distilled", "distilled", above(0.05), **taught, factors=none, curves=curves(0.5)),
        placebo("label_smoothing", 0.01),
        placebo("shuffled", 0.005),
        placebo("class_mean", 0.02),
        placebo("within_class", 0.025),
        Net("self", "self", above(0.02), teacher="baseline", outcome=outcome(0.03, 0.2, agreement=0.85)),
        Net("no_t2", "distilled", above(0.06), **taught, emulate=["no_t2"], curves=curves(0.01)),
    ]
    return study_of(root, nets, **changes)
