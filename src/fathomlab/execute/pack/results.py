"""The numbers of a pack's result: metrics and the other outcomes on the test set."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fathomlab.engine.evaluation import EvalResult, evaluate, teacher_logits
from fathomlab.engine.training import PackTrainer
from fathomlab.probes.outcome import outcome_metrics
from fathomlab.store.checksums import nan_to_none
from fathomlab.store.records import Outcome

Columns = Mapping[str, Sequence[Any]]  # name to one value per replica


def metric_columns(name: str, result: EvalResult) -> dict[str, list[float]]:
    """Return loss and accuracy of an evaluation by the names of the store."""
    return {f"{name}/loss": result.loss.tolist(), f"{name}/accuracy": result.accuracy.tolist()}


def evaluate_test(training: PackTrainer) -> tuple[Columns, list[Outcome], Tensor]:
    """Evaluate the weights after the last epoch on the test set.

    Returns:
        Metrics, the outcome of each replica, and the predicted classes, (k, n).
    """
    state = training.state
    batches: list[Tensor] = []
    last = evaluate(training, state.params, state.buffers, validation=False, keep=batches)
    teacher = torch.cat(list(teacher_logits(training)), 1) if training.teachers else None
    columns = outcome_metrics(torch.cat(batches, 1), training.data.test_labels, teacher)
    agreement = columns.get("agreement")
    outcomes = [
        Outcome(
            predicted=tuple(columns["predicted"][slot].tolist()),
            calibration_error=columns["calibration_error"][slot].item(),
            bins=tuple(map(tuple, nan_to_none(columns["bins"][slot].tolist()))),
            agreement=None if agreement is None else agreement[slot].item(),
            examples=len(training.data.test_labels),
        )
        for slot in range(len(training.recipes))
    ]
    return metric_columns("test", last), outcomes, columns["predictions"]
