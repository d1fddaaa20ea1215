"""Evaluates a pack on images that it is not trained on. Changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from fathomlab.base.shapes import Images, Logits
from fathomlab.engine.precision import products, storage
from fathomlab.engine.state import Tensors
from fathomlab.engine.training import Training
from fathomlab.losses.cross_entropy import cross_entropy

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Outcome:
    """Result of an evaluation: mean loss (nats) and accuracy (a fraction) of each replica, float64 (k,)."""

    loss: Tensor
    accuracy: Tensor


@torch.no_grad()
def evaluate(
    training: Training, values: Tensors, buffers: Tensors, validation: bool, keep: list[Tensor] | None = None
) -> Outcome:
    """Compute loss and accuracy of every replica on its validation images, or on the test set.

    Batch normalization uses the running statistics. The loss is plain cross-entropy for every trial. The logits of each batch,
    (k, n, classes), are appended to `keep`.
    """
    sums = torch.zeros(2, len(training.recipes), dtype=torch.float64, device=training.device)
    total = 0
    for logits, labels in predictions(training, values, buffers, validation):
        sums[0] += cross_entropy(logits, labels).double().sum(1)
        sums[1] += (logits.argmax(-1) == labels).sum(1)
        total += labels.shape[1]
        if keep is not None:
            keep.append(logits)
    assert total > 0, "an empty set has no loss"  # 0/0 would be recorded as a divergence
    loss, accuracy = sums / total
    return Outcome(loss, accuracy)


def predictions(
    training: Training, values: Tensors, buffers: Tensors, validation: bool
) -> Iterator[tuple[Logits, Int[Tensor, "k n"]]]:
    """Yield logits (k, n, classes) and labels (k, n) of every replica per batch, in the order of the set."""
    data = training.data
    if not validation:
        for images, labels in test_batches(training):
            yield training.predict(values, buffers, images), labels
            training.poll()
        return
    for start in range(0, training.validation_index.shape[1], EVALUATION_BATCH):
        index = training.validation_index[:, start : start + EVALUATION_BATCH]
        yield training.predict(values, buffers, data.batch(index)), data.labels[index]
        training.poll()


def test_batches(training: Training) -> Iterator[tuple[Images, Int[Tensor, "k n"]]]:
    """Yield the test set for every replica per batch: normalized images (k, n, c, h, w) and labels (k, n)."""
    data, replicas = training.data, len(training.recipes)
    for start in range(0, len(data.test_labels), EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        images = data.normalized(data.test_images[rows]).expand(replicas, -1, -1, -1, -1)
        yield images, data.test_labels[rows].expand(replicas, -1)


@torch.no_grad()
def teacher_logits(training: Training) -> Iterator[Logits]:
    """Yield the outputs of each replica's teacher for the test set, (k, n, classes) per batch."""
    teachers = training.teachers
    assert teachers is not None
    for images, _ in test_batches(training):
        with products(training.common.precision, training.device):
            logits = teachers.network(teachers.values, teachers.buffers, images, "eval")
        yield logits.to(storage(training.common.precision))
        training.poll()
