"""What a plan can know before training: the sizes of the splits, and batches too small for batch normalization."""

from fathomlab.base.errors import Issue
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import BatchNorm, Layers, Residual, Shape, Shortcut, inside_shortcut
from fathomlab.plan.sections import Data

SMALL_BATCH = 8


def data_problems(data: Data, notices: dict[str, None]) -> list[Issue]:
    """Splits without images, and batches that do not fit."""
    train_examples, classes = data.info.train_examples, data.info.classes
    training, held_out = data.split_sizes
    percent = f"{data.validation_split:g}"
    if held_out < 1:
        text = f"{percent}% of {training + held_out} images is no validation image; increase it, or data.limit"
        return [Issue("empty-split", "data.validation_split", text)]
    if training < 1:
        text = f"{percent}% of {held_out} images leaves no training image; decrease it, or increase data.limit"
        return [Issue("empty-split", "data.validation_split", text)]
    if data.batch_size > train_examples:
        text = f"must be <= {train_examples}, the number of training images, got {data.batch_size}"
        return [Issue("data-mismatch", "data.batch_size", text)]
    if data.drop_last and data.batch_size > training:
        text = f"must be <= {training}, the training images without the validation split, as data.drop_last is true"
        return [Issue("data-mismatch", "data.batch_size", f"{text}, got {data.batch_size}")]
    if held_out < classes:
        notices.setdefault(f"data.validation_split: {held_out} validation images for {classes} classes.")
    return []


def batch_norm_problems(data: Data, architecture: Architecture, notices: dict[str, None]) -> list[Issue]:
    """Batch normalization over a single value per channel, which has no variance; PyTorch refuses it as well.

    Maps have height x width values per image, so the smallest map of the network decides.
    """
    cells = _fewest_cells(architecture.layers, architecture.shape)
    if cells is None:
        return []
    training, _ = data.split_sizes
    last = 0 if data.drop_last else training % data.batch_size
    if min(data.batch_size, training) * cells == 1:
        text = "batch normalization needs at least 2 images per batch, got 1"
        return [Issue("batch-too-small", "data.batch_size", text)]
    if last * cells == 1:
        text = (
            f"the last of {training // data.batch_size + 1} batches has 1 of {training} training images, which batch "
            "normalization cannot use. Change data.batch_size, or set data.drop_last: true"
        )
        return [Issue("batch-too-small", "data.batch_size", text)]
    if 0 < last < SMALL_BATCH and training > data.batch_size:
        notices.setdefault(
            f"data.batch_size: the last batch of an epoch has {last} of {training} training images, few for batch "
            "normalization; data.drop_last: true leaves it out."
        )
    return []


def _fewest_cells(layers: Layers, shape: Shape) -> int | None:
    """The smallest height x width over which a batch normalization averages; None without any."""
    fewest: list[int] = []
    for layer in layers:
        if isinstance(layer, BatchNorm):
            fewest.append(shape[1] * shape[2] if len(shape) == 3 else 1)
        elif isinstance(layer, Residual | Shortcut):
            inner = [_fewest_cells(layer.branch, shape), _fewest_cells(inside_shortcut(layer), shape)]
            fewest += [cells for cells in inner if cells is not None]
        shape = layer.shape(shape)
    return min(fewest, default=None)
