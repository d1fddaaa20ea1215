"""`training.emulate`: which of its mistakes act on a trial. Those without effect are not part of the trial."""

from collections.abc import Mapping
from dataclasses import replace

from fathomlab.config.plugins import plugin_of
from fathomlab.losses import Loss
from fathomlab.losses.distillation import Distillation
from fathomlab.losses.emulated import LOSS_MISTAKES
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import BatchNorm, Dropout
from fathomlab.optim.schedules import Constant
from fathomlab.plan.data import Data
from fathomlab.plan.sections import Training


def loss_complaint(training: Training, loss: Loss) -> str:
    """Why the loss of a student cannot have the mistakes of its training; `""` if it can."""
    mistakes = [name for name in training.emulate if name in LOSS_MISTAKES]
    if not mistakes or isinstance(loss, Distillation):
        return ""
    return (
        f"{' and '.join(mistakes)} requires the loss Distillation, got {type(loss).__name__}; "
        f"remove {'it' if len(mistakes) == 1 else 'them'}, or change the loss"
    )


def acting(
    training: Training, loss: Loss | None, architecture: Architecture, data: Data
) -> tuple[Training, Mapping[str, str]]:
    """The training with the mistakes that act on a trial.

    Args:
        training: With the mistakes that the file names.
        loss: The loss of a student; None without a teacher.
        architecture: The network.
        data: The dataset and how it is augmented.

    Returns:
        The training, and the mistakes of a student that change none of its numbers, each with where that is so.
    """
    if loss is None or not training.emulate:
        return (replace(training, emulate=()) if training.emulate else training), {}
    unused = _without_effect(training, loss, architecture, data)
    return replace(training, emulate=tuple(name for name in training.emulate if name not in unused)), unused


def _without_effect(training: Training, loss: Loss, architecture: Architecture, data: Data) -> Mapping[str, str]:
    reasons: dict[str, str] = {}
    one_epoch = training.epochs == 1
    if not _depends_on_mode(architecture):
        reasons["student_eval"] = "on a network without batch normalization and dropout"
    if one_epoch:
        reasons["student_eval"] = "in a training of one epoch"
    if one_epoch and not data.augment:
        reasons["shuffled_cache"] = "in a training of one epoch without augmentation"
    if one_epoch and not training.schedule.per_step and plugin_of(training.schedule) is None:
        reasons["unmatched_schedule"] = "in a training of one epoch"
    if isinstance(training.schedule, Constant):
        reasons["unmatched_schedule"] = "without a schedule"
    if not any(need.startswith("teacher.") for need in loss.needs):
        reasons["shuffled_cache"] = "with a loss that reads nothing of the teacher"
    if isinstance(loss, Distillation):
        if loss.temperature == 1:
            reasons["no_t2"] = "at temperature 1"
        if loss.alpha == 0:
            reasons |= dict.fromkeys((*LOSS_MISTAKES, "shuffled_cache"), "at alpha 0")
    return {name: reasons[name] for name in training.emulate if name in reasons}


def _depends_on_mode(architecture: Architecture) -> bool:
    """Whether training and evaluation mode may differ; modules of plugins may do anything."""
    layers = list(walk(architecture.layers))
    return architecture.opaque is not None or any(
        isinstance(layer, BatchNorm) or (isinstance(layer, Dropout) and layer.p > 0) for layer in layers
    )
