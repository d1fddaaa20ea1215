"""What a plan can know before training: the sizes of the splits, batches too small for batch normalization, and parts of plugins
that do not work."""

from dataclasses import replace

from fathomlab.base.errors import Issue, did_you_mean, format_value
from fathomlab.config.plugins import plugin_of
from fathomlab.losses import Loss
from fathomlab.losses.function import loss_issues
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import BatchNorm, Layers, Residual, Shape, Shortcut, inside_shortcut
from fathomlab.optim.user import optimizer_issues, schedule_issues
from fathomlab.plan.data import Data
from fathomlab.plan.roles import Role
from fathomlab.plan.sections import Training
from fathomlab.plan.trial import Blueprint

SMALL_BATCH = 8
LISTED = 20
EVALUATION_BATCH = 512  # of engine.evaluation, which imports torch


def part_problems(training: Training, data: Data, path: str) -> list[Issue]:
    """What is wrong with the loss, the optimizer, and the schedule of a training, if plugins define them: each is run once."""
    problems = loss_problems(training.chosen_loss, data, path)
    if plugin_of(training.optimizer) is not None:
        problems += [replace(issue, path=f"{path}.optimizer") for issue in optimizer_issues(training.optimizer)]
    if plugin_of(training.schedule) is not None:
        batch_size, (images, _) = data.batch_size, data.split_sizes
        steps = max(1, images // batch_size if data.drop_last else -(-images // batch_size))
        issues = schedule_issues(training.schedule, training.lr, training.epochs, steps)
        problems += [replace(issue, path=f"{path}.scheduler") for issue in issues]
    return problems


def loss_problems(loss: Loss | None, data: Data, path: str, distilled: bool = False) -> list[Issue]:
    """What is wrong with the loss of the section `path` for the classes of the data. Those of plugins are run once."""
    if loss is not None and data.info.classes < loss.min_classes:
        text = f"{type(loss).__name__} needs at least {loss.min_classes} classes; the data has {data.info.classes}"
        return [Issue("data-mismatch", f"{path}.loss.type", text)]
    if loss is not None and loss.compares_examples and min(data.batch_size, data.split_sizes[0]) == 1:
        text = f"{type(loss).__name__} compares the images of a batch; it needs at least 2 per batch, got 1"
        return [Issue("batch-too-small", f"{path}.loss.type", text)]
    if loss is None or plugin_of(loss) is None or set(loss.needs) & {"features", "teacher.features"}:
        return []  # `feature_problems` checks losses of features
    return [replace(issue, path=f"{path}.loss") for issue in loss_issues(loss, data.info.classes, distilled)]


def feature_problems(condition: Blueprint, role: Role) -> list[Issue]:
    """Losses of features that the networks of a condition do not have. Those of plugins are run once."""
    loss, network = condition.recipe.loss, condition.recipe.architecture
    teachers = [parent.recipe.architecture for kind, parent in condition.parents if kind == "teacher"]
    if teachers and condition.recipe.label_loss.needs:
        text = f"{type(condition.recipe.label_loss).__name__} reads features, which the loss on the labels of a student cannot"
        return [Issue("conflict", f"{role.training}.loss.type", text)]
    if not condition.recipe.needs_features:
        return []
    path, name = f"{role.distillation if teachers else role.training}.loss", type(loss).__name__
    if len(teachers) > 1:
        text = f"{name} compares features with those of one teacher, got an ensemble of {len(teachers)}"
        return [Issue("conflict", f"{role.parents_key}.teacher", text)]
    if any(each.opaque is not None for each in (network, *teachers)):
        text = f"{name} reads features, which are not available for the module of a plugin; use a loss of logits"
        return [Issue("data-mismatch", f"{path}.type", text)]
    points = network.points, teachers[0].points if teachers else {}
    if plugin_of(loss) is None:
        return [replace(issue, path=f"{path}.params.{issue.path}") for issue in loss.mismatches(*points)]
    issues = loss_issues(loss, network.classes, bool(teachers), points)
    return [replace(issue, path=f"{path}.{issue.path}".rstrip(".")) for issue in issues]


def data_problems(data: Data, path: str, notices: dict[str, None]) -> list[Issue]:
    """Splits without images, and batches that do not fit. `path` is the dotted key of the section."""
    train_examples, classes = data.info.train_examples, data.info.classes
    training, held_out = data.split_sizes
    percent = f"{data.validation_split:g}"
    if held_out < 1:
        text = f"{percent}% of {training + held_out} images is no validation image; increase it, or {path}.limit"
        return [Issue("empty-split", f"{path}.validation_split", text)]
    if training < 1:
        text = f"{percent}% of {held_out} images leaves no training image; decrease it, or increase {path}.limit"
        return [Issue("empty-split", f"{path}.validation_split", text)]
    if data.batch_size > train_examples:
        text = f"must be <= {train_examples}, the number of training images, got {data.batch_size}"
        return [Issue("data-mismatch", f"{path}.batch_size", text)]
    if data.drop_last and data.batch_size > training:
        text = f"must be <= {training}, the training images without the validation split, as {path}.drop_last is true"
        return [Issue("data-mismatch", f"{path}.batch_size", f"{text}, got {data.batch_size}")]
    if held_out < classes:
        notices.setdefault(f"{path}.validation_split: {held_out} validation images for {classes} classes.")
    return []


def batch_norm_problems(data: Data, path: str, architecture: Architecture, notices: dict[str, None]) -> list[Issue]:
    """Batch normalization over a single value per channel, which has no variance; PyTorch refuses it as well.

    Maps have height x width values per image, so the smallest map of the network decides.
    """
    cells = _fewest_cells(architecture.layers, architecture.shape)
    if cells is None:
        return _single_image_problems(data, path, architecture)
    training, _ = data.split_sizes
    last = 0 if data.drop_last else training % data.batch_size
    if min(data.batch_size, training) * cells == 1:
        text = "batch normalization needs at least 2 images per batch, got 1"
        return [Issue("batch-too-small", f"{path}.batch_size", text)]
    if last * cells == 1:
        text = (
            f"the last of {training // data.batch_size + 1} batches has 1 of {training} training images, which batch "
            f"normalization cannot use. Change {path}.batch_size, or set {path}.drop_last: true"
        )
        return [Issue("batch-too-small", f"{path}.batch_size", text)]
    if 0 < last < SMALL_BATCH and training > data.batch_size:
        notices.setdefault(
            f"{path}.batch_size: the last batch of an epoch has {last} of {training} training images, few for batch "
            f"normalization; {path}.drop_last: true leaves it out."
        )
    return []


def _single_image_problems(data: Data, path: str, architecture: Architecture) -> list[Issue]:
    """Batches of one image that a user's module refuses, such as batch normalization in training."""
    if architecture.opaque is None:
        return []
    trace = architecture.opaque.trace
    training, held_out = data.split_sizes
    last = 0 if data.drop_last else training % data.batch_size
    if trace.single_training and 1 in (data.batch_size, training, last):
        remedy = f"Change {path}.batch_size, or set {path}.drop_last: true"
        text = f"a batch of {training} training images has 1 image, which the model cannot use: "
        return [Issue("batch-too-small", f"{path}.batch_size", f"{text}{trace.single_training}. {remedy}")]
    if trace.single_evaluation and 1 in (held_out % EVALUATION_BATCH, data.info.test_examples % EVALUATION_BATCH):
        text = "must evaluate a single image, which is the last batch of the validation or test images, got "
        return [Issue("batch-too-small", path, f"the model {text}{trace.single_evaluation}")]
    return []


def network_problems(blueprint: Blueprint, model: str, training: str) -> list[Issue]:
    """Frozen parameters that do not exist, and probes of layers, points, or maps that the network does not have."""
    architecture, frozen = blueprint.recipe.architecture, blueprint.training.frozen
    for probe in blueprint.probes:
        if probe.component.needs_maps and architecture.map_shape is None:
            needs = "needs a network that ends with global average pooling and one linear layer, such as type: CNN"
            return [Issue("data-mismatch", f"experiment.probes.{probe.name}", f"{needs}; {model} is another network")]
    if not frozen and architecture.opaque is None:
        return []
    names = [parameter.name for parameter in architecture.parameters()]
    for prefix in frozen:
        if not any(name.startswith(prefix) for name in names):
            text = f"no parameter has a name that begins with {format_value(prefix)}.{did_you_mean(prefix, names)}"
            return [Issue("unknown-name", f"{training}.frozen", f"{text} Parameters: {_listed(names)}.")]
    if all(name.startswith(frozen) for name in names):
        return [Issue("conflict", f"{training}.frozen", "must leave at least one parameter to train")]
    layers = [name for name in architecture.weight_layers if not f"{name}.weight".startswith(frozen)]
    measured = {"layer": layers, "point": architecture.taps}
    for probe in blueprint.probes:
        for column in probe.component.columns.values():
            if not measured.get(column.axis, ("any",)):
                reason = f"it has no inner module with a trained `weight`{' that runs once' if layers else ''}"
                return [Issue("data-mismatch", model, f"the probe {probe.name} cannot measure this model: {reason}")]
    return []


def _listed(names: list[str]) -> str:
    return ", ".join(names if len(names) <= LISTED else [*names[:LISTED], f"and {len(names) - LISTED} more"])


def parent_problems(condition: Blueprint, path: str) -> list[Issue]:
    """Teachers for other images or classes, equal teachers, and start weights of which the network has none."""
    problems: list[Issue] = []
    teachers = [parent.key for kind, parent in condition.parents if kind == "teacher"]
    if len(set(teachers)) < len(teachers):
        text = "two members of the ensemble are equal trials; set another seed_offset in one of them"
        problems.append(Issue("conflict", f"{path}.teacher", text))
    network = condition.recipe.architecture
    for kind, parent in condition.parents:
        other = parent.recipe.architecture
        if kind == "teacher" and (other.shape, other.classes) != (network.shape, network.classes):
            expected = f"images {network.shape} in {network.classes} classes, as for this network"
            text = f"must be a teacher for {expected}, got {other.shape} in {other.classes} classes"
            problems.append(Issue("data-mismatch", f"{path}.teacher", text))
        if kind == "start" and not _weights(other) & _weights(network):
            text = "no weight has the same name and shape in both networks"
            problems.append(Issue("data-mismatch", f"{path}.start", text))
    return problems


def _weights(architecture: Architecture) -> set[tuple[str, Shape]]:
    """Name and shape of each weight matrix or kernel."""
    return {(item.name, item.shape) for item in architecture.parameters() if item.role == "weight"}


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
