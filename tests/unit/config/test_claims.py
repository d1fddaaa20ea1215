"""Claims: what may be asked, what no condition has, and which conditions a level selects."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.config.schema import Claim

BASE = {"model": {"type": "MLP"}, "training": {"epochs": 1}, "experiment": {"depths": [2, 4, 8]}}


def complaints(**changes: Any) -> list[str]:
    """What is wrong with a claim about depth, of an experiment with three depths, plain and residual."""
    claim = {"name": "a", "factor": "hidden_layers_num", "levels": [8, 2], "expect": "greater"} | changes
    try:
        fathomlab.load(BASE | {"claims": [{key: value for key, value in claim.items() if value is not None}]})
    except fathomlab.ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"at": {"residual": True}},
        {"levels": [8], "reference": 0.9},
        {"levels": [2, 4, 8], "kind": "trend"},
        {"levels": [2.0, 4, 8], "kind": "trend"},
        {"kind": "success", "threshold": 0.9},
        {"kind": "success", "threshold": 0.9, "levels": [8], "reference": 0.5},
        {"factor": "model.params.residual", "levels": [True, False]},
    ],
)
def test_what_may_be_asked(changes: dict[str, Any]):
    """No complaint."""
    assert complaints(**changes) == []


@pytest.mark.parametrize(
    ("changes", "path", "text"),
    [
        ({"levels": [8]}, "levels", "should be two levels, the effect is first minus second (got 1)."),
        (
            {"levels": [8, 2], "reference": 0.9},
            "levels",
            "should be one level where it is compared with a reference (got 2).",
        ),
        ({"levels": [8, 8]}, "levels", "names a level twice."),
        ({"levels": [8, 2], "kind": "trend"}, "levels", "should be three levels or more for a trend (got 2)."),
        (
            {"levels": [2, 4, True], "kind": "trend"},
            "levels",
            "should be numbers above 0, or lists of blocks, for a trend.",
        ),
        (
            {"levels": [0, 4, 8], "kind": "trend"},
            "levels",
            "should be numbers above 0, or lists of blocks, for a trend.",
        ),
        (
            {"levels": [[1], 4, 8], "kind": "trend"},
            "levels",
            "should be numbers above 0, or lists of blocks, for a trend.",
        ),
        (
            {"levels": [2, 4, 8], "kind": "trend", "reference": 1},
            "reference",
            "has nothing to do in a trend. Remove it.",
        ),
        ({"expect": "equal"}, "matters", "should be above 0 where no difference is claimed (got 0)."),
        ({"threshold": 0.9}, "threshold", "belongs to `kind: success`. Set the kind, or remove it."),
        ({"kind": "success"}, "threshold", "is missing: a success is a metric above it."),
        (
            {"kind": "success", "threshold": 2.0, "metric": "test/loss"},
            "metric",
            "should be an accuracy, which a success has more of (got test/loss).",
        ),
        ({"kind": "slope"}, "kind", "should be one of difference, trend, success (got 'slope')."),
        ({"factor": "hiden_layers_num"}, "factor", "names no option of a trial (got 'hiden_layers_num'). "),
        ({"at": {"residul": True}}, "at.residul", "names no option of a trial (got 'residul'). "),
        ({"levels": [8, 3]}, "", "no condition has hidden_layers_num: 3."),
        ({"at": {"residual": "yes"}}, "", "no condition has hidden_layers_num: 8, residual: 'yes'."),
        ({"at": {"residual": 1}}, "", "no condition has hidden_layers_num: 8, residual: 1."),
        ({"factor": "batch_norm", "levels": [True, False]}, "", "no condition has batch_norm: true."),
    ],
)
def test_what_may_not(changes: dict[str, Any], path: str, text: str):
    """Each with its key, and the first word of the remedy."""
    found = complaints(**changes)
    assert any(line.startswith(f"claims[0]{'.' * bool(path)}{path}: {text}") for line in found), found


def test_a_level_that_an_override_takes_away_is_no_mistake(tmp_path: Path):
    """The claim stays open, and its verdict says so; likewise in the quick form."""
    claim = {"name": "a", "factor": "hidden_layers_num", "levels": [8, 2], "expect": "greater"}
    file = BASE | {"claims": [claim], "quick": {"experiment": {"depths": [2, 4]}}}
    assert fathomlab.load(file, ["experiment.depths=2,4"]).claims == [claim]
    assert fathomlab.load(file, quick=True).claims == [claim]


def test_which_conditions_a_level_selects():
    """By the ending of the key, within `at`; true is no 1, a list is a tuple, and what is not there equals nothing."""
    claim = Claim("a", "residual", (True, False), "greater", at={"layers": (1, 1)})
    here = {"role": "supervised", "model.params.residual": True, "model.params.layers": [1, 1]}
    assert claim.selects(here, True, {})
    assert not claim.selects(here, False, {})
    assert not claim.selects(here | {"model.params.layers": [1, 2]}, True, {})
    assert not claim.selects({"model.params.layers": [1, 1]}, None, {})
    assert not Claim("a", "width", (1, 2), "less").selects({"model.params.width": True}, 1, {})
    assert not Claim("a", "lr", (1, 2), "less").selects({"teacher.lr": 1, "training.lr": 1}, 1, {})
    assert Claim("a", "role", ("distilled", "baseline"), "greater").selects({"role": "baseline"}, "baseline", {})
    fixed = {"model.params.layers": [1, 1], "model.params.residual": True}
    assert claim.selects({}, True, fixed)  # what an override has made of a factor
    assert not claim.selects({"model.params.residual": False}, True, fixed)
