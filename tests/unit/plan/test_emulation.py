"""`training.emulate`: mistakes of distillation code as part of a student's identity, and as a factor."""

import json
from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.base.packing import signature
from fathomlab.losses.distillation import Distillation
from fathomlab.losses.emulated import EmulatedDistillation
from fathomlab.optim.schedules import Constant, StepLR
from fathomlab.plan import Plan, read_trial
from fathomlab.plan.plan import Condition
from fathomlab.plan.trial import decode_trial, encode_trial

ALL = ["mean_reduction", "no_t2", "shuffled_cache", "student_eval", "unmatched_schedule"]
KEY = "training_student.emulate"
NORMED = {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1, "batch_norm": True}}
CONFIG: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 120, "batch_size": 40},
    "teacher_model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1}},
    "student_model": NORMED,
    "training_teacher": {"epochs": 2},
    "training_student": {"epochs": 2, "scheduler": "StepLR"},
    "distillation": {"alpha": 0.9},
}


def config(emulate: Any = None, **changes: Any) -> dict[str, Any]:
    """The file with these mistakes; changes replace options of sections."""
    file = {name: {**section, **changes.get(name, {})} for name, section in CONFIG.items()}
    file |= {name: section for name, section in changes.items() if name not in file}
    return file if emulate is None else file | {"training_student": {**file["training_student"], "emulate": emulate}}


def factor(*levels: Any, **changes: Any) -> Plan:
    """A plan whose factor are these lists of mistakes."""
    return fathomlab.load(config(experiment={"factors": {KEY: list(levels)}}, **changes))


def of_role(plan: Plan, role: str) -> list[Condition]:
    """The conditions of a role."""
    return [condition for condition in plan.conditions if condition.role == role]


def distilled(emulate: Any = None, **changes: Any) -> Any:
    """The only distilled trial."""
    (condition,) = of_role(fathomlab.load(config(emulate, **changes)), "distilled")
    return condition.trials[0]


def about_mistakes(plan: Plan) -> list[str]:
    """The notices about mistakes: key, mistake, and the rest."""
    return [notice for notice in plan.notices if ".emulate" in notice]


def test_emulate_is_part_of_the_identity_if_it_is_set():
    plain, empty, one = distilled(), distilled([]), distilled(["no_t2"])
    assert plain.hash == empty.hash != one.hash
    assert "emulate" not in plain.content["training"]
    assert one.content["training"] == {**plain.content["training"], "emulate": ["no_t2"]}
    assert {key: value for key, value in one.content.items() if key != "training"} == {
        key: value for key, value in plain.content.items() if key != "training"
    }


def test_order_and_duplicates_do_not_matter():
    first, second = distilled(["student_eval", "no_t2", "student_eval"]), distilled(["no_t2", "student_eval"])
    assert first.hash == second.hash
    assert first.content["training"]["emulate"] == ["no_t2", "student_eval"]


def test_baseline_and_teacher_are_one_trial_at_all_levels():
    plan = factor([], *([name] for name in ALL), ALL)
    right = fathomlab.load(config())
    for role in ("teacher", "baseline"):
        (condition,) = of_role(plan, role)
        assert condition.factors == {}
        assert condition.trials == of_role(right, role)[0].trials
    students = of_role(plan, "distilled")
    assert [student.factors for student in students] == [{KEY: level} for level in ([], *([n] for n in ALL), ALL)]
    assert students[0].trials == of_role(right, "distilled")[0].trials
    assert len({student.trials[0].hash for student in students}) == 7
    assert len({signature(student.trials[0].recipe) for student in students}) == 7
    assert students[0].label == "distilled emulate=none"
    assert students[1].label == "distilled emulate=mean_reduction"
    assert not about_mistakes(plan)
    # also if the file sets them for all students
    (baseline,) = of_role(fathomlab.load(config(ALL)), "baseline")
    assert baseline.trials == of_role(right, "baseline")[0].trials
    assert baseline.trials[0].recipe.emulate == ()


def test_recipe_has_the_mistakes():
    right, wrong = distilled().recipe, distilled(ALL).recipe
    assert isinstance(right.loss, Distillation)
    assert right.schedule == StepLR()
    assert right.emulate == ()
    assert wrong.loss == EmulatedDistillation(right.loss, no_t2=True, mean_reduction=True)
    assert wrong.schedule == Constant()
    assert wrong.emulate == tuple(ALL)
    assert wrong.lr == right.lr
    assert distilled(["no_t2"]).recipe.loss == EmulatedDistillation(right.loss, no_t2=True)
    assert distilled(["no_t2"]).recipe.schedule == StepLR()
    assert distilled(["shuffled_cache"]).recipe.loss == right.loss


def test_trials_round_trip_through_their_content():
    trial = distilled(ALL)
    again = read_trial(json.loads(trial.canonical_json), trial.teachers)
    assert (again, again.recipe) == (trial, trial.recipe)
    assert decode_trial(json.loads(json.dumps(encode_trial(trial)))) == trial


@pytest.mark.parametrize("emulate", [["student_eval", "no_t2"], ["no_t3"], "no_t2", []], ids=str)
def test_read_trial_rejects_other_spellings(emulate: Any):
    trial = distilled(["no_t2", "student_eval"])
    content = trial.content | {"training": {**trial.content["training"], "emulate": emulate}}
    with pytest.raises(ValueError):  # noqa: PT011
        read_trial(content, trial.teachers)


def test_read_trial_rejects_mistakes_that_do_not_act():
    """Without a teacher, and without effect."""
    plan = fathomlab.load(config())
    without_schedule = {"scheduler": None, "scheduler_params": {}, "emulate": ["unmatched_schedule"]}
    for role, changes in (("baseline", {"emulate": ["student_eval"]}), ("distilled", without_schedule)):
        trial = of_role(plan, role)[0].trials[0]
        with pytest.raises(ValueError, match="not the content"):
            read_trial(trial.content | {"training": {**trial.content["training"], **changes}}, trial.teachers)


PLAIN_MLP = {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}}
WITHOUT_EFFECT = [
    ("unmatched_schedule", {"training_student": {"scheduler": None}}),
    ("unmatched_schedule", {"training_student": {"epochs": 1}}),
    ("student_eval", {"student_model": PLAIN_MLP}),
    ("student_eval", {"training_student": {"epochs": 1}}),
    ("shuffled_cache", {"training_student": {"epochs": 1}}),
    ("shuffled_cache", {"distillation": {"alpha": 0.0}}),
    (
        "shuffled_cache",
        {"data": {"augment": ["flip"]}, "training_student": {"epochs": 1}, "distillation": {"targets": "clean"}},
    ),
    ("mean_reduction", {"distillation": {"alpha": 0.0}}),
    ("no_t2", {"distillation": {"alpha": 0.0}}),
    ("no_t2", {"distillation": {"temperature": 1.0}}),
]


@pytest.mark.parametrize(("mistake", "changes"), WITHOUT_EFFECT, ids=str)
def test_mistakes_without_effect_are_left_out(mistake: str, changes: dict[str, Any]):
    """One notice; the trial is the right one, also as a level in front of the right one."""
    right = distilled(**changes)
    plan = fathomlab.load(config([mistake], **changes) | {"experiment": {"seeds": 3}})
    (condition,) = of_role(plan, "distilled")
    assert condition.trials[0] == right
    (notice,) = about_mistakes(plan)
    assert notice.startswith(f"{KEY}: {mistake} has no effect ")
    both = factor([mistake], [], **changes)
    (condition,) = of_role(both, "distilled")
    assert condition.factors == {KEY: []}
    assert condition.trials == (right,)
    assert about_mistakes(both) == [notice]


@pytest.mark.parametrize("loss", ["RKD", "FitNet"])
def test_shuffled_cache_needs_a_loss_of_outputs(loss: str):
    """A loss of features reads nothing from the cache."""
    section = {"loss": {"type": loss}}
    file = {name: each for name, each in CONFIG.items() if name != "distillation"} | {"distillation": section}
    wrong = {**file, "training_student": {**file["training_student"], "emulate": ["shuffled_cache"]}}
    (right,), (same,) = (of_role(fathomlab.load(each), "distilled") for each in (file, wrong))
    assert same.trials == right.trials


def test_shuffled_cache_has_one_kind_of_targets():
    """Its outputs are those for images without augmentation, whatever the targets are."""
    file = config(["shuffled_cache"], data={"augment": ["flip"]})
    file |= {"experiment": {"factors": {"distillation.targets": ["on_the_fly", "consistent", "clean", "cached"]}}}
    plan = fathomlab.load(file)
    (condition,) = of_role(plan, "distilled")
    (trial,) = condition.trials
    assert (trial.recipe.targets, trial.recipe.table_views, trial.recipe.runs_teachers) == ("on_the_fly", 0, False)
    assert [notice for notice in plan.notices if notice.startswith("distillation.targets:")]
    by_class = file | {"distillation": {"placebo": "class_mean"}}
    assert [each.trials[0].recipe.targets for each in of_role(fathomlab.load(by_class), "distilled")] == [
        "on_the_fly",
        "clean",
    ]


def test_cache_of_a_loss_without_teacher_is_left_out():
    plan = fathomlab.load(config(["shuffled_cache"]) | {"distillation": {"loss": {"type": "CrossEntropy"}}})
    assert of_role(plan, "distilled")[0].trials[0].recipe.emulate == ()
    assert len(about_mistakes(plan)) == 1


WITH_EFFECT = [
    ("unmatched_schedule", {"training_student": {"epochs": 1, "scheduler": "OneCycleLR"}}),
    ("student_eval", {"student_model": {"params": {**PLAIN_MLP["params"], "dropout": 0.1}}}),
    ("shuffled_cache", {"data": {"augment": ["flip"]}, "training_student": {"epochs": 1}}),
    ("mean_reduction", {"distillation": {"temperature": 1.0}}),
    ("no_t2", {"training_student": {"epochs": 1}}),
]


@pytest.mark.parametrize(("mistake", "changes"), WITH_EFFECT, ids=str)
def test_mistakes_with_an_effect_stay(mistake: str, changes: dict[str, Any]):
    plan = fathomlab.load(config([mistake], **changes))
    assert of_role(plan, "distilled")[0].trials[0].recipe.emulate == (mistake,)
    assert not about_mistakes(plan)


def test_levels_of_other_factors_decide_the_effect():
    """At temperature 1, the trial without the factor T^2 is the right one: 2 x 2 levels are 3 conditions."""
    file = config(experiment={"factors": {"distillation.temperature": [1.0, 4.0], KEY: [[], ["no_t2"]]}})
    students = of_role(fathomlab.load(file), "distilled")
    assert [tuple(student.factors.values()) for student in students] == [(1.0, []), (4.0, []), (4.0, ["no_t2"])]


@pytest.mark.parametrize("section", ["training", "training_teacher"])
def test_mistakes_of_networks_without_teacher_are_ignored(section: str):
    """With one notice; as a factor, they split nothing."""
    file: dict[str, Any] = config()
    if section == "training":
        file = {"data": CONFIG["data"], "model": NORMED, "training": {"epochs": 2}}
    right = fathomlab.load(file)
    wrong = {**file, section: {**file[section], "emulate": ["student_eval"]}}
    for conf in (wrong, {**file, "experiment": {"factors": {f"{section}.emulate": [[], ["student_eval"]]}}}):
        plan = fathomlab.load(conf)
        assert plan.trials == right.trials
        assert [condition.label for condition in plan.conditions] == [item.label for item in right.conditions]
        (notice,) = about_mistakes(plan)
        assert notice.startswith(f"{section}.emulate: no effect")


def roles(**student: Any) -> dict[str, Any]:
    """A file with roles: an assistant learns from the teacher, a student from the assistant, a baseline from labels."""
    training = {"epochs": 2}
    assistant = {"model": NORMED, "training": training, "parents": {"teacher": "teacher"}}
    return {
        "data": CONFIG["data"],
        "roles": {
            "teacher": {"model": NORMED, "training": training},
            "baseline": {"model": NORMED, "training": training},
            "assistant": assistant,
            "student": assistant | {"parents": {"teacher": "assistant"}} | student,
        },
    }


def test_factor_of_a_role():
    """A student of an assistant with a mistake reads the factor through its teacher."""
    key = "roles.assistant.training.emulate"
    plan = fathomlab.load(roles() | {"experiment": {"factors": {key: [[], ["no_t2", "student_eval"]]}}})
    counts = {role: len(of_role(plan, role)) for role in ("teacher", "baseline", "assistant", "student")}
    assert counts == {"teacher": 1, "baseline": 1, "assistant": 2, "student": 2}
    assert [student.factors for student in of_role(plan, "student")] == [{key: []}, {key: ["no_t2", "student_eval"]}]
    assert [student.trials[0].recipe.emulate for student in of_role(plan, "student")] == [(), ()]


def test_factor_of_a_role_that_may_have_a_teacher():
    """Where the factor of its parents says that it has none, the mistakes do not act."""
    factors = {"roles.student.parents.teacher": ["teacher", None], "roles.student.training.emulate": [[], ["no_t2"]]}
    plan = fathomlab.load(roles(parents={"teacher": "teacher"}) | {"experiment": {"factors": factors}})
    students = of_role(plan, "student")
    assert [tuple(student.factors.values()) for student in students] == [
        ("teacher", []),
        ("teacher", ["no_t2"]),
        (None,),
    ]
    assert not about_mistakes(plan)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training_student": {"emulate": ["no_t3"]}}, ("unknown-name", f"{KEY}[0]")),
        ({"training_student": {"emulate": "no_t2"}}, ("wrong-type", KEY)),
        ({"training_student": {"emulate": [True]}}, ("unknown-name", f"{KEY}[0]")),
        ({"training_student": {"emulate": None}}, ("wrong-type", KEY)),
        ({"distillation": {"emulate": ["no_t2"]}}, ("unknown-key", "distillation.emulate")),
    ],
    ids=str,
)
def test_invalid_mistakes_are_reported(changes: dict[str, Any], expected: tuple[str, str]):
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(config(**changes))
    assert [(problem.code, problem.path) for problem in raised.value.problems] == [expected]
    if expected[0] == "unknown-key":
        assert KEY in raised.value.problems[0].message


@pytest.mark.parametrize("as_factor", [False, True])
@pytest.mark.parametrize("mistakes", [["no_t2"], ["mean_reduction", "student_eval"]], ids=str)
def test_mistakes_of_another_loss_are_reported(mistakes: list[str], as_factor: bool):
    """`no_t2` and `mean_reduction` are mistakes of `Distillation`; the other ones act with any loss that reads the teacher."""
    other = {name: section for name, section in config().items() if name != "distillation"}
    other["distillation"] = {"loss": {"type": "LogitMSE"}}
    training = other["training_student"]
    changes: dict[str, Any] = {"training_student": {**training, "emulate": mistakes}}
    if as_factor:
        changes = {"experiment": {"factors": {KEY: [[], mistakes]}, "seeds": 2}}
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(other | changes)
    (problem,) = raised.value.problems
    assert (problem.code, problem.path) == ("conflict", KEY)
    assert mistakes[0] in problem.message
    assert "LogitMSE" in problem.message
    allowed = ["shuffled_cache", "student_eval", "unmatched_schedule"]
    plan = fathomlab.load(other | {"training_student": {**training, "emulate": allowed}})
    assert of_role(plan, "distilled")[0].trials[0].recipe.emulate == tuple(allowed)


def test_claims_name_mistakes_in_any_order():
    claim = {"name": "a", "factor": "emulate", "expect": "less"}
    file = config(experiment={"factors": {KEY: [[], ["no_t2", "mean_reduction"]]}})
    for levels in ([["no_t2", "mean_reduction"], []], [[], ["mean_reduction", "no_t2"]]):
        assert len(fathomlab.load(file | {"claims": [claim | {"levels": levels}]}).conditions) == 4
    for levels, code in (
        ([["no_t2"], []], "no-such-condition"),
        ([["no_t2", "mean_reduction"], ["mean_reduction", "no_t2"]], "invalid-claim"),
    ):
        with pytest.raises(ConfigError) as raised:
            fathomlab.load(file | {"claims": [claim | {"levels": levels}]})
        assert [problem.code for problem in raised.value.problems] == [code]
