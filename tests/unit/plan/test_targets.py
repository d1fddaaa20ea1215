"""`distillation.targets` and `distillation.placebo`: identity, canonical form, factors, and what is refused."""

import json
from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.base.packing import signature
from fathomlab.config.training import DistillationOptions
from fathomlab.data import table
from fathomlab.plan import Plan, Trial, decode_trial, encode_trial, read_trial
from fathomlab.plan import data as plan_data
from fathomlab.plan.objectives import teaching_of

MODEL = {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}}
LAB = {
    "teacher_model": MODEL,
    "student_model": MODEL,
    "training_teacher": {"epochs": 1},
    "training_student": {"epochs": 1},
}
ROLES = {
    "roles": {
        "teacher": {"model": MODEL, "training": {"epochs": 1}},
        "student": {
            "model": MODEL,
            "training": {"epochs": 1},
            "parents": {"teacher": "teacher"},
            "distillation": {"alpha": 0.5},
        },
    }
}
BOTH = ["flip", "crop"]


def plan(factors: dict[str, Any] | None = None, augment: list[str] | None = None, **sections: Any) -> Plan:
    """An experiment with one seed."""
    data = {"name": "mnist-sample", "limit": 120, "augment": augment or []}
    return fathomlab.load({**LAB, "data": data, "experiment": {"seeds": 1, "factors": factors or {}}, **sections})


def students(planned: Plan, role: str = "distilled") -> list[Trial]:
    """The trials with a teacher."""
    return [trial for condition in planned.conditions if condition.role == role for trial in condition.trials]


def test_defaults_leave_no_trace_in_the_content() -> None:
    plain, explicit = (
        students(plan(augment=BOTH, distillation={"alpha": 0.5, **options}))
        for options in ({}, {"targets": "on_the_fly", "placebo": None})
    )
    assert plain == explicit
    assert plain[0].content["distillation"] == {"alpha": 0.5, "temperature": 3.0}


@pytest.mark.parametrize(
    "loss", [{"alpha": 0.5}, {"loss": {"type": "Distillation", "params": {"alpha": 0.5}}}], ids=str
)
def test_options_are_part_of_content_and_recipe(loss: dict[str, Any]) -> None:
    options = {"targets": "consistent", "placebo": "shuffled"}
    (trial,) = students(plan(augment=BOTH, distillation=loss | options))
    (other,) = students(plan(augment=BOTH, distillation=loss))
    assert trial.content["distillation"] == other.content["distillation"] | options
    assert (trial.recipe.targets, trial.recipe.placebo) == ("consistent", "shuffled")
    assert trial.hash != other.hash
    assert trial.teachers == other.teachers
    assert signature(trial.recipe) != signature(other.recipe)
    again = read_trial(json.loads(trial.canonical_json), trial.teachers)
    assert (again, again.recipe) == (trial, trial.recipe)
    assert decode_trial(encode_trial(trial)).recipe == trial.recipe


def test_targets_without_augmentation_are_one_trial() -> None:
    levels = ["clean", "cached", "consistent", "on_the_fly"]
    planned = plan({"distillation.targets": levels})
    (trial,) = students(planned)
    assert (trial,) == tuple(students(plan()))
    (condition,) = (each for each in planned.conditions if each.role == "distilled")
    assert "clean" not in condition.label
    assert [notice for notice in planned.notices if notice.startswith("distillation.targets:")] == [
        "distillation.targets: no effect without augmentation."
    ]
    assert len(students(plan({"distillation.targets": levels}, BOTH))) == 4
    content = trial.content
    content["distillation"] = content["distillation"] | {"targets": "clean"}
    with pytest.raises(ValueError, match="not the content"):  # no second name of the trial
        read_trial(content, trial.teachers)


@pytest.mark.parametrize("placebo", ["class_mean", "label_smoothing"])
def test_targets_by_class_use_one_view_per_image(placebo: str) -> None:
    factors = {"distillation.targets": ["on_the_fly", "consistent", "cached", "clean"]}
    trials = students(plan(factors, BOTH, distillation={"placebo": placebo}))
    assert [(trial.recipe.targets, trial.recipe.table_views) for trial in trials] == [("on_the_fly", 1), ("clean", 0)]


@pytest.mark.parametrize(("augment", "views"), [([], 0), (["flip"], 2), (["crop"], 81), (BOTH, 162)])
def test_consistent_stores_all_views(augment: list[str], views: int) -> None:
    (trial,) = students(plan(augment=augment, distillation={"targets": "consistent"}))
    assert trial.recipe.table_views == views
    assert trial.recipe.runs_teachers is False


@pytest.mark.parametrize("section", ["distillation", "roles.student.distillation"])
def test_placebos_are_levels_of_a_factor(section: str) -> None:
    """Null is the teacher itself, which is the trial of a file without the option."""
    levels = [None, "shuffled", "within_class", "class_mean", "label_smoothing"]
    sections: dict[str, Any] = ROLES if section.startswith("roles") else {}
    document = {"data": {"name": "mnist-sample"}, **(sections or LAB)}
    planned = fathomlab.load({**document, "experiment": {"seeds": 1, "factors": {f"{section}.placebo": levels}}})
    role = "student" if sections else "distilled"
    trials = students(planned, role)
    assert [trial.recipe.placebo for trial in trials] == levels
    assert len({trial.hash for trial in trials}) == 5
    assert len({trial.teachers for trial in trials}) == 1
    assert trials[0] == students(fathomlab.load({**document, "experiment": {"seeds": 1}}), role)[0]


@pytest.mark.parametrize("override", ["distillation.placebo=shuffled", "distillation.targets=clean"])
def test_overrides_set_the_options(override: str) -> None:
    key, value = override.removeprefix("distillation.").split("=")
    base = {**LAB, "data": {"name": "mnist-sample", "augment": BOTH}, "experiment": {"seeds": 1}}
    (trial,) = students(fathomlab.load(base, [override]))
    assert trial.content["distillation"][key] == value


@pytest.mark.parametrize("option", [{"targets": "clean"}, {"placebo": "shuffled"}], ids=str)
def test_losses_that_need_no_teacher_logits_are_refused(option: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(augment=BOTH, distillation={"loss": {"type": "CrossEntropy"}, **option})
    assert [(problem.code, problem.path) for problem in caught.value.problems] == [
        ("conflict", f"distillation.{next(iter(option))}")
    ]
    assert students(plan(augment=BOTH, distillation={"loss": {"type": "CrossEntropy"}}))


def test_consistent_refuses_views_that_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (table, plan_data):
        monkeypatch.setattr(module, "AUGMENTATIONS", ("flip", "crop", "blur"))
    assert students(plan(augment=["flip", "blur"], distillation={"targets": "clean"}))
    with pytest.raises(ConfigError) as caught:
        plan(augment=["flip", "blur"], distillation={"targets": "consistent"})
    assert [(problem.code, problem.path) for problem in caught.value.problems] == [("conflict", "distillation.targets")]


def test_every_combination_reads_back_as_itself() -> None:
    for targets in ("on_the_fly", "consistent", "clean", "cached"):
        for placebo in (None, "shuffled", "within_class", "class_mean", "label_smoothing"):
            teaching = teaching_of({"targets": targets, "placebo": placebo}, "", [])
            assert teaching is not None
            again = teaching_of(teaching.plain, "", [])
            assert again == teaching
            assert set(teaching.complete) == set(DistillationOptions.__dataclass_fields__) - {"loss"}
