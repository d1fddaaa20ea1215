"""Losses that experiment files name: trials, packs, and what is refused before training."""

import json
from typing import Any

import numpy as np
import pytest

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.base.packing import signature
from fathomlab.losses import LOSSES
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.plan import read_trial

MLP = {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}}
STUDENTS: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 200},
    "teacher_model": MLP,
    "student_model": MLP,
    "training_teacher": {"epochs": 1},
    "training_student": {"epochs": 1, "label_smoothing": 0.1},
}
CNN = {"type": "CNN", "params": {"layers": [1, 1, 1, 1], "width": 2}}
MAPS = {**STUDENTS, "teacher_model": CNN, "student_model": CNN}
OF_TEACHERS = sorted(name for name, loss in LOSSES.items() if loss.needs)


def problems(config: dict[str, Any], *overrides: str, **arguments: Any) -> list[tuple[str, str]]:
    """Code and key of each problem."""
    with pytest.raises(ConfigError) as caught:
        fathomlab.load(config, overrides, **arguments)
    return [(problem.code, problem.path) for problem in caught.value.problems]


@pytest.mark.parametrize("name", OF_TEACHERS)
def test_loss_by_name_is_read_back(name: str):
    config = MAPS if name == "AttentionTransfer" else STUDENTS
    *_, student = fathomlab.load(config, f"distillation.loss.type={name}").trials
    assert (type(student.recipe.loss), student.recipe.label_loss) == (LOSSES[name], CrossEntropy(0.1))
    again = read_trial(json.loads(student.canonical_json), student.teachers)
    assert (again, again.recipe) == (student, student.recipe)


def test_options_of_a_loss_share_a_pack():
    """Those that vary; the loss on the labels belongs to the pack, too."""
    key = "distillation.loss.params"
    *_, first, second = fathomlab.load(STUDENTS, ["distillation.loss.type=DKD", f"{key}.beta=2,8"]).trials
    assert first.recipe.loss != second.recipe.loss
    assert signature(first.recipe) == signature(second.recipe)


@pytest.mark.parametrize("name", OF_TEACHERS)
def test_losses_of_a_teacher_need_one(name: str):
    assert problems(STUDENTS, f"training_student.loss.type={name}") == [
        ("conflict", "training_student.loss"),
        ("conflict", "training_student.loss.type"),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"type": "DKD", "params": {"beta": -1}}, ("out-of-range", "distillation.loss.params.beta")),
        ({"type": "DIST", "params": {"temperature": 0}}, ("out-of-range", "distillation.loss.params.temperature")),
        ({"type": "TTM", "params": {"gama": 1}}, ("unknown-key", "distillation.loss.params.gama")),
        ({"type": "WTM"}, ("unknown-name", "distillation.loss.type")),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any], expected: tuple[str, str]):
    assert problems({**STUDENTS, "distillation": {"loss": options}}) == [expected]


@pytest.mark.parametrize(
    ("config", "override", "expected"),
    [
        (STUDENTS, "type=AttentionTransfer", ("data-mismatch", "distillation.loss.params.layers")),
        ({**STUDENTS, "teacher_model": CNN}, "type=FitNet", ("data-mismatch", "distillation.loss.params.layer")),
        (STUDENTS, "{type: FitNet, params: {layer: hidden.2}}", ("unknown-name", "distillation.loss.params.layer")),
        (
            MAPS,
            "{type: AttentionTransfer, params: {layers: [stem, x]}}",
            ("unknown-name", "distillation.loss.params.layers"),
        ),
    ],
    ids=str,
)
def test_features_that_networks_do_not_have_are_refused(config: Any, override: str, expected: tuple[str, str]):
    separator = "." if override.startswith("type") else "="
    assert problems(config, f"distillation.loss{separator}{override}") == [expected]


@pytest.mark.parametrize("name", ["RKD", "DIST", "DKD"])
def test_losses_that_compare_images_need_two_per_batch(name: str):
    overrides = (f"distillation.loss.type={name}", "data.batch_size=1")
    if not LOSSES[name].compares_examples:
        assert fathomlab.load(STUDENTS, overrides).trials
        return
    assert problems(STUDENTS, *overrides) == [("batch-too-small", "distillation.loss.type")]


def test_features_of_an_ensemble_are_refused():
    """Losses of logits accept it."""
    teacher = {"model": MLP, "training": {"epochs": 1}}
    roles = {
        "first": teacher,
        "second": {**teacher, "seed_offset": 10},
        "student": {**teacher, "parents": {"teacher": ["first", "second"]}},
    }
    config = {"data": STUDENTS["data"], "roles": roles}
    for name in ("FitNet", "RKD"):
        assert problems(config, f"distillation.loss.type={name}") == [("conflict", "roles.student.parents.teacher")]
    assert len(fathomlab.load(config, "distillation.loss.type=DIST").trials) == 3


@pytest.mark.parametrize("name", [name for name in OF_TEACHERS if name != "AttentionTransfer"])
def test_two_classes_are_enough_unless_a_loss_needs_more(name: str):
    """Without a third class, the distribution over the classes other than the label has one entry."""
    labels = np.arange(40) % 2
    images = np.zeros((40, 1, 2, 2), np.uint8) + labels[:, None, None, None].astype(np.uint8)
    data = fathomlab.Arrays(images, labels, images[:8], labels[:8])
    model = {"type": "MLP", "params": {"input_size": 4, "class_num": 2, "layers_dim": 4, "hidden_layers_num": 1}}
    config = {**STUDENTS, "teacher_model": model, "student_model": model, "data": {"batch_size": 5}}
    config["distillation"] = {"loss": {"type": name}}
    if name in ("DKD", "NKD"):
        assert problems(config, data=data) == [("data-mismatch", "distillation.loss.type")]
    else:
        assert len(fathomlab.load(config, data=data).trials) == 3
