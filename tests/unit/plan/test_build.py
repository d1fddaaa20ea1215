"""From a file to its trials: the seed's own files, factors, seeds, and what a trial's identity depends on."""

import hashlib
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.plan import Plan
from fathomlab.prepare.packing import group_into_packs

ROOT = Path(__file__).parents[3]
SEED = {
    "1_1": """\
    #Esperimento 1.1: MLP con MNIST
seed: 42

data:
  batch_size: 128
  validation_split: 20  #Percentuale che definisce la grandezza del validation set
  num_workers: 4

model:
  type: "MLP"
  params:
    input_size: 784 #28*28 per MNIST
    layers_dim: 128  #32 #64 #128
    class_num: 10
    hidden_layers_num: 40 #10 #20 #40
    residual: false
    activation: "ReLU"
    dropout: 0.0
    batch_norm: true

training:
  epochs: 50
  criterion: "CrossEntropyLoss"
  optimizer: "Adam"
  lr: 0.001
  scheduler: "CosineAnnealingLR"

logging:
  project_name: "LAB1-CNN"
  log_gradients: false
""",
    "1_2": """\
#Esperimento 1.2: MLP con e senza connessioni residuali
seed: 42

data:
  batch_size: 128
  validation_split: 20  #Percentuale che definisce la grandezza del validation set
  num_workers: 4

model:
  type: "MLP"
  params:
    input_size: 784  #28*28 for MNIST
    layers_dim: 128
    class_num: 10
    hidden_layers_num: 2  #Parametro che verr\u00e0 sovrascritto in esecuzione (prove su profofndit\u00e0)
    residual: false  #Parametro che verr\u00e0 sovrascritto in esecuzione (prove su connessioni residuali)
    activation: "ReLU"
    dropout: 0.0
    batch_norm: false

training:
  epochs: 1
  criterion: "CrossEntropyLoss"
  optimizer: "Adam"
  lr: 0.001
  scheduler: "CosineAnnealingLR"

experiment:
  depths: [5, 10, 20, 40]  #Varie profondit\u00e0 di test
  analyze_gradients: true

logging:
  project_name: "LAB1-CNN"
  log_gradients: true
""",
    "1_3": """\
  #Esperimento 1.3: CNN con e senza connessioni residuali su CIFAR-10
seed: 42

data:
  batch_size: 128
  validation_split: 20  #Percentuale che definisce la grandezza del validation set
  num_workers: 4

model:
  type: "CNN"
  params:
    block_type: "basic"
    layers: [1, 1, 1, 1]  #Parametro che verr\u00e0 sovrascritto in esecuzione (prove su profofndit\u00e0)
    num_classes: 10
    residual: false  #Parametro che verr\u00e0 sovrascritto in esecuzione (prove su connessioni residuali)
    zero_init_residual: true #false: blocco residuale parte inizializzato con valori casuali, true: y simile a x

training:
  epochs: 1
  criterion: "CrossEntropyLoss"
  optimizer: "Adam"
  lr: 0.001
  scheduler: "CosineAnnealingLR"

experiment:
  depths: [[1, 1, 1, 1], [2, 2, 2, 2], [3, 4, 6, 3], [5, 6, 8, 5]]   #Varie profondit\u00e0 di test

logging:
  project_name: "LAB1-CNN"
  log_gradients: false
""",
    "2_2": """\
#Esperimento 2.2: Knowledge Distillation
seed: 0

data:
  batch_size: 128
  validation_split: 20  # percentage
  num_workers: 4
  #Modello teacher (pi\xf9 grande)
teacher_model:
  type: "CNN"
  params:
    block_type: "basic"
    layers: [3, 4, 6, 3]
    num_classes: 10
    residual: true
    zero_init_residual: true

#Modello studente (pi\xf9 piccolo)
student_model:
  type: "CNN"
  params:
    block_type: "basic"
    layers: [1, 1, 1, 1]
    num_classes: 10
    residual: false
    zero_init_residual: false

training_teacher:
  epochs: 100
  criterion: "CrossEntropyLoss"
  optimizer: "Adam"
  lr: 0.001
  scheduler: "CosineAnnealingLR"

training_student:
  epochs: 50
  criterion: "CrossEntropyLoss"
  optimizer: "Adam"
  lr: 0.03
  scheduler: "CosineAnnealingLR"

distillation:
  temperature: 3.0
  alpha: 0.7 #0.8 #0.9

logging:
  project_name: "LAB1-CNN"
  log_gradients: false
""",
}
TRIALS = {"1_1": 1, "1_2": 8, "1_3": 8, "2_2": 3}
MLP = {"model": {"type": "MLP"}, "training": {"epochs": 1}}
CNN = {"model": {"type": "CNN"}, "training": {"epochs": 1}}
DISTILLATION = {
    "teacher_model": {"type": "CNN", "params": {"width": 8}},
    "student_model": {"type": "CNN", "params": {"width": 4}},
    "training_teacher": {"epochs": 2},
    "training_student": {"epochs": 1},
}


def plan_of(text: str, tmp_path: Path, *overrides: str) -> Plan:
    """The plan of a file with this text."""
    path = tmp_path / "exp.yaml"
    path.write_text(text, encoding="utf-8")
    return fathomlab.load(path, overrides)


def hashes(source: Any, *overrides: str, quick: bool = False) -> list[str]:
    """The identities of all trials."""
    return [trial.hash for trial in fathomlab.load(source, overrides, quick).trials]


def labels(source: Any, *overrides: str) -> list[str]:
    """The conditions in words."""
    return [condition.label for condition in fathomlab.load(source, overrides).conditions]


@pytest.mark.parametrize("indent", ["", "    "])
@pytest.mark.parametrize("name", SEED)
def test_starter_file_has_known_trials(tmp_path: Path, name: str, indent: str):
    """1, 8, 8, and 3 trials, also if the file is indented."""
    plan = plan_of(textwrap.indent(SEED[name], indent), tmp_path)
    assert len(plan.trials) == TRIALS[name]
    assert plan.seeds == ((0,) if name == "2_2" else (42,))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1_1", ["the network as given"]),
        (
            "1_2",
            [
                f"hidden_layers_num={depth} residual={residual}"
                for depth in (5, 10, 20, 40)
                for residual in ("false", "true")
            ],
        ),
        (
            "1_3",
            [
                f"layers={layers} residual={residual}"
                for layers in ("1-1-1-1", "2-2-2-2", "3-4-6-3", "5-6-8-5")
                for residual in ("false", "true")
            ],
        ),
        ("2_2", ["teacher", "baseline", "distilled"]),
    ],
)
def test_starter_file_has_known_conditions(tmp_path: Path, name: str, said: list[str]):
    """Depths crossed with residual connections; teacher, baseline, and one distilled student."""
    assert [condition.label for condition in plan_of(SEED[name], tmp_path).conditions] == said


def test_starter_values_are_in_the_trials(tmp_path: Path):
    (trial,) = plan_of(SEED["1_1"], tmp_path).trials
    content = trial.content
    assert content["seed"] == 42
    assert content["data"]["name"] == "mnist"
    assert (content["data"]["batch_size"], content["data"]["validation_split"]) == (128, 20)
    wanted = {"layers_dim": 128, "hidden_layers_num": 40, "residual": False, "batch_norm": True, "activation": "ReLU"}
    assert content["model"]["params"].items() >= wanted.items()
    wanted = {"epochs": 50, "optimizer": "Adam", "lr": 0.001, "scheduler": "CosineAnnealingLR"}
    assert content["training"].items() >= wanted.items()
    assert content["probes"] == {}
    gradients = {"gradients": {"at": ["init", 1, "epochs"], "examples": 128, "float64": False}}
    assert all(trial.content["probes"] == gradients for trial in plan_of(SEED["1_2"], tmp_path).trials)


def test_distillation_has_known_parameter_counts(tmp_path: Path):
    """77.8% fewer in the student."""
    teacher, student, distilled = plan_of(SEED["2_2"], tmp_path).trials
    assert teacher.recipe.architecture.num_params == 21_282_122
    assert student.recipe.architecture.num_params == distilled.recipe.architecture.num_params == 4_729_418
    assert round(100 * (1 - 4_729_418 / 21_282_122), 1) == 77.8


def contains(larger: Any, smaller: Any, path: str = "") -> list[str]:
    """Where `larger` lacks a key of `smaller` or has another value."""
    if not isinstance(smaller, dict):
        return [] if larger == smaller and type(larger) is type(smaller) else [f"{path}: {larger!r}, not {smaller!r}"]
    found = [f"{path}.{key}: missing" for key in smaller if key not in larger]
    return found + [
        line for key in smaller if key in larger for line in contains(larger[key], smaller[key], f"{path}.{key}")
    ]


@pytest.mark.parametrize("name", SEED)
def test_bundled_files_contain_starter_keys_and_values(name: str):
    """They add factors, seeds, claims, and a quick form."""
    ours = yaml.safe_load((ROOT / "configs" / f"config_exp{name}.yaml").read_text(encoding="utf-8"))
    assert contains(ours, yaml.safe_load(SEED[name])) == []
    assert {"seeds", "title"} <= ours["experiment"].keys()
    assert ours["claims"]
    assert ours["quick"]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(("name", "conditions", "seeds"), [("1_1", 9, 7), ("1_2", 8, 7), ("1_3", 8, 1), ("2_2", 5, 1)])
def test_bundled_file_has_known_conditions(name: str, conditions: int, seeds: int, quick: bool):
    """Quick forms have several seeds and need no download."""
    plan = fathomlab.load(ROOT / "configs" / f"config_exp{name}.yaml", quick=quick)
    assert len(plan.seeds) >= 2 if quick else len(plan.seeds) == seeds
    assert len(plan.conditions) == (6 if quick and name == "1_1" else conditions)
    assert len(plan.trials) == len(plan.conditions) * len(plan.seeds)
    bundled = {"mnist-sample", "shapes"}
    assert {trial.content["data"]["name"] for trial in plan.trials} <= bundled or not quick


@pytest.mark.parametrize("name", ["config_exp1_1", "config_exp1_2", "depth_init", "batchnorm_depth"])
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


def test_hash_ignores_order_comments_and_spaces(tmp_path: Path):
    text = SEED["1_1"]
    turned = yaml.safe_dump(yaml.safe_load(text), sort_keys=True)
    assert turned.splitlines()[0] != text.splitlines()[0]
    assert plan_of(turned, tmp_path).trials == plan_of(text, tmp_path).trials
    assert plan_of(text.replace(" #", "   # another"), tmp_path).trials == plan_of(text, tmp_path).trials


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
    said = labels(DISTILLATION | {"experiment": {"factors": both}})
    assert said[2] == "distilled teacher_model.params.width=8 student_model.params.width=2"


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
    order = {trial: place for place, trial in enumerate(plan.trials)}
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
    own = fathomlab.load(both).hash
    assert fathomlab.load(both, "experiment.title=x").hash == own
    assert len({own, fathomlab.load(both, "seed=1").hash, fathomlab.load(both | {"claims": claims}).hash}) == 3


def test_group_into_packs_keeps_order_and_limit():
    trials = fathomlab.load(MLP, ["seed=0..6", "training.epochs=1,2"]).trials
    made = group_into_packs(trials, lambda trial: trial.content["training"]["epochs"], lambda trial: 3)
    assert [len(pack) for pack in made] == [3, 3, 1, 3, 3, 1]
    assert [trial for pack in made for trial in pack] == list(trials)
