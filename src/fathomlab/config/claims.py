"""`claims`: expected effects, on which the report gives verdicts."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Interval

from fathomlab.base.errors import Issue
from fathomlab.base.labels import Levels
from fathomlab.base.options import to_dict

AMBIGUOUS = ("ambiguous",)  # equals no level
UNORDERED = ("emulate", "frozen")  # options that are sets of names
Metric = Literal[
    "test/accuracy",
    "test/loss",
    "val/accuracy",
    "val/loss",
    "train/accuracy",
    "train/loss",
    "best/test/accuracy",
    "best/val/accuracy",
]
METRIC_NAMES: dict[str, str] = {
    "test/accuracy": "Test accuracy",
    "test/loss": "Test loss",
    "val/accuracy": "Validation accuracy",
    "val/loss": "Validation loss",
    "train/accuracy": "Training accuracy",
    "train/loss": "Training loss",
    "best/test/accuracy": "Test accuracy of the best epoch",
    "best/val/accuracy": "Best validation accuracy",
}


@dataclass(frozen=True)
class Claim:
    """A contrast with an expected direction and a smallest effect that matters.

    Attributes:
        name: The claim in one sentence.
        factor: Dotted key of the factor that the contrast compares, or its ending, or `role` for distillation.
        levels: Two levels: the effect is the metric at the first minus the metric at the second. One level with a `reference`;
            three or more for a trend.
        expect: Sign of the effect that the claim asserts.
        matters: Smallest effect that matters: a fraction for accuracies and successes (0.02 is 2 percentage points), nats for
            losses.
        at: Levels of other factors at which the contrast is taken; the others are averaged within each seed. If `factor` is
            `role`, roles without such an option are compared as they are, such as a baseline at `{alpha: 0.7}`.
        metric: The metric to compare.
        kind: `difference` of means; `trend`, the slope of the metric over log2 of the levels (of the depth if levels are lists),
            per doubling; `success`, the fraction of seeds whose metric is above `threshold`.
        threshold: The metric of a success is above this value.
        reference: The number that one level is compared with; a fraction of seeds for a success.
    """

    name: str
    factor: str
    levels: tuple[Any, ...]
    expect: Literal["greater", "less", "equal"]
    matters: Annotated[float, Interval(ge=0)] = 0.0
    at: dict[str, Any] = field(default_factory=dict)
    metric: Metric = "test/accuracy"
    kind: Literal["difference", "trend", "success"] = "difference"
    threshold: float | None = None
    reference: float | None = None

    @property
    def in_points(self) -> bool:
        """Whether effects are differences of fractions, shown in percentage points."""
        return self.kind == "success" or self.metric.endswith("accuracy")

    def validate(self) -> list[Issue]:
        """Wrong levels, equality without an effect that matters, a success without a threshold, percentages."""
        problems = [Issue("invalid-claim", "levels", text) for text in (self._levels_complaint(),) if text]
        if self.expect == "equal" and self.matters == 0:
            problems.append(Issue("invalid-claim", "matters", "must be > 0 for `expect: equal`"))
        if self.kind == "trend" and self.reference is not None:
            problems.append(Issue("invalid-claim", "reference", "not allowed with `kind: trend`; remove it"))
        if self.kind != "success" and self.threshold is not None:
            problems.append(Issue("invalid-claim", "threshold", "requires `kind: success`; set the kind, or remove it"))
        if self.kind == "success" and self.threshold is None:
            problems.append(Issue("invalid-claim", "threshold", "required for `kind: success`"))
        if self.kind == "success" and self.metric.endswith("loss"):
            problems.append(Issue("invalid-claim", "metric", f"a success needs an accuracy, got {self.metric}"))
        return problems + self._fraction_problems()

    def _fraction_problems(self) -> list[Issue]:
        """Accuracies and fractions of seeds that were given in percent."""
        accuracy = self.metric.endswith("accuracy")
        fractions = {
            "matters": self.matters if accuracy or self.kind == "success" else None,
            "threshold": self.threshold if accuracy else None,
            "reference": self.reference if accuracy or self.kind == "success" else None,
        }
        problems = []
        for key, value in fractions.items():
            if value is not None and not 0 <= value <= 1:
                hint = f". Did you mean {value / 100:g}?" if 1 < value <= 100 else ""
                problems.append(Issue("out-of-range", key, f"must be a fraction between 0 and 1, got {value:g}{hint}"))
        return problems

    def selects(self, factors: Levels, level: object, fixed: Levels) -> bool:
        """Whether a condition belongs to the contrast at `level`.

        Args:
            factors: Its levels by dotted key, including `role`.
            level: Level of the claim's factor.
            fixed: Options that all conditions share, by dotted key; a factor that an override has fixed is among them.
        """
        if _level(factors, fixed, self.factor) != _comparable(level, self.factor):
            return False
        absent = ((),) if self.factor == "role" else ()
        return all(
            _level(factors, fixed, key) in (_comparable(wanted, key), *absent) for key, wanted in self.at.items()
        )

    def _levels_complaint(self) -> str:
        count = len(self.levels)
        if len({repr(_comparable(level, self.factor)) for level in self.levels}) < count:
            return "duplicate level"
        if self.kind == "trend":
            numbers = all(type(level) in (int, float) and level > 0 for level in self.levels)
            if count < 3:
                return f"a trend needs at least three levels, got {count}"
            if not numbers and not all(isinstance(level, list | tuple) for level in self.levels):
                return "a trend needs numbers > 0, or lists of blocks"
        elif self.reference is not None and count != 1:
            return f"must be one level if `reference` is given, got {count}"
        elif self.reference is None and count != 2:
            return f"must have exactly two levels (effect = first - second), got {count}"
        return ""


def _level(factors: Levels, fixed: Levels, key: str) -> Any:
    """The level of the factor `key` (or the one whose dotted key ends with it), or the option; `()` without one."""
    for options in (factors, fixed):
        matches = [level for name, level in options.items() if name == key or name.endswith(f".{key}")]
        if matches:
            return _comparable(matches[0], key) if len(matches) == 1 else AMBIGUOUS
    return ()


def _comparable(level: object, key: str) -> Any:
    """A level of `key` for comparison: lists equal tuples, true does not equal 1, and sets have no order."""
    value = to_dict(level)
    if key.rpartition(".")[2] in UNORDERED and isinstance(value, list):
        return sorted(set(map(str, value)))
    return ("truth", value) if isinstance(value, bool) else value
