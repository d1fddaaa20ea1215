"""Losses that an experiment file names: `training.loss` and `distillation`."""

from dataclasses import dataclass, replace
from typing import Any

from fathomlab.base.errors import Issue
from fathomlab.base.options import parse, to_dict
from fathomlab.config.components import Components
from fathomlab.config.training import DistillationOptions, LossChoice, Placebo, Targets
from fathomlab.data.table import VIEWS
from fathomlab.losses import Loss
from fathomlab.losses.distillation import Distillation
from fathomlab.plan.recipe import BY_CLASS

BUILT_IN = Components()


@dataclass(frozen=True)
class Teaching:
    """What a student learns from its teachers: the loss, and where its targets come from.

    Attributes:
        loss: The loss of the student.
        targets: The views whose teacher outputs it learns from.
        placebo: What replaces the teacher's outputs, or None.
    """

    loss: Loss
    targets: Targets = "on_the_fly"
    placebo: Placebo | None = None

    @property
    def complete(self) -> dict[str, Any]:
        """The section as plain data with all options."""
        plain = {"loss": plain_loss(self.loss)}
        if isinstance(self.loss, Distillation):  # its loss on the labels is that of the training
            plain = {"temperature": self.loss.temperature, "alpha": self.loss.alpha}
        return {**plain, "targets": self.targets, "placebo": self.placebo}

    @property
    def plain(self) -> dict[str, Any]:
        """The section as plain data. Options that were added later are left out at their default."""
        defaults = {"targets": "on_the_fly", "placebo": None}
        return {key: value for key, value in self.complete.items() if key not in defaults or value != defaults[key]}

    def canonical(self, augment: tuple[str, ...]) -> "Teaching":
        """The same with `targets` that have an effect. Without augmentation, all of them are the same.

        The placebos that depend on the label only use statistics of the outputs that the targets would be: those for the
        images as they are, or for one random view per image.
        """
        by_class = self.placebo in BY_CLASS and self.targets != "clean"
        return replace(self, targets="on_the_fly") if by_class or not augment else self


def teaching_of(raw: Any, path: str, problems: list[Issue], components: Components = BUILT_IN) -> Teaching | None:
    """Read `distillation`, or the section of a role."""
    options = parse(DistillationOptions, raw, path, problems)
    if not isinstance(options, DistillationOptions):
        return None
    if options.loss is None:
        return Teaching(Distillation(options.temperature, options.alpha), options.targets, options.placebo)
    loss = chosen_loss(options.loss, raw, ("temperature", "alpha"), path, problems, components)
    if loss is None:
        return None
    for key, value in (("targets", options.targets), ("placebo", options.placebo)):
        if value not in ("on_the_fly", None) and loss.needs != {"teacher.logits"}:
            text = (
                f"{value} requires a loss that reads the teacher's logits and nothing else of it; {options.loss.type}"
            )
            needs = " and ".join(sorted(loss.needs)) or "no teacher"
            problems.append(Issue("conflict", f"{path}.{key}", f"{text} needs {needs}"))
    return Teaching(loss, options.targets, options.placebo)


def view_problems(teaching: Teaching, augment: tuple[str, ...], path: str) -> list[Issue]:
    """Why there is no table of all views: an augmentation whose views cannot be counted."""
    if teaching.targets != "consistent" or all(name in VIEWS for name in augment):
        return []
    names = ", ".join(name for name in augment if name not in VIEWS)
    return [Issue("conflict", f"{path}.targets", f"consistent cannot be combined with {names}; use on_the_fly")]


def plain_loss(loss: Loss) -> dict[str, Any]:
    """A loss by name as plain data."""
    return {"type": type(loss).__name__, "params": to_dict(loss)}


def chosen_loss(
    choice: LossChoice | None,
    raw: Any,
    others: tuple[str, ...],
    path: str,
    problems: list[Issue],
    components: Components,
) -> Loss | None:
    """The loss that a section names; None without a name or with a problem. `others` are the keys that it replaces."""
    if choice is None:
        return None
    explicit = [key for key in others if key in raw]
    if explicit:
        text = f"cannot be combined with {' and '.join(explicit)}; remove one or the other"
        problems.append(Issue("conflict", f"{path}.loss", text))
    if text := components.unsupported(components.losses, choice.type):
        problems.append(Issue("unknown-name", f"{path}.loss.type", text))
        return None
    return components.losses.make(choice.type, choice.params, f"{path}.loss.params", problems)
