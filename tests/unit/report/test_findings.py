"""The sentence of what was found: where accuracy was higher, where lower, and where that is not clear."""

import pytest

from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Condition
from fathomlab.report.effects import Effect, Panel
from fathomlab.report.findings import panel_finding
from fathomlab.store.records import ConditionRecord

CONDITION = Condition(ConditionRecord("", "supervised", {}, None, ()), "", "", "", (), ())
UP, DOWN, OPEN = Interval(12.34, 2.0, 22.0, 5), Interval(-0.5, -0.9, -0.1, 5), Interval(1.0, -1.0, 3.0, 5)
SHORTCUTS = " with residual connections"


def panel(change: str, **effects: Interval | None) -> Panel:
    """A panel whose effects are named by keyword: `depth_5` is "depth 5"."""
    known = [
        Effect(
            name.replace("_", " "), CONDITION, CONDITION, {}, interval, 5, "" if interval else "all 5 seeds diverged"
        )
        for name, interval in effects.items()
    ]
    return Panel("residual", "residual connections", "residual \u2212 plain", change, tuple(known))


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ({"depth_5": UP}, "Test accuracy was 12.3 points higher with residual connections."),
        (
            {"depth_5": UP, "depth_10": DOWN, "depth_20": OPEN, "depth_40": OPEN},
            "Test accuracy was 12.3 points higher with residual connections at depth 5 and 0.50 points lower with "
            "residual connections at depth 10. The difference was not clear at depth 20 and 40.",
        ),
        ({"depth_5": OPEN}, "Test accuracy was not clearly higher or lower with residual connections."),
        (
            {"depth_5": Interval(3.0, None, None, 1)},
            "Test accuracy was 3.00 points higher with residual connections. "
            "One seed cannot show whether this is more than chance.",
        ),
        (
            {"depth_5": UP, "depth_10": None},
            "Test accuracy was 12.3 points higher with residual connections at depth 5. "
            "No value: depth 10 (all 5 seeds diverged).",
        ),
        ({"depth_5": None}, "No pair of trials has finished (depth 5: all 5 seeds diverged)."),
        (
            {"a": UP, "b": UP, "c": UP},
            "Test accuracy was 12.3 points higher with residual connections in all comparisons.",
        ),
    ],
)
def test_finding_tells_clear_effects_from_unclear(effects: dict[str, Interval | None], expected: str) -> None:
    assert panel_finding(panel(SHORTCUTS, **effects)) == expected


def test_finding_names_levels_of_different_contrasts() -> None:
    effects = {"relu_\u2212_tanh": UP, "elu_\u2212_tanh": UP, "gelu_\u2212_tanh": OPEN}
    assert panel_finding(panel("", **effects)) == (
        "Test accuracy was 12.3 points higher for relu than for tanh and for elu than for tanh. "
        "The difference was not clear between gelu and tanh."
    )
