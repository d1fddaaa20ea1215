"""From a file to its trials: conditions, factors, seeds, and the identity of a trial."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.prepare.packing import group_into_packs

ROOT = Path(__file__).parents[3]
MLP = {"model": {"type": "MLP"}, "training": {"epochs": 1}}
CNN = {"model": {"type": "CNN"}, "training": {"epochs": 1}}
DISTILLATION = {
    "teacher_model": {"type": "CNN", "params": {"width": 8}},
    "student_model": {"type": "CNN", "params": {"width": 4}},
    "training_teacher": {"epochs": 2},
    "training_student": {"epochs": 1},
}


def hashes(source: Any, *overrides: str, quick: bool = False) -> list[str]:
    """The identities of all trials."""
    return [trial.hash for trial in fathomlab.load(source, overrides, quick).trials]


def labels(source: Any, *overrides: str) -> list[str]:
    """The conditions in words."""
    return [condition.label for condition in fathomlab.load(source, overrides).conditions]


@pytest.mark.parametrize("name", ["config_exp1_1", "config_exp1_2", "depth_init", "batchnorm_depth", "distill_tune"])
def test_bundled_seeds_can_decide_every_claim(name: str):
    """The sign-flip test over n seeds has p >= 2 / 2^n, which must be at most 5% divided by the number of claims."""
    plan = fathomlab.load(ROOT / "configs" / f"{name}.yaml")
    assert 2 / 2 ** len(plan.seeds) <= 0.05 / len(plan.claims)


@pytest.mark.parametrize(
    "change",
    [
        "data.num_workers=8",
        "logging.project_name=x",
        "logging.log_gradients=true",
        "experiment.title=other",
        "experiment.primary_metric=best/test/accuracy",
        "data.batch_size=128",
        "training.lr=0.001",
        "training.lr=1e-3",
        "training.optimizer=Adam",
        "training.optimizer_params={betas: [0.9, 0.999]}",
        "training.scheduler=none",
        "data.name=MNIST",
        "data.validation_split=20",
        "model.params={}",
        "model.params.init=torch",
        "quick.training.epochs=2",
        "run.pack=1",
    ],
)
def test_hash_ignores_defaults_and_logging(change: str):
    """Explicit defaults, titles, workers, and packing."""
    assert hashes(MLP, change) == hashes(MLP)


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "data.batch_size=64",
        "data.validation_split=10",
        "data.limit=100",
        "data.name=fashion-mnist",
        "data.augment=flip",
        "training.lr=0.002",
        "training.epochs=2",
        "training.optimizer=AdamW",
        "training.optimizer_params={eps: 1e-6}",
        "training.scheduler=StepLR",
        "training.label_smoothing=0.1",
        "training.gradient_clip=1",
        "training.precision=bf16",
        "model.params.residual=true",
        "model.params.init=he",
        "experiment.analyze_gradients=true",
    ],
)
def test_hash_depends_on_options(change: str):
    assert set(hashes(MLP, change)).isdisjoint(hashes(MLP))


def test_quick_trials_equal_trials_of_their_values():
    source = MLP | {"quick": {"training": {"epochs": 3}}}
    assert hashes(source, quick=True) == hashes(MLP, "training.epochs=3")
    assert hashes(source, quick=True) != hashes(source)


def test_zero_init_residual_is_ignored_without_shortcuts():
    """Both settings are one trial and one condition."""
    both = "model.params.zero_init_residual=true,false"
    plan = fathomlab.load(CNN, ["model.params.residual=false", both])
    assert len(plan.trials) == len(plan.conditions) == 1
    assert plan.notices == (
        "model.params.zero_init_residual is ignored if residual is false: it would leave every block dead.",
    )
    assert len(hashes(CNN, "model.params.residual=true", both)) == 2


def test_hash_equals_pinned_canonical_json():
    """Stores of today remain usable."""
    (trial,) = fathomlab.load(MLP).trials
    assert trial.hash == hashlib.sha256(trial.canonical_json.encode()).hexdigest()
    assert trial.canonical_json == (
        '{"data":{"augment":[],"batch_size":128,"limit":null,"name":"mnist","params":{},"validation_split":20.0},'
        '"format":3,"model":{"params":{"activation":"ReLU","batch_norm":false,"batch_norm_beta":0.0,'
        '"batch_norm_eps":1e-05,"block":"one_layer","class_num":10,"dropout":0.0,'
        '"hidden_layers_num":2,"init":"torch","input_size":784,"layers_dim":128,"residual":false,"skip_init":"none"},'
        '"type":"MLP"},"probes":{},"seed":0,"training":{"criterion":"CrossEntropyLoss","epochs":1,"gradient_clip":null,'
        '"label_smoothing":0.0,"lr":0.001,"optimizer":"Adam","optimizer_params":{"amsgrad":false,'
        '"betas":[0.9,0.999],"eps":1e-08,"weight_decay":0.0},"precision":"fp32","scheduler":null,'
        '"scheduler_params":{}}}'
    )


def test_conditions_order_widths_depths_residual():
    assert labels(MLP, "experiment.widths=[8, 16]", "experiment.depths=[1, 2]")[:3] == [
        "layers_dim=8 hidden_layers_num=1 residual=false",
        "layers_dim=8 hidden_layers_num=1 residual=true",
        "layers_dim=8 hidden_layers_num=2 residual=false",
    ]


def test_declared_factors_replace_residual_of_depths():
    source = MLP | {"experiment": {"depths": [1, 2], "factors": {"training.lr": [0.1]}}}
    assert labels(source) == ["hidden_layers_num=1 lr=0.1", "hidden_layers_num=2 lr=0.1"]


def test_depth_counts_hidden_or_weighted_layers():
    """Hidden layers of an MLP, weighted layers in the stages of a CNN."""
    assert [condition.depth for condition in fathomlab.load(MLP, "experiment.depths=5,40").conditions] == [5, 5, 40, 40]
    assert [condition.depth for condition in fathomlab.load(CNN).conditions] == [8]


def test_conditional_factor_varies_only_when_it_applies():
    factors = {
        "training.optimizer": ["Adam", "SGD"],
        "training.optimizer_params.momentum": {"levels": [0.5, 0.9], "when": {"training.optimizer": "SGD"}},
    }
    source = MLP | {"experiment": {"factors": factors}}
    assert labels(source) == ["optimizer=Adam", "optimizer=SGD momentum=0.5", "optimizer=SGD momentum=0.9"]


@pytest.mark.parametrize(("level", "count"), [("SGD", 0), ("Sgd", 1)])
def test_factor_that_never_varies_has_a_notice(level: str, count: int):
    key = "training.optimizer_params.momentum"
    factors = {
        "training.optimizer": ["Adam", "SGD"],
        key: {"levels": [0.5, 0.9], "when": {"training.optimizer": level}},
    }
    notices = fathomlab.load(MLP | {"experiment": {"factors": factors}}).notices
    assert sum(notice.startswith(f"experiment.factors.{key}: ") for notice in notices) == count


def test_equal_levels_are_rejected_or_merged():
    with pytest.raises(ConfigError, match="duplicate level"):
        labels(MLP, "training.lr=0.1,0.1")
    assert labels(MLP, "training.scheduler=none,null") == ["scheduler=none"]


def test_labels_use_shortest_unique_suffixes():
    source = DISTILLATION | {
        "experiment": {"factors": {"student_model.params.width": [2], "training_student.lr": [0.1]}}
    }
    assert labels(source)[1] == "baseline width=2 lr=0.1"
    both = {"teacher_model.params.width": [8], "student_model.params.width": [2]}
    expected = labels(DISTILLATION | {"experiment": {"factors": both}})
    assert expected[2] == "distilled teacher_model.params.width=8 student_model.params.width=2"


def test_trials_of_a_condition_differ_only_in_seed():
    """So their differences may be paired."""
    for condition in fathomlab.load(MLP, ["experiment.depths=1,2", "seed=3..6"]).conditions:
        contents = [dict(trial.content) for trial in condition.trials]
        assert [content.pop("seed") for content in contents] == [3, 4, 5, 6]
        assert all(content == contents[0] for content in contents)


def test_conditions_differ_only_in_their_factors():
    plain, residual = (
        condition.trials[0].content for condition in fathomlab.load(MLP, "experiment.depths=5").conditions
    )
    assert plain["model"]["params"].pop("residual") is False
    assert residual["model"]["params"].pop("residual") is True
    assert plain == residual


def test_alphas_share_teacher_and_baseline():
    """One of each per seed. Teachers come first."""
    plan = fathomlab.load(DISTILLATION, ["distillation.alpha=0.5,0.7,0.9", "seed=0,1"])
    assert [condition.role for condition in plan.conditions] == ["teacher", "baseline", *["distilled"] * 3]
    assert len(plan.trials) == 10
    teachers = {seed: plan.conditions[0].trials[seed] for seed in (0, 1)}
    for condition in plan.conditions[2:]:
        assert [trial.teachers for trial in condition.trials] == [(teachers[0],), (teachers[1],)]
    order = {trial: index for index, trial in enumerate(plan.trials)}
    assert all(order[trial.teachers[0]] < order[trial] for trial in plan.trials if trial.teachers)
    assert all(not trial.teachers for condition in plan.conditions[:2] for trial in condition.trials)


def test_baseline_differs_from_distilled_only_in_loss():
    _, baseline, distilled = (condition.trials[0].content for condition in fathomlab.load(DISTILLATION).conditions)
    assert distilled.pop("parents").keys() == {"teacher"}
    assert distilled.pop("distillation") == {"temperature": 3.0, "alpha": 0.7}
    assert distilled == baseline


def test_student_factor_keeps_one_teacher():
    """A factor of the data gives one teacher per level."""
    assert len(hashes(DISTILLATION, "training_student.lr=0.1,0.2")) == 1 + 2 + 2
    assert len(hashes(DISTILLATION, "data.batch_size=64,128")) == 6


def test_plan_hash_depends_on_trials_and_claims():
    """Not on the title."""
    claims = [{"name": "a", "factor": "residual", "levels": [True, False], "expect": "greater"}]
    both = MLP | {"experiment": {"factors": {"model.params.residual": [False, True]}}}
    original = fathomlab.load(both).hash
    assert fathomlab.load(both, "experiment.title=x").hash == original
    assert len({original, fathomlab.load(both, "seed=1").hash, fathomlab.load(both | {"claims": claims}).hash}) == 3


def test_group_into_packs_keeps_order_and_limit():
    trials = fathomlab.load(MLP, ["seed=0..6", "training.epochs=1,2"]).trials
    packs = group_into_packs(trials, lambda trial: trial.content["training"]["epochs"], lambda trial: 3)
    assert [len(pack) for pack in packs] == [3, 3, 1, 3, 3, 1]
    assert [trial for pack in packs for trial in pack] == list(trials)
