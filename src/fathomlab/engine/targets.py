"""The targets of distilled students: which outputs of the teachers belong to an image of a batch, and placebos for them.

A placebo changes the targets only. Images, order, augmentation, and initial values of the student are the same with and
without it. A new placebo is a function and a line in `PERMUTATIONS` or `BY_CLASS`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fathomlab.base.axes import Indices, Logits
from fathomlab.base.counter_rng import splitmix64
from fathomlab.base.identity import derive_seed
from fathomlab.data.augment import augment, unchanged_view, view_index
from fathomlab.engine.device_data import DeviceDataset
from fathomlab.engine.precision import autocast_for, param_dtype
from fathomlab.engine.teachers import TeacherPack
from fathomlab.plan.recipe import Recipe

STEPS = 200  # of a bisection
MIN_SMOOTHING = 1e-12  # so that the logarithm of the smoothed label is finite


@dataclass(frozen=True)
class PlaceboTargets:
    """What replaces the teachers' outputs. Without a placebo, both are None.

    Attributes:
        source: The image whose outputs each image of the dataset gets, (k, n).
        by_class: The outputs that each class gets, (k, classes, classes).
    """

    source: Tensor | None = None
    by_class: Tensor | None = None

    def replica(self, slot: int) -> "PlaceboTargets":
        """Return the targets of one replica."""
        rows = slice(slot, slot + 1)
        return PlaceboTargets(*(None if each is None else each[rows] for each in (self.source, self.by_class)))


@dataclass(frozen=True)
class Targets:
    """The teachers' outputs that students learn from.

    Attributes:
        teachers: The teachers and their tables.
        data: The dataset.
        recipe: The options that are equal in the pack.
        keys: Random keys of the augmentation, (k,).
        placebo: What replaces the outputs.
    """

    teachers: TeacherPack
    data: DeviceDataset
    recipe: Recipe
    keys: Tensor
    placebo: PlaceboTargets

    @torch.no_grad()
    def __call__(self, index: Indices, images: Tensor | None, epoch: int | Tensor | None) -> Logits:
        """Return the targets for the images at `index`, (k, n, classes), in the format of the parameters.

        Args:
            index: Indices into the training set, (k, n).
            images: The images as the students see them; None if they are not augmented.
            epoch: The epoch of their augmentation; None without.
        """
        teachers, recipe, placebo = self.teachers, self.recipe, self.placebo
        dtype = param_dtype(recipe.precision)
        if placebo.by_class is not None:
            rows = torch.arange(len(index), device=index.device).unsqueeze(1)
            return placebo.by_class[rows, self.data.labels[index]].to(dtype)
        source = index if placebo.source is None else placebo.source.gather(1, index)
        if images is None or not recipe.augment or recipe.targets == "clean":
            return teachers.stored(source).to(dtype)
        if recipe.targets != "on_the_fly":
            assert teachers.views is not None
            return teachers.views(source, self._views(index, epoch)).to(dtype)
        if placebo.source is not None:  # the view of the student's image, of another image
            images = self.data.images[source]
            if epoch is not None:
                images = augment(images, self.keys, epoch, index, recipe.augment)
            images = self.data.normalize(images)
        with autocast_for(recipe.precision, index.device):
            logits = teachers(images)
        return logits.to(dtype)

    def _views(self, index: Indices, epoch: int | Tensor | None) -> Tensor:
        """Return the number of each image's view in the table, (k, n)."""
        if self.recipe.targets == "cached":
            return torch.zeros_like(index)
        if epoch is None:
            return torch.full_like(index, unchanged_view(self.recipe.augment))
        return view_index(self.keys, epoch, index, self.recipe.augment)


def random_views(recipe: Recipe, rows: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Return the number of one random view of each image at `rows`. It depends only on (seed, "cached view")."""
    keys = stream([recipe], "cached view", rows.device)
    return view_index(keys, 0, rows.unsqueeze(0), recipe.augment)[0]


def stream(recipes: Sequence[Recipe], purpose: str, device: torch.device) -> Int64[Tensor, " k"]:
    """Return one random key per replica for a purpose."""
    keys = [derive_seed(recipe.seed, purpose) - 2**63 for recipe in recipes]
    return torch.tensor(keys, dtype=torch.int64, device=device)


def placebo_targets(
    recipes: Sequence[Recipe], teachers: TeacherPack | None, data: DeviceDataset, train_index: Indices
) -> PlaceboTargets:
    """Return what replaces the outputs of the teachers of a pack.

    Args:
        recipes: One recipe per replica.
        teachers: Their teachers; None without.
        data: The dataset.
        train_index: Indices of the training images, (k, n). Other images take part in no placebo.
    """
    name = recipes[0].placebo
    if teachers is None or name is None:
        return PlaceboTargets()
    labels = data.labels[train_index]
    if name in PERMUTATIONS:
        bits = splitmix64(stream(recipes, "placebo", train_index.device).unsqueeze(1), train_index)
        order = bits.argsort(dim=1, stable=True)
        groups = labels.gather(1, order) if PERMUTATIONS[name] else torch.zeros_like(order)
        order = order.gather(1, groups.argsort(dim=1, stable=True))
        return PlaceboTargets(source=_sources(train_index.gather(1, order), groups.sort(1).values, len(data.labels)))
    views = teachers.views
    logits = teachers.stored(train_index) if views is None else views(train_index, torch.zeros_like(train_index))
    temperatures = [recipe.temperature or 1.0 for recipe in recipes]
    outputs = [
        BY_CLASS[name](each.double(), classes, temperature)
        for each, classes, temperature in zip(logits, labels, temperatures, strict=True)
    ]
    return PlaceboTargets(by_class=torch.stack(outputs))


def _sources(order: Int64[Tensor, "k n"], groups: Int64[Tensor, "k n"], images: int) -> Int64[Tensor, "k images"]:
    """Return the image whose outputs each image gets: the next one in `order` of its group, the first one for the last.

    No image of a group with several images gets its own outputs. Images that are not in `order` keep theirs.
    """
    first = torch.searchsorted(groups, groups)
    ends = torch.ones_like(groups, dtype=torch.bool)
    ends[:, :-1] = groups[:, 1:] != groups[:, :-1]
    following = torch.where(ends, order.gather(1, first), order.roll(-1, 1))
    source = torch.arange(images, device=order.device).repeat(len(order), 1)
    return source.scatter(1, order, following)


def class_mean(
    logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"], temperature: float
) -> Float[Tensor, "classes classes"]:
    """Return logits per class whose softmax at the temperature is the mean softmax over the images of the class.

    They are T log mean softmax(z / T), computed with logarithms because a mean may underflow. A class without images gets
    equal logits.
    """
    log_probabilities = torch.log_softmax(logits / temperature, -1)
    classes = logits.shape[1]
    outputs = torch.zeros(classes, classes, dtype=logits.dtype, device=logits.device)
    for label in labels.unique().tolist():
        rows = log_probabilities[labels == label]
        outputs[label] = temperature * (rows.logsumexp(0) - math.log(len(rows)))
    return outputs


def label_smoothing(
    logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"], temperature: float
) -> Float[Tensor, "classes classes"]:
    """Return logits per class whose softmax at the temperature is a smoothed label with the teacher's mean entropy there.

    With smoothing s, the label has probability 1 - s + s/C and every other class s/C. The entropy increases with s, from 0 to
    log C at s = 1, so that bisection finds s.
    """
    log_probabilities = torch.log_softmax(logits / temperature, -1)
    entropy = float(-(log_probabilities.exp() * log_probabilities).sum(-1).mean())
    classes = logits.shape[1]
    low, high = MIN_SMOOTHING, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _smoothed_entropy(middle, classes) < entropy else (low, middle)
    other = high / classes
    outputs = torch.full((classes, classes), math.log(other), dtype=logits.dtype, device=logits.device)
    return temperature * outputs.fill_diagonal_(math.log1p(other - high))


def _smoothed_entropy(smoothing: float, classes: int) -> float:
    """The entropy of a smoothed label (nats)."""
    other = smoothing / classes
    return -(1 + other - smoothing) * math.log1p(other - smoothing) - (classes - 1) * other * math.log(other)


PERMUTATIONS: Mapping[str, bool] = {"shuffled": False, "within_class": True}  # whether images keep their class
BY_CLASS: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "class_mean": class_mean,
    "label_smoothing": label_smoothing,
}
