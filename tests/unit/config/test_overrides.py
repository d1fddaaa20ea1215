"""Overrides on the command line: values, lists, ranges, seeds; mistakes named by the number of the override."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.config.slurm import SlurmOptions

IssuesOf = Callable[..., list[str]]
BASE = "model:\n  type: MLP\ntraining:\n  epochs: 1\n"
MAPPING: dict[str, Any] = {"model": {"type": "MLP"}, "training": {"epochs": 1}}
SEEDS = {
    "seed=7": (7,),
    "seed=0..3": (0, 1, 2, 3),
    "seed=3,5": (3, 5),
    "experiment.seeds=3": (0, 1, 2),
    "experiment.seeds=2..4": (2, 3, 4),
    "experiment.seeds=4,1": (4, 1),
    "experiment.seeds=[4, 5]": (4, 5),
}
WRONG = {
    "no equals sign": (["foo"], ["invalid-override override 1"]),
    "no key": (["=3"], ["invalid-override override 1"]),
    "an empty name": (["a..b=3"], ["invalid-override override 1"]),
    "an unknown option": (["training.lrr=3"], ["unknown-key override 1 training.lrr"]),
    "an unknown section": (["trainin.lr=3"], ["unknown-key override 1 trainin"]),
    "a word for a number": (["training.lr=fast"], ["wrong-type override 1 training.lr"]),
    "no value": (["training.lr="], ["wrong-type override 1 training.lr"]),
    "an open bracket": (
        ["training.lr=[1"],
        ["invalid-yaml override 1 training.lr"],
    ),
    "an alias": (
        ["training.lr=*a"],
        ["unsupported-yaml override 1 training.lr"],
    ),
    "an ambiguous value": (
        ["model.params.residual=no"],
        ["ambiguous-value override 1 model.params.residual"],
    ),
    "a range downwards": (
        ["training.epochs=3..1"],
        ["invalid-override override 1 training.epochs"],
    ),
    "a range without end": (
        ["seed=0..999999"],
        ["invalid-override override 1 seed"],
    ),
    "two of three": (
        ["seed=1", "training.lr=x", "training.lrr=1"],
        ["wrong-type override 2 training.lr", "unknown-key override 3 training.lrr"],
    ),
    "a level of a range": (
        ["training.epochs=0..1"],
        ["out-of-range override 1 training.epochs"],
    ),
    "a section replaced": (
        ["training=3"],
        ["wrong-type override 1 training"],
    ),
    "a key inside a value": (
        ["training.epochs.x=3"],
        ["wrong-type override 1 training.epochs"],
    ),
    "a pack of none": (["seed=1", "run.pack=0"], ["out-of-range override 2 run.pack"]),
    "a slurm option": (["run.slurm.time=10", "run.slurm.cpus=0"], ["out-of-range override 2 run.slurm.cpus"]),
    "a time limit as a clock": (["run.slurm.time=1:30:00"], ["ambiguous-value override 1 run.slurm.time"]),
    "a word for slurm": (["run.slurm=gpu"], ["wrong-type override 1 run.slurm"]),
    "a pack in letters": (["run.pack=a"], ["wrong-type override 1 run.pack"]),
    "another run option": (["run.foo=1"], ["unknown-key override 1 run.foo"]),
    "factors replaced by a number": (
        ["experiment.factors=3", "training.lr=1,2"],
        ["wrong-type override 1 experiment.factors"],
    ),
    "a title as a factor": (
        ["experiment.title=a, b"],
        ["unknown-factor override 1 experiment.factors.experiment.title"],
    ),
}


def levels(*overrides: str) -> dict[str, tuple[Any, ...]]:
    """The factors that the overrides make."""
    return dict(fathomlab.load(MAPPING, overrides).factors)


def content(*overrides: str) -> dict[str, Any]:
    """The content of the only trial."""
    (trial,) = fathomlab.load(MAPPING, overrides).trials
    return trial.content


@pytest.mark.parametrize("name", WRONG)
def test_invalid_override_reports_code_number_and_key(issues_of: IssuesOf, name: str):
    overrides, lines = WRONG[name]
    assert issues_of(BASE, overrides) == lines


def test_issues_of_the_file_precede_those_of_overrides(issues_of: IssuesOf):
    assert issues_of(f"{BASE}seed: -1\n", ["training.lr=x"]) == [
        "out-of-range 5 seed",
        "wrong-type override 1 training.lr",
    ]


def test_override_replaces_an_invalid_value(issues_of: IssuesOf):
    """The replaced value is not checked."""
    assert issues_of(f"{BASE}seed: -1\n") == ["out-of-range 5 seed"]
    assert issues_of(f"{BASE}seed: -1\n", ["seed=1"]) == []


def test_override_replaces_only_its_key():
    """Spaces around the equals sign are ignored."""
    result = content(" training.lr = 1e-2", "model.params.layers_dim=9", "training.optimizer=SGD")
    assert result["training"]["lr"] == 0.01
    assert result["training"]["epochs"] == 1
    assert result["model"]["params"]["layers_dim"] == 9
    assert result["training"]["optimizer"] == "SGD"


def test_duplicate_overrides_are_rejected(issues_of: IssuesOf):
    """Seeds can be set by one of two keys."""
    for overrides, key, number in (
        (["training.epochs=2", "training.epochs=3"], "training.epochs", 2),
        (["training.lr=1,2", "experiment.factors.training.lr=3"], "training.lr", 2),
        (["seed=0..9", "experiment.seeds=3"], "experiment.seeds", 2),
        (["experiment.seeds=3", "seed=4,5"], "experiment.seeds", 2),
    ):
        assert issues_of(BASE, overrides) == [f"conflict override {number} {key}"]
    assert issues_of(BASE, ["seed=5", "experiment.seeds=3"]) == []


def test_override_of_a_claim_uses_its_number(issues_of: IssuesOf):
    """Counted from 1. Unknown numbers are rejected."""
    file = MAPPING | {
        "model": {"type": "MLP"},
        "experiment": {"factors": {"model.params.residual": [True, False]}},
        "claims": [{"name": "a", "factor": "residual", "levels": [True, False], "expect": "greater"}],
    }
    for override in ("claims.1.matters=0.05", "claims[1].matters=0.05"):
        assert fathomlab.load(file, override).loaded.file.claims[0].matters == 0.05
    assert "matters" not in file["claims"][0]
    for override in ("claims.0.matters=1", "claims.2.matters=1", "claims[7].name=b"):
        with pytest.raises(fathomlab.ConfigError) as caught:
            fathomlab.load(file, override)
        assert [problem.code for problem in caught.value.problems] == ["invalid-override"]
    assert issues_of(BASE, ["claims.1.matters=2"]) == ["invalid-override override 1 claims.1"]


@pytest.mark.parametrize("override", SEEDS)
def test_override_of_seeds_returns_replicates(override: str):
    """A number, a range, or a list is never a factor."""
    plan = fathomlab.load(MAPPING, override)
    assert plan.seeds == SEEDS[override]
    assert [trial.seed for trial in plan.trials] == list(SEEDS[override])
    assert plan.factors == {}


@pytest.mark.parametrize(
    ("override", "key", "result"),
    [
        ("training.lr=0.1,0.2", "training.lr", (0.1, 0.2)),
        ("training.epochs=1..3", "training.epochs", (1, 2, 3)),
        ("model.params.residual=true,false", "model.params.residual", (True, False)),
        ("training.scheduler=none,StepLR", "training.scheduler", ("none", "StepLR")),
        ("experiment.factors.training.lr=0.1,0.2", "training.lr", (0.1, 0.2)),
        ("experiment.factors.training.lr=[0.1, 0.2]", "training.lr", (0.1, 0.2)),
        ("experiment.factors.training.lr=0.1", "training.lr", (0.1,)),
    ],
)
def test_override_with_comma_or_range_is_a_factor(override: str, key: str, result: tuple[Any, ...]):
    """In the given order of levels."""
    assert levels(override) == {key: result}


@pytest.mark.parametrize("override", ["experiment.depths=5,10", "experiment.depths=[5, 10]"])
def test_override_of_depths_adds_residual_factor(override: str):
    assert levels(override) == {"model.params.hidden_layers_num": (5, 10), "model.params.residual": (False, True)}


def test_override_accepts_one_depth_without_brackets():
    assert levels("experiment.depths=5")["model.params.hidden_layers_num"] == (5,)


def test_override_accepts_lists_as_depths_of_a_cnn():
    """Commas between brackets separate levels."""
    plan = fathomlab.load(
        {"model": {"type": "CNN"}, "training": {"epochs": 1}}, "experiment.depths=[1,1,1,1],[2,2,2,2]"
    )
    assert plan.factors["model.params.layers"] == ([1, 1, 1, 1], [2, 2, 2, 2])
    assert [condition.depth for condition in plan.conditions] == [8, 8, 16, 16]


def test_override_removes_its_factor():
    """Also the factors that `depths` adds."""
    varied = MAPPING | {"experiment": {"factors": {"training.lr": [0.1, 0.2]}}}
    plan = fathomlab.load(varied, "training.lr=0.3")
    assert plan.factors == {}
    assert [trial.content["training"]["lr"] for trial in plan.trials] == [0.3]
    deep = MAPPING | {"experiment": {"depths": [1, 2]}}
    assert list(fathomlab.load(deep, "model.params.hidden_layers_num=3").factors) == ["model.params.residual"]
    assert list(fathomlab.load(deep, "model.params.residual=true").factors) == ["model.params.hidden_layers_num"]


def test_override_below_a_factor_is_rejected(issues_of: IssuesOf):
    """The levels replace it. A factor that another override removes does not."""
    text = "model:\n  type: CNN\ntraining:\n  epochs: 1\nexperiment:\n  factors:\n    model.params.layers: [[1, 1], [2, 2]]\n"
    assert issues_of(text, ["model.params.layers.0=3"]) == ["conflict override 1 model.params.layers.0"]
    assert issues_of(text, ["model.params.layers=[3, 3]"]) == []


def test_override_keeps_a_quoted_comma():
    assert fathomlab.load(MAPPING, "experiment.title='a, b'").loaded.file.experiment.title == "a, b"


def test_override_of_augment_is_one_list():
    """`flip,crop` is one trial with both."""
    assert content("data.augment=flip")["data"]["augment"] == ["flip"]
    assert content("data.augment=crop,flip")["data"]["augment"] == ["flip", "crop"]


def test_run_options_keep_the_trials():
    plan = fathomlab.load(MAPPING, ["run.pack=2"])
    assert plan.loaded.run.pack == 2
    assert plan.trials == fathomlab.load(MAPPING).trials


@pytest.mark.parametrize("text", ["experiment:\n", "experiment:\n  factors:\n", "experiment: {}\n"])
def test_override_adds_factors_to_an_empty_section(tmp_path: Path, text: str):
    path = tmp_path / "exp.yaml"
    path.write_text(BASE + text)
    assert fathomlab.load(path, "training.lr=0.1,0.2").factors == {"training.lr": (0.1, 0.2)}


def test_slurm_overrides_change_no_trial():
    """The comma is part of a value, one setup line is a list, and the keys of the file stay."""
    file = {**MAPPING, "run": {"slurm": {"qos": "normal", "partition": "cpu"}}}
    plan = fathomlab.load(
        file, ["run.slurm.partition=a100,h100", "run.slurm.setup=module load python", "run.slurm.time=30"]
    )
    assert plan.loaded.file.run.slurm == SlurmOptions(
        partition="a100,h100", qos="normal", time=30, setup=("module load python",)
    )
    assert [trial.hash for trial in plan.trials] == [trial.hash for trial in fathomlab.load(MAPPING).trials]
