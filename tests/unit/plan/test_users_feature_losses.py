"""Losses of users that read features are run once, and what they return is checked before any training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fathomlab.base.errors import Issue
from fathomlab.losses.defaults import LossDefaults, Points
from fathomlab.losses.function import loss_issues
from fathomlab.models.parameters import Parameter

POINTS: tuple[Points, Points] = ({"hidden": (3,)}, {"hidden": (5,)})


def weight(name: Any = "a", shape: Any = (2,), init: Any = "weight") -> Parameter:
    """A learned tensor, which may be wrong."""
    return Parameter(name, shape, init, "weight")


@dataclass(frozen=True)
class Mine(LossDefaults):
    """A loss that returns what its options say."""

    learned: Any = (weight(),)
    issues: Any = ()
    returned: Any = None

    needs = frozenset({"features", "teacher.features"})

    def mismatches(self, student: Points, teacher: Points) -> list[Issue]:
        """The issues."""
        return list(self.issues) if isinstance(self.issues, tuple) else self.issues

    def parameters(self, student: Points, teacher: Points) -> Any:
        """The learned tensors."""
        return self.learned

    def terms(self, signals: Any) -> Mapping[str, Any]:
        """The terms, by default a loss that depends on features and learned tensors."""
        if self.returned is not None:
            return self.returned
        learned = sum((each.sum() for each in signals.parameters.values()), torch.tensor(0.0))
        return {"x": signals.features["hidden"].square().mean(2) + learned}


@pytest.mark.parametrize("init", ["weight", "bias", 0, 0.5])
def test_loss_without_defect_has_no_issue(init: Any):
    assert loss_issues(Mine(learned=(weight(init=init), weight("b"))), 10, True, POINTS) == []


@pytest.mark.parametrize(
    "loss",
    [
        Mine(learned=None),
        Mine(learned=[torch.zeros(3)]),
        Mine(learned=(weight(), weight())),
        Mine(learned=(weight(init="zeros"),)),
        Mine(learned=(weight(shape=2),)),
        Mine(issues=None),
        Mine(issues=("text",)),
        Mine(returned=torch.zeros(1, 4)),
        Mine(returned={}),
    ],
    ids=str,
)
def test_wrong_results_are_one_issue(loss: Mine):
    (issue,) = loss_issues(loss, 10, True, POINTS)
    assert (issue.code, issue.path) == ("plugin-error", "")


def test_mismatches_of_a_loss_are_reported_with_their_option():
    """As those of built-in losses."""
    issues = (Issue("data-mismatch", "learned", "too small"), Issue("data-mismatch", "", "too large"))
    reported = loss_issues(Mine(issues=issues), 10, True, POINTS)
    assert [(each.code, each.path) for each in reported] == [
        ("data-mismatch", "params.learned"),
        ("data-mismatch", ""),
    ]
