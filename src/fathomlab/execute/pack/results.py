"""The numbers of a pack's result: metrics and the other outcomes on the test set."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fathomlab.engine.evaluation import EvalResult, evaluate, predictions, teacher_logits
from fathomlab.engine.training import PackTrainer
from fathomlab.probes.outcome import fidelity_metrics, outcome_metrics, scaled_metrics
from fathomlab.store.checksums import nan_to_none
from fathomlab.store.records import Outcome

NUMBERS = (
    "calibration_error",
    "agreement",
    "brier",
    "temperature",
    "scaled_loss",
    "scaled_calibration_error",
    "scaled_brier",
    "teacher_kl",
    "softened_kl",
)

Columns = Mapping[str, Sequence[Any]]  # name to one value per replica


def metric_columns(name: str, result: EvalResult) -> dict[str, list[float]]:
    """Return loss and accuracy of an evaluation by the names of the store."""
    return {f"{name}/loss": result.loss.tolist(), f"{name}/accuracy": result.accuracy.tolist()}


def evaluate_test(training: PackTrainer) -> tuple[Columns, list[Outcome], Tensor]:
    """Evaluate the weights after the last epoch and those of the best epoch on the test set. They are often the same.

    Returns:
        Metrics, the outcome of each replica, and the predicted classes, (k, n).
    """
    state = training.state
    batches: list[Tensor] = []
    last = evaluate(training, state.params, state.buffers, validation=False, keep=batches)
    best = last
    if (state.best.epoch != state.epoch).any():
        best = evaluate(training, state.best.params, state.best.buffers, validation=False)
    logits, labels = torch.cat(batches, 1), training.data.test_labels
    teacher = torch.cat(list(teacher_logits(training)), 1) if training.teachers else None
    columns = outcome_metrics(logits, labels, teacher) | scaled_metrics(logits, labels, *_validation(training))
    if teacher is not None:
        columns |= fidelity_metrics(logits, teacher, _temperatures(training))
    outcomes = [_outcome(columns, slot, len(labels)) for slot in range(len(training.recipes))]
    metrics = metric_columns("test", last) | metric_columns("best/test", best)
    return metrics, outcomes, columns["predictions"]


def _validation(training: PackTrainer) -> tuple[Tensor, Tensor]:
    """Outputs of the weights after the last epoch for the validation images, (k, m, classes), and their labels, (k, m)."""
    logits, state = training.validation_outputs, training.state
    if logits is None:  # interrupted after the last epoch
        batches = predictions(training, state.params, state.buffers, validation=True)
        logits = torch.cat([outputs for outputs, _ in batches], 1)
    return logits, training.data.labels[training.validation_index]


def _temperatures(training: PackTrainer) -> Tensor | None:
    """The option `temperature` of the loss of each replica, (k,); None if the loss has no such number."""
    values = [recipe.temperature for recipe in training.recipes]
    return None if None in values else torch.tensor(values, dtype=torch.float64, device=training.device)


def _outcome(columns: Mapping[str, Tensor], slot: int, examples: int) -> Outcome:
    """The outcome of one replica. A number that is not finite is None."""
    numbers = {name: columns[name][slot].item() for name in NUMBERS if name in columns}
    return Outcome(
        predicted=tuple(columns["predicted"][slot].tolist()),
        bins=tuple(map(tuple, nan_to_none(columns["bins"][slot].tolist()))),
        examples=examples,
        **nan_to_none(numbers),
    )
