"""`experiment.published`: statements of a publication, which the report shows next to the results."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fathomlab.base.errors import Issue
from fathomlab.config.claims import Claim, Metric

Compared: TypeAlias = Literal[Metric, "parameters"]


@dataclass(frozen=True)
class Published:
    """A statement of a publication, next to which the report shows the result of this experiment. It does not affect training.

    Attributes:
        statement: What was published, in one sentence.
        source: Where it was published: a citation or an address.
        claim: Name of the claim of this file that says the same; its verdict is the answer.
        value: The published number, instead of a claim: a fraction for accuracies (0.024 is 2.4 percentage points), nats for
            losses. For `parameters` with two levels, the relative difference (-0.78 is 78% fewer).
        metric: The metric of `value`, or `parameters` for the number of parameters, including frozen ones.
        factor: Dotted key of the factor that `levels` belong to, or its ending, or `role`.
        levels: One level: the metric at this level. Two levels: the metric at the first minus the metric at the second.
        at: Levels of other factors, as in a claim.
    """

    statement: str
    source: str = ""
    claim: str = ""
    value: float | None = None
    metric: Compared = "test/accuracy"
    factor: str = ""
    levels: tuple[Any, ...] = ()
    at: dict[str, Any] = field(default_factory=dict[str, Any])

    def validate(self) -> list[Issue]:
        """A claim and a number, a number without levels, and accuracies in percent."""
        if self.value is None:
            keys = [key for key in ("factor", "levels", "at") if getattr(self, key)]
            return [Issue("invalid-published", key, "requires `value`; set it, or remove this key") for key in keys[:1]]
        if self.claim:
            return [Issue("invalid-published", "claim", "cannot be combined with `value`; remove one")]
        if not self.factor:
            return [Issue("invalid-published", "factor", "required with `value`")]
        if len(self.levels) not in (1, 2):
            return [Issue("invalid-published", "levels", f"must be one or two levels, got {len(self.levels)}")]
        if self.metric.endswith("accuracy") and abs(self.value) > 1:
            hint = f". Did you mean {self.value / 100:g}?" if abs(self.value) <= 100 else ""
            return [Issue("out-of-range", "value", f"must be a fraction between -1 and 1, got {self.value:g}{hint}")]
        return []

    @property
    def contrast(self) -> Claim | None:
        """What `value` compares, as a claim without a verdict; None without a value."""
        if self.value is None:
            return None
        metric: Metric = "test/accuracy" if self.metric == "parameters" else self.metric
        reference = self.value if len(self.levels) == 1 else None
        return Claim(
            self.statement, self.factor, self.levels, "greater", at=self.at, metric=metric, reference=reference
        )
