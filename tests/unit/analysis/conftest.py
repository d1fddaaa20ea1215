"""Stores that are only records: what claims and audits read, created by hand."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import Verdict, judge
from fathomlab.store.datasets import dataset_info
from fathomlab.store.predictions import encode_classes, write_labels
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, FileDigest, SeedTrial, TrialRecord

FACTOR = "model.params.residual"
Value = float | str | Mapping[str, float]


class Shelf:
    """Trials by hash, as a store gives them."""

    def __init__(self, trials: Mapping[str, TrialRecord], experiments: Sequence[ExperimentRecord] = ()):
        self.trials, self.records = trials, list(experiments)

    def experiments(self) -> list[ExperimentRecord]:
        """All experiments."""
        return self.records

    def trial(self, trial: str) -> TrialRecord:
        """The record of one trial."""
        return self.trials[trial]


def trial(name: str, value: Value, content: Mapping[str, Any] | None = None, **changes: Any) -> TrialRecord:
    """A finished trial with this test accuracy (or these metrics), or one that ended in this way."""
    status = value if isinstance(value, str) else "finished"
    metrics = dict(value) if isinstance(value, Mapping) else {"test/accuracy": value, "train/loss": value}
    record = TrialRecord(
        trial=name,
        content=content or {"data": {"name": "mnist-sample"}},
        status=status,
        cause=None,
        parameters=1,
        metrics={} if isinstance(value, str) else cast(Any, metrics),
        curves={},
        provenance=Provenance(),
        seconds=1.0,
        folder=Path("nowhere"),
        dataset=dataset_info(Path("nowhere"), content or {"data": {"name": "mnist-sample"}}),
    )
    return replace(record, **changes)


def store_of(
    conditions: Sequence[tuple[Mapping[str, Any], Sequence[Value | TrialRecord]]], claims: Sequence[Any], **changes: Any
) -> tuple[Store, ExperimentRecord]:
    """A store whose conditions have these factors (`role` and `depth` among them) and these outcomes, seed by seed."""
    records: dict[str, TrialRecord] = {}
    stored = []
    for number, (factors, values) in enumerate(conditions):
        trials = []
        for seed, value in enumerate(values):
            name = f"{number:032x}{seed:032x}"
            records[name] = replace(value, trial=name) if isinstance(value, TrialRecord) else trial(name, value)
            trials.append(SeedTrial(seed, name))
        levels = {key: level for key, level in factors.items() if key not in ("role", "depth")}
        role = factors.get("role", "supervised")
        stored.append(ConditionRecord(str(number), role, levels, factors.get("depth"), tuple(trials)))
    experiment = ExperimentRecord("e", Path("nowhere"), conditions=tuple(stored), claims=tuple(claims), **changes)
    return cast(Store, Shelf(records, [experiment])), experiment


def claim(**changes: Any) -> dict[str, Any]:
    """A claim that shortcuts help."""
    return {"name": "shortcuts help", "factor": "residual", "levels": [True, False], "expect": "greater"} | changes


def with_images(folder: Path, record: TrialRecord, correct: Sequence[bool]) -> TrialRecord:
    """The trial with stored predictions of the test images; each image has class 7."""
    folder = folder / "trials" / "x"
    folder.mkdir(parents=True, exist_ok=True)
    predictions = encode_classes(np.where(np.asarray(correct, dtype=bool), 7, 3))
    (folder / "predictions.bin").write_bytes(predictions)
    files = {"predictions.bin": FileDigest(hashlib.sha256(predictions).hexdigest())}
    labels = write_labels(folder.parents[1], f"{len(correct)} images", np.full(len(correct), 7))
    return replace(record, folder=folder, files=files, labels=labels)


@pytest.fixture
def build() -> SimpleNamespace:
    """Stores and trials by hand, and the verdicts on them."""

    def judged(conditions: Any, claims: Any, **changes: Any) -> tuple[Verdict, ...]:
        return judge(study(*store_of(conditions, claims, **changes)))

    def judge_differences(differences: Sequence[float], **changes: Any) -> Verdict:
        residual = [0.5 + difference for difference in differences]
        conditions = [({FACTOR: True}, residual), ({FACTOR: False}, [0.5] * len(residual))]
        (verdict,) = judged(conditions, [claim(**changes)])
        return verdict

    return SimpleNamespace(
        claim=claim, store=store_of, trial=trial, images=with_images, judged=judged, judge=judge_differences
    )
