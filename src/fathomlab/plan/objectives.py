"""Losses that an experiment file names: `training.loss` and `distillation`."""

from typing import Any

from fathomlab.base.errors import Issue
from fathomlab.base.options import parse, to_dict
from fathomlab.config.components import Components
from fathomlab.config.training import DistillationOptions, LossChoice
from fathomlab.losses import Loss
from fathomlab.losses.distillation import Distillation

BUILT_IN = Components()


def distillation_loss(raw: Any, path: str, problems: list[Issue], components: Components = BUILT_IN) -> Loss | None:
    """Read `distillation`, or the section of a role."""
    options = parse(DistillationOptions, raw, path, problems)
    if not isinstance(options, DistillationOptions):
        return None
    if options.loss is None:
        return Distillation(options.temperature, options.alpha)
    return chosen_loss(options.loss, raw, ("temperature", "alpha"), path, problems, components)


def plain_distillation(loss: Loss) -> dict[str, Any]:
    """The section as plain data."""
    if isinstance(loss, Distillation):
        return {"temperature": loss.temperature, "alpha": loss.alpha}
    return {"loss": plain_loss(loss)}


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
