"""Evaluates a pack on its validation or test images, without side effects."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from fathomlab.base.axes import Logits
from fathomlab.engine.precision import autocast_for, param_dtype
from fathomlab.engine.state import Tensors
from fathomlab.engine.training import PackTrainer

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class EvalResult:
    """Result of an evaluation.

    Attributes:
        loss: Mean loss (nats) of each replica, float64 (k,).
        accuracy: Fraction of correct predictions of each replica, float64 (k,).
    """

    loss: Tensor
    accuracy: Tensor


@torch.no_grad()
def evaluate(
    trainer: PackTrainer, params: Tensors, buffers: Tensors, validation: bool, keep: list[Tensor] | None = None
) -> EvalResult:
    """Compute loss and accuracy of every replica with the running statistics.

    Args:
        trainer: The pack.
        params: Learned tensors by name, (k, *shape).
        buffers: Running statistics by name.
        validation: Whether to evaluate on the validation images instead of the test set.
        keep: Receives the logits of each batch, (k, n, classes).

    Returns:
        Cross-entropy with the labels, for every kind of training loss, and accuracy.
    """
    sums = torch.zeros(2, len(trainer.recipes), dtype=torch.float64, device=trainer.device)
    total = 0
    for logits, labels in predictions(trainer, params, buffers, validation):
        scores = logits.transpose(1, 2).contiguous()  # in this layout, a CPU computes many images at once
        log_p = scores.log_softmax(1)
        sums[0] -= log_p.gather(1, labels.unsqueeze(1)).squeeze(1).double().sum(1)
        sums[1] += (scores.max(1).indices == labels).sum(1)
        total += labels.shape[1]
        if keep is not None:
            keep.append(logits)
    assert total > 0, "no images to evaluate"  # 0/0 would be recorded as a divergence
    loss, accuracy = sums / total
    return EvalResult(loss, accuracy)


def predictions(
    trainer: PackTrainer, params: Tensors, buffers: Tensors, validation: bool
) -> Iterator[tuple[Logits, Int[Tensor, "k n"]]]:
    """Yield logits (k, n, classes) and labels (k, n) of every replica per batch, in the order of the images."""
    data = trainer.data
    if not validation:
        for rows in test_rows(trainer):
            labels = data.test_labels[rows].expand(len(trainer.recipes), -1)
            yield trainer.predict_stored(params, buffers, data.test_images[rows]), labels
            trainer.between_batches()
        return
    for start in range(0, trainer.validation_index.shape[1], EVALUATION_BATCH):
        index = trainer.validation_index[:, start : start + EVALUATION_BATCH]
        yield trainer.predict(params, buffers, data.batch(index)), data.labels[index]
        trainer.between_batches()


def test_rows(trainer: PackTrainer) -> Iterator[slice]:
    """Yield the rows of each batch of the test set."""
    for start in range(0, len(trainer.data.test_labels), EVALUATION_BATCH):
        yield slice(start, start + EVALUATION_BATCH)


@torch.no_grad()
def teacher_logits(trainer: PackTrainer) -> Iterator[Logits]:
    """Yield the outputs of each replica's teacher for the test set, (k, n, classes) per batch."""
    teachers = trainer.teachers
    assert teachers is not None
    for rows in test_rows(trainer):
        images = trainer.data.normalize(trainer.data.test_images[rows]).expand(len(trainer.recipes), -1, -1, -1, -1)
        with autocast_for(trainer.shared_recipe.precision, trainer.device):
            logits = teachers(images)
        yield logits.to(param_dtype(trainer.shared_recipe.precision))
        trainer.between_batches()
