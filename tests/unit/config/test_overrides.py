"""Overrides on the command line: values, lists, ranges, seeds; mistakes named by the number of the override."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fathomlab

Tell = Callable[..., list[str]]
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
def test_a_wrong_override_is_told_word_for_word(told: Tell, name: str):
    """Its number stands where the line of a file would."""
    overrides, lines = WRONG[name]
    assert told(BASE, overrides) == lines


def test_mistakes_of_the_file_come_before_those_of_overrides(told: Tell):
    """In the order of the file, the overrides last."""
    assert told(f"{BASE}seed: -1\n", ["training.lr=x"]) == [
        "out-of-range 5 seed",
        "wrong-type override 1 training.lr",
    ]


def test_an_override_mends_a_mistake_of_the_file(told: Tell):
    """What it replaces is not judged."""
    assert told(f"{BASE}seed: -1\n") == ["out-of-range 5 seed"]
    assert told(f"{BASE}seed: -1\n", ["seed=1"]) == []


def test_a_value_replaces_one_key_alone():
    """The rest of the section stays; blanks around the sign do not count."""
    made = content(" training.lr = 1e-2", "model.params.layers_dim=9", "training.optimizer=SGD")
    assert made["training"]["lr"] == 0.01
    assert made["training"]["epochs"] == 1
    assert made["model"]["params"]["layers_dim"] == 9
    assert made["training"]["optimizer"] == "SGD"


def test_two_overrides_of_one_key_conflict(told: Tell):
    """Neither wins silently; a list of seeds is set by one of two keys."""
    for overrides, key, number in (
        (["training.epochs=2", "training.epochs=3"], "training.epochs", 2),
        (["training.lr=1,2", "experiment.factors.training.lr=3"], "training.lr", 2),
        (["seed=0..9", "experiment.seeds=3"], "experiment.seeds", 2),
        (["experiment.seeds=3", "seed=4,5"], "experiment.seeds", 2),
    ):
        assert told(BASE, overrides) == [f"conflict override {number} {key}"]
    assert told(BASE, ["seed=5", "experiment.seeds=3"]) == []


def test_claims_are_overridden_by_number(told: Tell):
    """Counted from 1; a number that the file lacks is reported."""
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
    assert told(BASE, ["claims.1.matters=2"]) == ["invalid-override override 1 claims.1"]


@pytest.mark.parametrize("override", SEEDS)
def test_seeds(override: str):
    """A number, a range, a list; replicates, never a factor."""
    plan = fathomlab.load(MAPPING, override)
    assert plan.seeds == SEEDS[override]
    assert [trial.seed for trial in plan.trials] == list(SEEDS[override])
    assert plan.factors == {}


@pytest.mark.parametrize(
    ("override", "key", "made"),
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
def test_a_comma_or_a_range_makes_a_factor(override: str, key: str, made: tuple[Any, ...]):
    """With these levels, in this order."""
    assert levels(override) == {key: made}


@pytest.mark.parametrize("override", ["experiment.depths=5,10", "experiment.depths=[5, 10]"])
def test_depths_cross_with_residual(override: str):
    """As in the seed's files."""
    assert levels(override) == {"model.params.hidden_layers_num": (5, 10), "model.params.residual": (False, True)}


def test_one_depth_needs_no_brackets():
    """experiment.depths=5 is a list of one."""
    assert levels("experiment.depths=5")["model.params.hidden_layers_num"] == (5,)


def test_depths_of_a_cnn_are_lists():
    """Commas between brackets separate levels."""
    plan = fathomlab.load(
        {"model": {"type": "CNN"}, "training": {"epochs": 1}}, "experiment.depths=[1,1,1,1],[2,2,2,2]"
    )
    assert plan.factors["model.params.layers"] == ([1, 1, 1, 1], [2, 2, 2, 2])
    assert [condition.depth for condition in plan.conditions] == [8, 8, 16, 16]


def test_an_override_fixes_what_would_vary():
    """A factor, the depths, and the residual that depths are crossed with."""
    varied = MAPPING | {"experiment": {"factors": {"training.lr": [0.1, 0.2]}}}
    plan = fathomlab.load(varied, "training.lr=0.3")
    assert plan.factors == {}
    assert [trial.content["training"]["lr"] for trial in plan.trials] == [0.3]
    deep = MAPPING | {"experiment": {"depths": [1, 2]}}
    assert list(fathomlab.load(deep, "model.params.hidden_layers_num=3").factors) == ["model.params.residual"]
    assert list(fathomlab.load(deep, "model.params.residual=true").factors) == ["model.params.hidden_layers_num"]


def test_a_quoted_comma_is_text():
    """A title may hold one."""
    assert fathomlab.load(MAPPING, "experiment.title='a, b'").loaded.file.experiment.title == "a, b"


def test_augmentations_are_a_list_not_levels():
    """`flip,crop` is both of them, in one trial."""
    assert content("data.augment=flip")["data"]["augment"] == ["flip"]
    assert content("data.augment=crop,flip")["data"]["augment"] == ["flip", "crop"]


def test_run_options_are_no_part_of_a_trial():
    """How trials are packed does not change what they are."""
    plan = fathomlab.load(MAPPING, ["run.pack=2"])
    assert plan.loaded.run.pack == 2
    assert plan.trials == fathomlab.load(MAPPING).trials


@pytest.mark.parametrize("text", ["experiment:\n", "experiment:\n  factors:\n", "experiment: {}\n"])
def test_an_empty_section_takes_factors(tmp_path: Path, text: str):
    """A section that is there and empty does not swallow what is asked for."""
    path = tmp_path / "exp.yaml"
    path.write_text(BASE + text)
    assert fathomlab.load(path, "training.lr=0.1,0.2").factors == {"training.lr": (0.1, 0.2)}
