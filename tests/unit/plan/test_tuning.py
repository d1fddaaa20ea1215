"""`experiment.tune` in a plan: which factors are tuned, and what can be wrong."""

from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import ConfigError

MLP = {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}}
ROLE = {"model": MLP, "training": {"epochs": 1}}
CLAIM = {"name": "a", "factor": "role", "levels": ["distilled", "baseline"], "expect": "greater"}
RATES = [0.001, 0.01]


def conf(tune: Any = None, claim: dict[str, Any] | None = None, **factors: Any) -> dict[str, Any]:
    """A teacher, a baseline, and a distilled student whose learning rates are factors."""
    every = {f"roles.{name}.training.lr": RATES for name in ("baseline", "distilled")}
    every |= {key.replace("__", "."): levels for key, levels in factors.items()}
    return {
        "data": {"name": "mnist-sample", "limit": 200},
        "roles": {"teacher": ROLE, "baseline": ROLE, "distilled": ROLE | {"parents": {"teacher": "teacher"}}},
        "experiment": {
            "factors": {key: levels for key, levels in every.items() if levels is not None},
            "tune": {"over": ["training.lr"]} if tune is None else tune,
        },
        "claims": [CLAIM | (claim or {})],
    }


def codes(source: dict[str, Any], *overrides: str) -> set[tuple[str, str]]:
    """Code and key of each problem."""
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(source, overrides)
    return {(problem.code, problem.path) for problem in raised.value.problems}


def test_an_ending_names_all_factors_that_have_it():
    tune = fathomlab.load(conf()).tune
    assert tune is not None
    assert (tune.over, tune.by) == (("roles.baseline.training.lr", "roles.distilled.training.lr"), "val/accuracy")
    full = fathomlab.load(conf({"over": ["roles.distilled.training.lr"]})).tune
    assert full is not None
    assert full.over == ("roles.distilled.training.lr",)


def test_trials_do_not_depend_on_it():
    """It is analysis: the trials are those of the factors, but the question is another one."""
    tuned, plain = fathomlab.load(conf()), conf()
    del plain["experiment"]["tune"]
    other = fathomlab.load(plain)
    assert [trial.hash for trial in tuned.trials] == [trial.hash for trial in other.trials]
    assert tuned.hash != other.hash


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (conf({"over": []}), ("missing-key", "experiment.tune.over")),
        (conf({"over": ["training.lrs"]}), ("unknown-name", "experiment.tune.over[0]")),
        (conf({"over": ["training.lr"], "by": "test/accuracy"}), ("unknown-name", "experiment.tune.by")),
        (conf({"over": ["training.lr"], "metric": "val/accuracy"}), ("unknown-key", "experiment.tune.metric")),
        (conf({}), ("missing-key", "experiment.tune")),
        (conf(claim={"factor": "lr", "levels": RATES}), ("tuned-factor", "claims[0].factor")),
        (conf(claim={"at": {"baseline.training.lr": 0.01}}), ("tuned-factor", "claims[0].at.baseline.training.lr")),
        (
            conf({"over": ["roles.nobody.training.lr"]}, roles__nobody__training__lr=RATES),
            ("unknown-factor", "experiment.factors.roles.nobody.training.lr"),
        ),
    ],
    ids=["none", "no-factor", "by-test", "unknown-key", "no-list", "claim", "claim-at", "no-role"],
)
def test_problems(source: dict[str, Any], expected: tuple[str, str]):
    assert expected in codes(source)


def test_unequal_tries_are_a_notice():
    def notices(source: dict[str, Any]) -> list[str]:
        return [text for text in fathomlab.load(source).notices if "tries" in text]

    assert notices(conf()) == []
    assert len(notices(conf(roles__distilled__training__lr=[0.1, 0.01, 0.001]))) == 1
    assert len(notices(conf(roles__distilled__training__lr=None))) == 1
    conditional = {"levels": RATES, "when": {"distillation.alpha": 0.5}}
    assert len(notices(conf(distillation__alpha=[0.5, 0.9], roles__distilled__training__lr=conditional))) == 1


def test_a_factor_that_an_override_fixes_is_a_notice():
    """The command that trains one trial again fixes all factors."""
    plan = fathomlab.load(conf(), ["roles.baseline.training.lr=0.01", "roles.distilled.training.lr=0.01"])
    assert plan.tune is None
    assert [notice for notice in plan.notices if notice.startswith("experiment.tune.over")]


def test_a_factor_of_both_students_of_the_lab():
    """One factor, tuned for each role that reads it; the teacher does not."""
    lab = {
        "data": {"name": "mnist-sample", "limit": 200},
        "teacher_model": MLP,
        "student_model": MLP,
        "training_teacher": {"epochs": 1},
        "training_student": {"epochs": 1},
        "experiment": {"factors": {"training_student.lr": RATES}, "tune": {"over": ["training_student.lr"]}},
        "claims": [CLAIM],
    }
    plan = fathomlab.load(lab)
    assert [condition.role for condition in plan.conditions] == ["teacher", *["baseline"] * 2, *["distilled"] * 2]
    assert plan.tune is not None
    assert plan.tune.over == ("training_student.lr",)
    assert not [notice for notice in plan.notices if "tries" in notice]
