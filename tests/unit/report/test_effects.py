"""What the effects of a factor are called."""

from typing import Any

from fathomlab.report.effects import effect_panels
from tests.helpers.distillation import Net, study_of

LOSS = "roles.distilled.distillation.loss"
DKD = {"type": "DKD", "params": {"alpha": 1, "beta": 2}}
NKD = {"type": "NKD", "params": {"gamma": 1}}
TTM = {"type": "TTM", "params": {"gamma": 0.3, "weight": 1}}


def labels(losses: list[dict[str, Any]], rates: tuple[float, ...]) -> list[str]:
    """Of the effects of the loss, in a study of losses and learning rates."""
    nets = [
        Net(f"{loss['type']} {rate}", "distilled", (0.9, 0.91), factors={LOSS: loss, "training.lr": rate})
        for rate in rates
        for loss in losses
    ]
    panels = effect_panels(study_of(None, nets))
    (panel,) = (panel for panel in panels if panel.subject == "loss")
    return [effect.label for effect in panel.effects]


def test_level_with_commas_is_named_once():
    contrasts = [
        f"loss {name} \u2212 loss DKD(alpha=1, beta=2)" for name in ("TTM(gamma=0.3, weight=1)", "NKD(gamma=1)")
    ]
    assert labels([DKD, TTM, NKD], (0.1,)) == contrasts
    assert labels([DKD, TTM], (0.1, 0.2)) == ["distilled, learning rate 0.1", "distilled, learning rate 0.2"]
