"""The sentence of what was found: where accuracy was higher, where lower, and where that is not clear."""

import pytest

from fathomlab.analysis.statistics import paired_interval
from fathomlab.analysis.study import Condition
from fathomlab.report.effects import Effect, Panel, mark_clear
from fathomlab.report.findings import panel_finding
from fathomlab.store.records import ConditionRecord

CONDITION = Condition(ConditionRecord("", "supervised", {}, None, ()), "", "", "", (), ())
UP, DOWN, OPEN = (11.34, 12.34, 13.34, 12.34, 12.34), (-0.4, -0.6, -0.5), (-1.0, 3.0, 1.0)
BARELY = (1.6, 2.6, 3.6)  # 95% interval 0.12 to 5.08, one-sided p = 2.3%
SHORTCUTS = " with residual connections"


def panel(change: str, **effects: tuple[float, ...]) -> Panel:
    """A panel whose effects are named by keyword: `depth_5` is "depth 5"."""
    known = [
        Effect(
            name.replace("_", " "),
            CONDITION,
            CONDITION,
            dict(enumerate(values)),
            paired_interval(values) if values else None,
            5,
            "" if values else "all 5 seeds diverged",
        )
        for name, values in effects.items()
    ]
    return mark_clear([Panel("residual", "residual connections", "residual \u2212 plain", change, tuple(known))])[0]


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ({"depth_5": UP}, "Test accuracy was 12.3 points higher with residual connections."),
        (
            {"depth_5": UP, "depth_10": DOWN, "depth_20": OPEN, "depth_40": OPEN},
            "Test accuracy was 12.3 points higher with residual connections at depth 5 and 0.50 points lower with "
            "residual connections at depth 10. The difference was not clear at depth 20 and 40.",
        ),
        ({"depth_5": BARELY}, "Test accuracy was 2.60 points higher with residual connections."),
        (
            {"depth_5": BARELY, "depth_10": OPEN},
            "Test accuracy was not clearly higher or lower with residual connections.",
        ),
        ({"depth_5": OPEN}, "Test accuracy was not clearly higher or lower with residual connections."),
        (
            {"depth_5": (3.0,)},
            "Test accuracy was 3.00 points higher with residual connections. "
            "One seed cannot show whether this is more than chance.",
        ),
        (
            {"depth_5": UP, "depth_10": ()},
            "Test accuracy was 12.3 points higher with residual connections at depth 5. "
            "No value: depth 10 (all 5 seeds diverged).",
        ),
        (
            {"depth_5": ()},
            "The effect of residual connections is unknown: no pair of trials has finished "
            "(depth 5: all 5 seeds diverged).",
        ),
        (
            {"a": UP, "b": UP, "c": UP},
            "Test accuracy was 12.3 points higher with residual connections in all comparisons.",
        ),
    ],
)
def test_finding_tells_clear_effects_from_unclear(effects: dict[str, tuple[float, ...]], expected: str) -> None:
    assert panel_finding(panel(SHORTCUTS, **effects)) == expected


def test_finding_names_levels_of_different_contrasts() -> None:
    effects = {"relu_\u2212_tanh": UP, "elu_\u2212_tanh": UP, "gelu_\u2212_tanh": OPEN}
    assert panel_finding(panel("", **effects)) == (
        "Test accuracy was 12.3 points higher for relu than for tanh and for elu than for tanh. "
        "The difference was not clear between gelu and tanh."
    )


def test_clear_effects_are_adjusted_over_all_panels() -> None:
    barely, clear = panel("", a=BARELY), panel("", a=UP, b=OPEN)
    marked = [[effect.clear for effect in item.effects] for item in mark_clear([barely, clear])]
    assert ([effect.clear for effect in barely.effects], marked) == ([True], [[False], [True, False]])
