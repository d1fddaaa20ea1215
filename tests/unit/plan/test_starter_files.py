"""The four starter files of the course: they are planned as they are, and the bundled files extend them."""

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

import fathomlab
from fathomlab.plan import Plan

ROOT = Path(__file__).parents[3]
STARTER = {
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


def plan_of(text: str, tmp_path: Path, *overrides: str) -> Plan:
    """The plan of a file with this text."""
    path = tmp_path / "exp.yaml"
    path.write_text(text, encoding="utf-8")
    return fathomlab.load(path, overrides)


@pytest.mark.parametrize("indent", ["", "    "])
@pytest.mark.parametrize("name", STARTER)
def test_starter_file_has_known_trials(tmp_path: Path, name: str, indent: str):
    """1, 8, 8, and 3 trials, also if the file is indented."""
    plan = plan_of(textwrap.indent(STARTER[name], indent), tmp_path)
    assert len(plan.trials) == TRIALS[name]
    assert plan.seeds == ((0,) if name == "2_2" else (42,))


@pytest.mark.parametrize(
    ("name", "expected"),
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
def test_starter_file_has_known_conditions(tmp_path: Path, name: str, expected: list[str]):
    """Depths crossed with residual connections; teacher, baseline, and one distilled student."""
    assert [condition.label for condition in plan_of(STARTER[name], tmp_path).conditions] == expected


def test_starter_values_are_in_the_trials(tmp_path: Path):
    (trial,) = plan_of(STARTER["1_1"], tmp_path).trials
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
    assert all(trial.content["probes"] == gradients for trial in plan_of(STARTER["1_2"], tmp_path).trials)


def test_distillation_has_known_parameter_counts(tmp_path: Path):
    """77.8% fewer in the student."""
    teacher, student, distilled = plan_of(STARTER["2_2"], tmp_path).trials
    assert teacher.recipe.architecture.num_params == 21_282_122
    assert student.recipe.architecture.num_params == distilled.recipe.architecture.num_params == 4_729_418
    assert round(100 * (1 - 4_729_418 / 21_282_122), 1) == 77.8


def contains(larger: Any, smaller: Any, path: str = "") -> list[str]:
    """Where `larger` lacks a key of `smaller` or has another value."""
    if not isinstance(smaller, dict):
        return [] if larger == smaller and type(larger) is type(smaller) else [f"{path}: {larger!r}, not {smaller!r}"]
    missing = [f"{path}.{key}: missing" for key in smaller if key not in larger]
    return missing + [
        line for key in smaller if key in larger for line in contains(larger[key], smaller[key], f"{path}.{key}")
    ]


@pytest.mark.parametrize("name", STARTER)
def test_bundled_files_contain_starter_keys_and_values(name: str):
    """They add factors, seeds, claims, and a quick form."""
    ours = yaml.safe_load((ROOT / "configs" / f"config_exp{name}.yaml").read_text(encoding="utf-8"))
    assert contains(ours, yaml.safe_load(STARTER[name])) == []
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


def test_hash_ignores_order_comments_and_spaces(tmp_path: Path):
    text = STARTER["1_1"]
    turned = yaml.safe_dump(yaml.safe_load(text), sort_keys=True)
    assert turned.splitlines()[0] != text.splitlines()[0]
    assert plan_of(turned, tmp_path).trials == plan_of(text, tmp_path).trials
    assert plan_of(text.replace(" #", "   # another"), tmp_path).trials == plan_of(text, tmp_path).trials
