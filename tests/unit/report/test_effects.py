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


def test_levels_of_equal_depth_are_named_by_their_blocks():
    """Blocks 3 and 1-1-1 have 6 layers each."""
    levels: list[list[int]] = [[3], [1, 1, 1], [1, 2]]
    nets = [
        Net(f"net {level}", "supervised", (0.9, 0.91), depth=6, factors={"model.params.layers": level})
        for level in levels
    ]
    study = study_of(None, nets)
    assert not study.has_depths
    assert [condition.name for condition in study.conditions] == ["blocks 3", "blocks 1-1-1", "blocks 1-2"]
    (panel,) = effect_panels(study)
    assert [effect.label for effect in panel.effects] == ["blocks 1-1-1 \u2212 blocks 3", "blocks 1-2 \u2212 blocks 3"]
