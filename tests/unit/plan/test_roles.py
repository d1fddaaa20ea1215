"""Roles: networks that build on each other, and what can be wrong with them."""

from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.plan import Plan, Trial

BIG = {"type": "MLP", "params": {"layers_dim": 16, "hidden_layers_num": 2}}
SMALL = {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 2}}
TRAINING = {"epochs": 1}
TEACHER = {"model": BIG, "training": TRAINING}
STUDENT = {"model": SMALL, "training": TRAINING, "parents": {"teacher": "teacher"}}
FACTOR = "experiment.factors.roles.student.parents"
DATA = {"name": "mnist-sample", "limit": 120, "batch_size": 40}


def roles(**changes: Any) -> dict[str, Any]:
    """A file with a teacher and a student; a change of None removes a role."""
    roles = {"teacher": TEACHER, "student": STUDENT} | changes
    return {"data": DATA, "roles": {name: role for name, role in roles.items() if role is not None}}


def trials(plan: Plan, role: str) -> list[Trial]:
    """The trials of all conditions of a role."""
    return [trial for condition in plan.conditions if condition.role == role for trial in condition.trials]


def codes(conf: dict[str, Any], *overrides: str) -> set[tuple[str, str]]:
    """Code and key of each problem."""
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(conf, overrides)
    return {(problem.code, problem.path) for problem in raised.value.problems}


def test_lab_sections_give_the_trials_of_their_roles():
    lab = {
        "data": DATA,
        "teacher_model": BIG,
        "student_model": SMALL,
        "training_teacher": TRAINING,
        "training_student": TRAINING,
        "distillation": {"alpha": 0.5},
    }
    alone = {"model": SMALL, "training": TRAINING}
    file = roles(student=None, baseline=alone, distilled=STUDENT) | {"distillation": {"alpha": 0.5}}
    assert [trial.hash for trial in fathomlab.load(file).trials] == [trial.hash for trial in fathomlab.load(lab).trials]


def test_content_names_parents_by_hash():
    assistant = {"model": SMALL, "training": TRAINING, "parents": {"teacher": "student", "start": "student"}}
    plan = fathomlab.load(roles(assistant=assistant), "experiment.seeds=2")
    for teacher, student, last in zip(*(trials(plan, name) for name in plan_roles(plan)), strict=True):
        assert "parents" not in teacher.content
        assert student.content["parents"] == {"teacher": [teacher.hash]}
        assert last.content["parents"] == {"teacher": [student.hash], "start": student.hash}
        assert last.recipe.teachers == (student.recipe.architecture,)
        assert {trial.seed for trial in (teacher, student, last)} == {teacher.seed}


def plan_roles(plan: Plan) -> list[str]:
    """The roles in the order of the conditions."""
    return list(dict.fromkeys(condition.role for condition in plan.conditions))


def test_plan_trains_parents_first():
    later = {"teacher": None, "student": STUDENT | {"parents": {"teacher": "zz"}}, "zz": TEACHER}
    plan = fathomlab.load(roles(**later), "experiment.seeds=3")
    order = {trial: index for index, trial in enumerate(plan.trials)}
    assert len(order) == 6
    assert all(order[parent] < order[trial] for trial in plan.trials for _, parent in trial.parents)


def test_seed_offset_gives_another_trial_of_the_seed():
    ensemble = STUDENT | {"parents": {"teacher": ["teacher", "second"]}}
    plan = fathomlab.load(roles(second=TEACHER | {"seed_offset": 100}, student=ensemble), "seed=3..4")
    assert [trial.seed for trial in trials(plan, "second")] == [103, 104]
    assert [[member.seed for member in trial.teachers] for trial in trials(plan, "student")] == [[3, 103], [4, 104]]
    assert [trial.seed for trial in trials(plan, "student")] == [3, 4]
    assert "second seed=3" in plan.labels.values()


def test_conditions_read_factors_of_their_teachers():
    plan = fathomlab.load(roles(), ["roles.teacher.model.params.layers_dim=8,16", "roles.student.training.lr=0.1,0.2"])
    levels = [(condition.role, tuple(condition.factors.values())) for condition in plan.conditions]
    assert levels == [
        ("teacher", (8,)),
        ("teacher", (16,)),
        *(("student", (width, lr)) for width in (8, 16) for lr in (0.1, 0.2)),
    ]


def test_alternative_teachers_are_levels_of_a_factor():
    """A student depends on the factors of the teacher that it has, and of no other."""
    factors = {
        "roles.student.parents.teacher": ["teacher", "other"],
        "roles.other.training.lr": [0.1, 0.2],
    }
    conf = roles(other=TEACHER) | {"experiment": {"factors": factors}}
    plan = fathomlab.load(conf)
    students = [condition for condition in plan.conditions if condition.role == "student"]
    assert [tuple(condition.factors.values()) for condition in students] == [
        ("teacher",),
        ("other", 0.1),
        ("other", 0.2),
    ]
    assert len({condition.trials[0].teachers for condition in students}) == 3


def test_role_data_replaces_the_data_of_the_file():
    plan = fathomlab.load(roles(teacher=TEACHER | {"data": DATA | {"limit": 60}}))
    assert [trials(plan, name)[0].recipe.limit for name in ("teacher", "student")] == [60, 120]


def test_role_distillation_replaces_that_of_the_file():
    conf = roles(student=STUDENT | {"distillation": {"alpha": 0.3}}, other=STUDENT) | {"distillation": {"alpha": 0.9}}
    plan = fathomlab.load(conf)
    assert [trials(plan, name)[0].content["distillation"]["alpha"] for name in ("student", "other")] == [0.3, 0.9]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"student": STUDENT | {"parents": {"teacher": "tutor"}}}, ("unknown-name", "roles.student.parents.teacher")),
        ({"student": STUDENT | {"parents": {"start": "x"}}}, ("unknown-name", "roles.student.parents.start")),
        (
            {"student": STUDENT | {"parents": {"teacher": ["teacher"] * 2}}},
            ("conflict", "roles.student.parents.teacher"),
        ),
        ({"student": STUDENT | {"parents": {"teacher": []}}}, ("missing-key", "roles.student.parents.teacher")),
        ({"teacher": TEACHER | {"parents": {"start": "student"}}}, ("cycle", "roles.teacher.parents")),
        ({"student": STUDENT | {"parents": {"teacher": "student"}}}, ("cycle", "roles.student.parents")),
        ({"teacher": TEACHER | {"distillation": {}}}, ("conflict", "roles.teacher.distillation")),
        ({"a.b": TEACHER}, ("invalid-key", "roles.a.b")),
        ({"": TEACHER}, ("invalid-key", "roles.")),
        ({"teacher": None, "student": None}, ("missing-key", "roles")),
        (
            {"second": TEACHER, "student": STUDENT | {"parents": {"teacher": ["teacher", "second"]}}},
            ("conflict", "roles.student.parents.teacher"),
        ),
        (
            {"teacher": TEACHER | {"data": {"name": "cifar10"}, "model": {"type": "CNN", "params": {"width": 2}}}},
            ("data-mismatch", "roles.student.parents.teacher"),
        ),
        (
            {"student": {"model": {"type": "CNN"}, "training": TRAINING, "parents": {"start": "teacher"}}},
            ("data-mismatch", "roles.student.parents.start"),
        ),
    ],
    ids=str,
)
def test_roles_that_cannot_be_trained_are_rejected(changes: dict[str, Any], expected: tuple[str, str]):
    conf = roles(**changes)
    if expected == ("data-mismatch", "roles.student.parents.start"):
        conf["data"] = {"name": "cifar10", "limit": 100}
        conf["roles"]["teacher"] = {**TEACHER, "data": DATA}
    assert expected in codes(conf)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("roles.student.parents.teacher=teacher,nobody", "experiment.factors.roles.student.parents.teacher"),
        ("roles.student.parents.tacher=teacher,student", "experiment.factors.roles.student.parents.tacher"),
        ("roles.nobody.training.lr=0.1,0.2", "experiment.factors.roles.nobody.training.lr"),
        ("roles.teacher.parents.teacher=null,student", "experiment.factors.roles.teacher.parents.teacher"),
        ("experiment.factors.roles.student.parents=[{teacher: teacher}, {start: teacher}]", FACTOR),
        ("experiment.widths=1,2", "experiment.widths"),
        ("model.type=MLP", "model"),
        ("roles.student.training.learning_rate=1", "roles.student.training.learning_rate"),
    ],
)
def test_overrides_of_roles_are_checked(override: str, expected: str):
    paths = {path for _, path in codes(roles(), override)}
    assert expected in paths or any(expected.startswith(path) for path in paths if path)


@pytest.mark.parametrize("section", [None, ["a"], {"a": None}, {"a": {"model": BIG, "train": TRAINING}}])
def test_faulty_roles_are_reported_without_consequences(section: Any):
    """Not also as missing sections, or as a file without roles."""
    problems = codes({"data": DATA, "roles": section, "distillation": {"alpha": 0.5}})
    assert all(code in ("wrong-type", "missing-key", "unknown-key") and path for code, path in problems)
    assert (("missing-key", "roles") in problems) is False


def test_distillation_without_a_teacher_is_noticed():
    plan = fathomlab.load(roles(student=None) | {"distillation": {"alpha": 0.5}})
    assert [notice.split(":")[0] for notice in plan.notices] == ["distillation"]
    assert not fathomlab.load(roles() | {"distillation": {"alpha": 0.5}}).notices
