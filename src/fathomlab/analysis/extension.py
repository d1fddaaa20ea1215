"""How many seeds to add after an interim analysis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.sequential import MOST_LOOKS, Look
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import count


@dataclass(frozen=True)
class Extension:
    """Number of seeds to add now, and the reason."""

    seeds: int
    reason: str


def plan_extension(verdicts: Sequence[Verdict], n: int, looks: Sequence[Look], budget: int) -> Extension:
    """How many seeds to add, given the verdicts at this look.

    Each look adds what the most demanding undecided claim needs, at most doubling the seeds (the estimate is rough) and at
    least enough to reach the budget within five looks. Claims that divergence keeps open get no seeds.

    Args:
        verdicts: On all claims, at the level of this look.
        n: Seeds so far.
        looks: All looks including this one.
        budget: Maximum total number of seeds.
    """
    undecided = [verdict for verdict in verdicts if verdict.decision == "undecided"]
    needs = [verdict.advice.more_seeds for verdict in undecided if verdict.advice.more_seeds is not None]
    remaining = MOST_LOOKS - len(looks)
    if not undecided:
        return Extension(0, "all claims are decided")
    if budget <= n:
        return Extension(0, f"the maximum of {budget} seeds is reached")
    if remaining < 1:
        return Extension(0, f"all {MOST_LOOKS} interim analyses are done")
    if not needs:
        diverged = any(verdict.contrast.diverged for verdict in undecided)
        reason = "because seeds diverged" if diverged else "and would need more than 1,000 seeds"
        return Extension(0, f"{_claims(len(undecided))} undecided {reason}")
    smallest = math.ceil((budget - n) / remaining)
    add = min(max(min(max(needs), max(n, 2)), smallest), budget - n)
    return Extension(add, f"{_claims(len(undecided))} undecided; about {count(max(needs), 'more seed')} needed")


def _claims(number: int) -> str:
    return "1 claim is" if number == 1 else f"{number} claims are"
