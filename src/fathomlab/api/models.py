"""Networks by themselves, as torch modules."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fathomlab.base.problems import ConfigError, Problem
from fathomlab.run.resolve import architecture, build_part

if TYPE_CHECKING:
    from fathomlab.models.module import Module


def build_model(model: Mapping[str, Any], seed: int = 0) -> "Module":
    """A torch module that maps a batch of images to logits, with the initial values of `seed`.

    Args:
        model: `{"type": ..., "params": ...}` as in an experiment file. The images are those of the model's own default
            data set (28 x 28 for an MLP of 784 inputs, 3 x 32 x 32 for a CNN).

    Raises:
        ConfigError: Every problem of the options at once.
    """
    from fathomlab.models.module import Module

    problems: list[Problem] = []
    part = build_part(model, problems)
    if part is None:
        raise ConfigError("the model", problems)
    if hasattr(part, "input_size"):
        return Module(part.normal_form().build((1, 1, part.input_size)), seed)
    return Module(architecture({**model, "params": model.get("params") or {}}, part.data), seed)
