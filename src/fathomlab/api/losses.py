"""Losses by themselves, as functions of tensors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fathomlab.base.errors import ConfigError, Issue
from fathomlab.base.options import parse
from fathomlab.config.training import LossChoice
from fathomlab.losses import LOSSES

if TYPE_CHECKING:
    from fathomlab.engine.loss_function import LossFunction


def build_loss(loss: Mapping[str, Any]) -> "LossFunction":
    """Build a loss for other code than fathomlab's: a function of logits and labels that returns the loss of each example.

    The result is called as `loss(logits, labels, teacher=teacher_logits)`, with logits (n, classes) and labels (n,). It returns
    losses (nats), (n,); training minimizes their mean. The loss on the labels is cross-entropy. The teacher gets no gradient.

    Args:
        loss: `{"type": ..., "params": ...}` as in `distillation.loss` of an experiment file.

    Raises:
        ConfigError: Lists every problem of the options. Losses that read features of the networks are refused.

    Example:
        >>> import torch
        >>> loss = build_loss({"type": "DKD", "params": {"beta": 2}})
        >>> loss(torch.zeros(2, 10), torch.tensor([3, 7]), teacher=torch.zeros(2, 10))
        tensor([2.3026, 2.3026])
    """
    from fathomlab.engine.loss_function import LossFunction

    problems: list[Issue] = []
    choice, component = parse(LossChoice, loss, "", problems), None
    if isinstance(choice, LossChoice):
        if text := LOSSES.unsupported(choice.type):
            problems.append(Issue("unknown-name", "type", text))
        else:
            component = LOSSES.make(choice.type, choice.params, "params", problems)
    if component is not None and component.needs - {"teacher.logits"}:
        text = f"{choice.type} reads features of the networks, not only logits; set distillation.loss of an experiment instead"
        problems.append(Issue("conflict", "type", text))
    if problems or component is None:
        raise ConfigError("the loss", problems)
    return LossFunction(component)
