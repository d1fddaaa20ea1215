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
    "no equals sign": (["foo"], ["override 1  should be key.path=value (got 'foo')."]),
    "no key": (["=3"], ["override 1  should be key.path=value (got '=3')."]),
    "an empty name": (["a..b=3"], ["override 1  should be key.path=value (got 'a..b=3')."]),
    "an unknown option": (["training.lrr=3"], ["override 1  training.lrr: unknown key. Did you mean 'lr'?"]),
    "an unknown section": (["trainin.lr=3"], ["override 1  trainin: unknown key. Did you mean 'training'?"]),
    "a word for a number": (["training.lr=fast"], ["override 1  training.lr: should be a number (got 'fast')."]),
    "no value": (["training.lr="], ["override 1  training.lr: should be a number (got null)."]),
    "an open bracket": (
        ["training.lr=[1"],
        [
            "override 1  training.lr: is not YAML: while parsing a flow sequence expected ',' or ']', "
            "but got '<stream end>'."
        ],
    ),
    "an alias": (
        ["training.lr=*a"],
        ["override 1  training.lr: uses an anchor or alias (& or *); write the value out."],
    ),
    "an ambiguous value": (
        ["model.params.residual=no"],
        ["override 1  model.params.residual: YAML versions read this differently (got no). Write false, or quote it."],
    ),
    "a range downwards": (
        ["training.epochs=3..1"],
        ["override 1  training.epochs: the range should go up by at most 100,000 (got 3..1)."],
    ),
    "a range without end": (
        ["seed=0..999999"],
        ["override 1  seed: the range should go up by at most 100,000 (got 0..999999)."],
    ),
    "two of three": (
        ["seed=1", "training.lr=x", "training.lrr=1"],
        [
            "override 2  training.lr: should be a number (got 'x').",
            "override 3  training.lrr: unknown key. Did you mean 'lr'?",
        ],
    ),
    "a level of a range": (
        ["training.epochs=0..1"],
        ["override 1  training.epochs: should be at least 1 (got 0)."],
    ),
    "a section replaced": (
        ["training=3"],
        ["override 1  training: should be a section with keys of its own (got 3)."],
    ),
    "a key inside a value": (
        ["training.epochs.x=3"],
        ["override 1  training.epochs: should be a whole number (got {'x': 3})."],
    ),
    "a pack of none": (["seed=1", "run.pack=0"], ["override 2  run.pack: should be at least 1 (got 0)."]),
    "a pack in letters": (["run.pack=a"], ["override 1  run.pack: should be a whole number (got 'a')."]),
    "another run option": (["run.foo=1"], ["override 1  run.foo: unknown key. Known here: checkpoint_seconds, pack."]),
    "factors replaced by a number": (
        ["experiment.factors=3", "training.lr=1,2"],
        ["override 1  experiment.factors: should be a section with keys of its own (got 3)."],
    ),
    "a title as a factor": (
        ["experiment.title=a, b"],
        [
            "override 1  experiment.factors.experiment.title: is not a key that a trial reads. "
            "Factors begin with data, model, training."
        ],
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
        "exp.yaml:5  seed: should be at least 0 (got -1).",
        "override 1  training.lr: should be a number (got 'x').",
    ]


def test_an_override_mends_a_mistake_of_the_file(told: Tell):
    """What it replaces is not judged."""
    assert told(f"{BASE}seed: -1\n") == ["exp.yaml:5  seed: should be at least 0 (got -1)."]
    assert told(f"{BASE}seed: -1\n", ["seed=1"]) == []


def test_a_value_replaces_one_key_alone():
    """The rest of the section stays; blanks around the sign do not count."""
    made = content(" training.lr = 1e-2", "model.params.layers_dim=9", "training.optimizer=SGD")
    assert made["training"]["lr"] == 0.01
    assert made["training"]["epochs"] == 1
    assert made["model"]["params"]["layers_dim"] == 9
    assert made["training"]["optimizer"] == "SGD"


def test_the_later_override_wins():
    """As on any command line."""
    assert content("training.epochs=2", "training.epochs=3")["training"]["epochs"] == 3


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
    assert plan.loaded.run["pack"] == 2
    assert plan.trials == fathomlab.load(MAPPING).trials


@pytest.mark.parametrize("text", ["experiment:\n", "experiment:\n  factors:\n", "experiment: {}\n"])
def test_an_empty_section_takes_factors(tmp_path: Path, text: str):
    """A section that is there and empty does not swallow what is asked for."""
    path = tmp_path / "exp.yaml"
    path.write_text(BASE + text)
    assert fathomlab.load(path, "training.lr=0.1,0.2").factors == {"training.lr": (0.1, 0.2)}
