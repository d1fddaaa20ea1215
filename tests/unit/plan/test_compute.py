"""Roles that spend the training compute of another role: their epochs by hand, and what can be wrong."""

from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.plan import Plan

DATA = {"name": "mnist-sample", "limit": 1000, "batch_size": 50}  # 800 images per epoch


def mlp(width: int, epochs: int, **role: Any) -> dict[str, Any]:
    """A role with an MLP of one hidden layer: 784 * width + width * width + width * 10 multiply-accumulates."""
    model = {"type": "MLP", "params": {"layers_dim": width, "hidden_layers_num": 1}}
    return {"model": model, "training": {"epochs": epochs}, **role}


def macs(width: int) -> int:
    """Multiply-accumulates of `mlp`."""
    return 784 * width + width * width + width * 10


def conf(**roles: Any) -> dict[str, Any]:
    """A teacher, a baseline, and the baseline at equal compute; a change of None removes a role."""
    every = {"teacher": mlp(32, 3), "baseline": mlp(8, 2), "longer": mlp(8, 2, equal_compute="teacher")} | roles
    return {"data": DATA, "roles": {name: role for name, role in every.items() if role is not None}}


def epochs(plan: Plan, role: str = "longer") -> list[int]:
    """The epochs of each condition of a role."""
    return [condition.trials[0].recipe.epochs for condition in plan.conditions if condition.role == role]


def codes(source: dict[str, Any], *overrides: str) -> set[tuple[str, str]]:
    """Code and key of each problem."""
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(source, overrides)
    return {(problem.code, problem.path) for problem in raised.value.problems}


@pytest.mark.parametrize(
    ("student_images", "expected"),
    [(50_000, 50 + 8), (25_000, 50 + 17)],  # 4 * 1.16 / 0.56 = 8.3 and 16.6
)
def test_epochs_follow_published_macs(student_images: int, expected: int):
    """On images of 32 x 32 pixels, ResNet-34 needs 1.16 and ResNet-18 0.56 billion multiply-accumulates."""

    def resnet(*layers: int) -> dict[str, Any]:
        return {"type": "CNN", "params": {"layers": list(layers), "stem": "plain", "residual": True}}

    data = {"name": "cifar-10", "limit": student_images}
    teacher = {"model": resnet(3, 4, 6, 3), "training": {"epochs": 4}, "data": {"name": "cifar-10"}}
    longer = {"model": resnet(2, 2, 2, 2), "training": {"epochs": 50}, "data": data, "equal_compute": "teacher"}
    assert epochs(fathomlab.load({"roles": {"teacher": teacher, "longer": longer}})) == [expected]


@pytest.mark.parametrize(("teacher_epochs", "width"), [(1, 32), (3, 32), (7, 24), (2, 8), (1, 4)])
def test_epochs_are_own_epochs_plus_rounded_macs(teacher_epochs: int, width: int):
    """A half is rounded upwards: a teacher of half the MACs per epoch gives one more epoch."""
    plan = fathomlab.load(conf(teacher=mlp(width, teacher_epochs)))
    exact = macs(width) * teacher_epochs / macs(8)
    assert epochs(plan) == [2 + int(exact + 0.5)]
    assert epochs(plan, "baseline") == [2]


def test_images_of_both_roles_count():
    """The teacher sees 800 images per epoch. The student sees 180 of 190, because incomplete batches are left out."""
    student = {"name": "mnist-sample", "limit": 237, "batch_size": 60, "drop_last": True}
    plan = fathomlab.load(conf(longer=mlp(8, 2, equal_compute="teacher", data=student)))
    assert epochs(plan) == [2 + round(3 * macs(32) * 800 / (macs(8) * 180))]


def test_no_trace_except_epochs():
    """It is the trial of a role with this number of epochs."""
    plan = fathomlab.load(conf())
    (number,) = epochs(plan)
    same = fathomlab.load(conf(longer=mlp(8, number)))
    assert [trial.hash for trial in plan.trials] == [trial.hash for trial in same.trials]
    assert plan.trials[-1].parents == ()


def test_schedules_follow_the_epochs():
    """StepLR's default step is a third of the epochs, and the notice names it."""
    longer = mlp(8, 3, equal_compute="teacher")
    longer["training"] |= {"scheduler": "StepLR"}
    plan = fathomlab.load(conf(longer=longer))
    (number,) = epochs(plan)
    assert [notice for notice in plan.notices if notice.endswith(f"uses {number // 3}.")]
    assert not [notice for notice in plan.notices if notice.endswith("uses 1.")]


def test_levels_of_the_named_role_are_conditions():
    """A level of the teacher that changes its compute, but not one that does not."""
    factors = {
        "roles.teacher.model.params.layers_dim": [16, 32],
        "roles.teacher.model.params.init": ["torch", "he"],
        "roles.teacher.training.epochs": [1, 3],
        "roles.teacher.training.lr": [0.1, 0.01],
        "roles.longer.training.lr": [0.001, 0.01],
    }
    plan = fathomlab.load(conf() | {"experiment": {"factors": factors}})
    longer = [condition for condition in plan.conditions if condition.role == "longer"]
    expected = {
        (width, number, lr): 2 + int(number * macs(width) / macs(8) + 0.5)
        for width in (16, 32)
        for number in (1, 3)
        for lr in (0.001, 0.01)
    }
    assert {tuple(item.factors.values()): item.trials[0].recipe.epochs for item in longer} == expected
    assert {key.split(".")[-1] for item in longer for key in item.factors} == {"layers_dim", "epochs", "lr"}


def test_rounded_levels_stay_conditions():
    """Two widths that give the same epochs are both conditions, so that claims at either find theirs."""
    plan = fathomlab.load(
        conf(longer=mlp(32, 2, equal_compute="teacher"))
        | {"experiment": {"factors": {"roles.teacher.model.params.layers_dim": [32, 33, 64]}}}
    )
    assert epochs(plan) == [5, 5, 2 + round(3 * macs(64) / macs(32))]
    assert len({trial.hash for item in plan.conditions if item.role == "longer" for trial in item.trials}) == 2


def test_named_role_may_have_equal_compute_itself():
    plan = fathomlab.load(conf(more=mlp(8, 2, equal_compute="longer")))
    (longer,), (more,) = epochs(plan), epochs(plan, "more")
    assert more == 2 + longer


def test_too_small_a_teacher_has_no_effect():
    plan = fathomlab.load(conf(teacher=mlp(1, 1)))
    assert epochs(plan) == [2]
    assert [notice for notice in plan.notices if notice.startswith("roles.longer.equal_compute")]


PATH = "roles.longer.equal_compute"


@pytest.mark.parametrize(
    ("longer", "factors", "expected"),
    [
        (mlp(8, 2, equal_compute="taecher"), {}, ("unknown-name", PATH)),
        (mlp(8, 2, equal_compute="longer"), {}, ("cycle", PATH)),
        (mlp(8, 2, equal_compute=3), {}, ("wrong-type", PATH)),
        (mlp(8, 2, equal_compute="teacher", parents={"teacher": "teacher"}), {}, ("conflict", PATH)),
        (
            mlp(8, 2, equal_compute="teacher"),
            {"roles.longer.training.epochs": [1, 2]},
            ("conflict", "experiment.factors.roles.longer.training.epochs"),
        ),
        (
            mlp(8, 2, equal_compute="teacher"),
            {"roles.longer.parents.teacher": ["teacher"]},
            ("conflict", PATH),
        ),
    ],
    ids=["unknown", "itself", "number", "with-teacher", "epochs-as-factor", "teacher-as-factor"],
)
def test_problems(longer: dict[str, Any], factors: dict[str, Any], expected: tuple[str, str]):
    assert expected in codes(conf(longer=longer) | {"experiment": {"factors": factors}})


def test_cycle_of_two_roles():
    other = mlp(8, 2, equal_compute="longer")
    assert {code for code, _ in codes(conf(longer=mlp(8, 2, equal_compute="other"), other=other))} == {"cycle"}


def test_number_of_epochs_is_bounded():
    assert codes(conf(teacher=mlp(32, 100_000))) == {("out-of-range", PATH)}
