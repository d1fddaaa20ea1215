"""Contrasts of an experiment whose factor are mistakes of distillation code, from a plan and from a run."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.analysis.audit import audit
from fathomlab.analysis.contrasts import contrast
from fathomlab.analysis.study import study
from fathomlab.store.reading import Store

KEY = "training_student.emulate"
MISTAKES = ["no_t2", "shuffled_cache", "student_eval", "unmatched_schedule"]
LEVELS: list[list[str]] = [[], *([name] for name in MISTAKES), ["no_t2", "mean_reduction"]]
CONFIG: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 120, "batch_size": 40},
    "teacher_model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1}},
    "student_model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1, "batch_norm": True}},
    "training_teacher": {"epochs": 1},
    "training_student": {"epochs": 3, "lr": 0.01, "scheduler": "StepLR"},
    "distillation": {"alpha": 0.9},
    "experiment": {"seeds": 2, "factors": {KEY: LEVELS}},
    "claims": [
        *(
            {"name": f"gain {level}", "factor": "role", "levels": ["distilled", "baseline"], "expect": "greater"}
            | {"at": {"emulate": level}}
            for level in LEVELS
        ),
        {"name": "order", "factor": "emulate", "levels": [["mean_reduction", "no_t2"], []], "expect": "less"},
        {"name": "mean", "factor": "role", "levels": ["distilled", "baseline"], "expect": "greater"},
    ],
}


def test_contrasts_pair_each_level_with_one_baseline(tmp_path: Path):
    run = fathomlab.run(CONFIG, runs=tmp_path, workers=1, progress="off")
    assert len(run) == 2 * (2 + len(LEVELS))
    store = Store(tmp_path)
    (record,) = store.experiments()
    read = study(store, record)
    ((_, first), (_, second)) = (baseline := read.with_role("baseline"))[0].trials
    assert len(baseline) == 1
    contrasts = [contrast(read, claim) for claim in read.claims]
    for level, each in zip(LEVELS, contrasts, strict=False):
        student, other = each.arms
        assert [pair.seed for pair in each.pairs] == [0, 1]
        assert [item.record.factors for item in student.conditions] == [{KEY: sorted(level)}]
        assert other.conditions == baseline
        assert [pair.second for pair in each.pairs] == [first.metrics["test/accuracy"], second.metrics["test/accuracy"]]
    assert len(contrasts[-2].pairs) == len(contrasts[-1].pairs) == 2
    assert len(contrasts[-1].arms[0].conditions) == len(LEVELS)

    for level, found in zip(LEVELS, audit(read), strict=False):
        differences = [finding.property for finding in found.unexpected]
        assert differences == (["training.emulate"] if level else [])
    assert [finding.property for finding in audit(read)[-2].unexpected] == []

    curves = {item.record.label: item.trials[0][1].curves for item in read.conditions}
    right, evaluating = curves["distilled emulate=none"], curves["distilled emulate=student_eval"]
    assert curves["distilled emulate=unmatched_schedule"]["lr"] == [0.01] * 3
    assert right["lr"] == curves["baseline"]["lr"] == pytest.approx([0.01, 0.001, 0.0001])
    assert evaluating["train/loss"][0] == right["train/loss"][0]
    assert evaluating["train/loss"][1] != right["train/loss"][1]
