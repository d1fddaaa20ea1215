"""How much a loss takes from the teacher and how much from the labels, as gradients with respect to the logits."""

from functools import reduce
from operator import add

import torch
from torch import Tensor

from fathomlab.base.axes import Indices, PerExample
from fathomlab.base.counter_rng import splitmix64
from fathomlab.engine.loop import image_order
from fathomlab.engine.training import PackTrainer

IMAGES = 256
KEY = 0  # of the order in which images are chosen
HARD = "labels"  # term of a loss for students that reads the labels
NEEDED = frozenset({"teacher.logits"})  # other losses also depend on more than the logits
SHARE, COSINE = "distillation/soft_share", "distillation/cosine"


class GradientBalance:
    """Compares two gradients of the loss with respect to the student's logits on a fixed batch of training images.

    The hard gradient is that of the term `labels`, the soft one that of the sum of all other terms, each weighted as in the loss.
    The batch has up to 256 training images of the replica, without augmentation. A hash of their index chooses them, so that
    every class is in the batch even if the images are sorted by class. The student has its current weights and running
    statistics, in evaluation mode, so that neither dropout nor batch statistics change. Targets are those of training for images
    without augmentation; with a shuffled cache, those of the images at the same positions of the first epoch. Training does not
    change, and no random number is drawn.

    Attributes:
        index: Indices of the images in the training set, (k, n).
    """

    def __init__(self, trainer: PackTrainer):
        """Choose the images."""
        order = splitmix64(torch.tensor(KEY, device=trainer.device), trainer.train_index).argsort(dim=1, stable=True)
        self.trainer, self.index = trainer, trainer.train_index.gather(1, order[:, :IMAGES])

    def measure(self) -> dict[str, list[float]]:
        """Measure the current weights of each replica.

        Returns:
            `distillation/soft_share`: |soft| / (|soft| + |hard|), from 0 to 1; Euclidean norms over the batch.
            `distillation/cosine`: cosine of the angle between both. NaN if a norm it needs is 0. Empty without a teacher, for a
            loss that needs more than logits and labels, and for a loss that does not name its terms.
        """
        trainer, index = self.trainer, self.index
        if trainer.teachers is None or not trainer.shared_recipe.loss.needs <= NEEDED:
            return {}
        state = trainer.state
        logits = trainer.predict(state.params, state.buffers, trainer.batch(index, None)).detach()
        targets = trainer.teacher_logits(self._taught_index(), None)
        with torch.enable_grad():
            logits.requires_grad_()
            terms = dict(trainer.terms(logits, trainer.data.labels[index], targets))
            hard = terms.pop(HARD, None)
            if hard is None or not terms:
                return {}
            gradients = [_gradient(term, logits) for term in (hard, reduce(add, terms.values()))]
        hard_norm, soft_norm = (gradient.norm(dim=1) for gradient in gradients)
        product = (gradients[0] * gradients[1]).sum(1)
        return {
            SHARE: (soft_norm / (soft_norm + hard_norm)).tolist(),
            COSINE: (product / (soft_norm * hard_norm)).tolist(),
        }

    def _taught_index(self) -> Indices:
        """The images whose outputs the images of the batch got in the last epoch, (k, n)."""
        trainer = self.trainer
        if "shuffled_cache" not in trainer.shared_recipe.emulate:
            return self.index
        first, last = (image_order(trainer, epoch) for epoch in (0, max(0, trainer.state.epoch - 1)))
        taught = torch.zeros(len(last), len(trainer.data.labels), dtype=torch.int64, device=trainer.device)
        return taught.scatter_(1, last, first).gather(1, self.index)


def _gradient(term: PerExample, logits: Tensor) -> Tensor:
    """The gradient of a term, summed over the batch, in float64 (k, n * classes); zeros if it does not depend on the logits."""
    if not term.requires_grad:
        return torch.zeros_like(logits, dtype=torch.float64).flatten(1)
    (gradient,) = torch.autograd.grad(term.sum(), logits, retain_graph=True, allow_unused=True)
    return (torch.zeros_like(logits) if gradient is None else gradient).double().flatten(1)
