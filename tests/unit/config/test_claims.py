"""Claims: what may be asked, what no condition has, and which conditions a level selects."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.config.claims import Claim

BASE = {"model": {"type": "MLP"}, "training": {"epochs": 1}, "experiment": {"depths": [2, 4, 8]}}


def problems(**changes: Any) -> list[str]:
    """What is wrong with a claim about depth, of an experiment with three depths, plain and residual: code and key."""
    claim = {"name": "a", "factor": "hidden_layers_num", "levels": [8, 2], "expect": "greater"} | changes
    try:
        fathomlab.load(BASE | {"claims": [{key: value for key, value in claim.items() if value is not None}]})
    except fathomlab.ConfigError as error:
        return [f"{problem.code} {problem.path.removeprefix('claims[0]').strip('.')}" for problem in error.problems]
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
def test_valid_claims_have_no_issue(changes: dict[str, Any]):
    assert problems(**changes) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"levels": [8]}, "invalid-claim levels"),
        ({"levels": [8, 2], "reference": 0.9}, "invalid-claim levels"),
        ({"levels": [8, 8]}, "invalid-claim levels"),
        ({"levels": [8, 2], "kind": "trend"}, "invalid-claim levels"),
        ({"levels": [2, 4, True], "kind": "trend"}, "invalid-claim levels"),
        ({"levels": [0, 4, 8], "kind": "trend"}, "invalid-claim levels"),
        ({"levels": [[1], 4, 8], "kind": "trend"}, "invalid-claim levels"),
        ({"levels": [2, 4, 8], "kind": "trend", "reference": 1}, "invalid-claim reference"),
        ({"expect": "equal"}, "invalid-claim matters"),
        ({"threshold": 0.9}, "invalid-claim threshold"),
        ({"kind": "success"}, "invalid-claim threshold"),
        ({"kind": "success", "threshold": 2.0, "metric": "test/loss"}, "invalid-claim metric"),
        ({"kind": "slope"}, "unknown-name kind"),
        ({"factor": "hiden_layers_num"}, "unknown-claim-key factor"),
        ({"at": {"residul": True}}, "unknown-claim-key at.residul"),
        ({"levels": [8, 3]}, "no-such-condition "),
        ({"at": {"residual": "yes"}}, "no-such-condition "),
        ({"at": {"residual": 1}}, "no-such-condition "),
        ({"factor": "batch_norm", "levels": [True, False]}, "no-such-condition "),
        ({"matters": 2}, "out-of-range matters"),
        ({"levels": [8], "reference": 90}, "out-of-range reference"),
        ({"kind": "success", "threshold": 90}, "out-of-range threshold"),
        ({"kind": "success", "threshold": 0.9, "matters": 50}, "out-of-range matters"),
    ],
)
def test_invalid_claims_report_code_and_key(changes: dict[str, Any], expected: str):
    """Levels that do not fit, percentages, and options or levels that no trial has."""
    assert expected in problems(**changes)


def test_claim_accepts_nats_above_1_for_a_loss():
    assert problems(metric="train/loss", matters=2.0) == []


def test_claim_accepts_a_level_that_an_override_removes(tmp_path: Path):
    """Also in the quick form. The verdict is undecided."""
    claim = {"name": "a", "factor": "hidden_layers_num", "levels": [8, 2], "expect": "greater"}
    file = BASE | {"claims": [claim], "quick": {"experiment": {"depths": [2, 4]}}}
    for plan in (fathomlab.load(file, ["experiment.depths=2,4"]), fathomlab.load(file, quick=True)):
        assert plan.claims == [claim]
        assert any("'a'" in notice and "hidden_layers_num: 8" in notice for notice in plan.notices)


def test_roles_without_an_option_match_claims_about_roles() -> None:
    """A baseline has no alpha. A key that several options end with still equals nothing."""
    claim = Claim("a", "role", ("distilled", "baseline"), "greater", at={"alpha": 0.7})
    assert claim.selects({"role": "baseline"}, "baseline", {})
    assert claim.selects({"role": "distilled", "distillation.alpha": 0.7}, "distilled", {})
    assert not claim.selects({"role": "distilled", "distillation.alpha": 0.8}, "distilled", {})
    assert not claim.selects({"role": "baseline", "a.alpha": 0.7, "b.alpha": 0.7}, "baseline", {})
    assert not Claim("a", "residual", (True, False), "less", at={"alpha": 0.7}).selects({"residual": True}, True, {})


def test_matches_compares_key_suffix_level_and_at():
    """true is not 1, a list equals a tuple, and missing keys equal nothing."""
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


def test_missing_level_lists_the_levels_of_the_file():
    """Conditions print null as none, so a claim may spell it so."""
    config = {
        **{f"{network}_model": {"type": "MLP"} for network in ("teacher", "student")},
        **{f"training_{network}": {"epochs": 1} for network in ("teacher", "student")},
        "experiment": {"factors": {"distillation.placebo": [None, "shuffled"]}},
        "claims": [{"name": "a", "factor": "placebo", "levels": ["none", "shuffled"], "expect": "greater"}],
    }
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.load(config)
    (problem,) = caught.value.problems
    assert problem.code == "no-such-condition"
    assert "null, 'shuffled'" in problem.message
