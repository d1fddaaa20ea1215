"""Every combination of the options of students is one trial with one name, or is refused."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import fathomlab
from fathomlab.base.errors import ConfigError
from fathomlab.base.packing import signature
from fathomlab.plan import Trial, decode_trial, encode_trial, read_trial

LOSSES: list[dict[str, Any]] = [
    {},
    {"alpha": 0.0},
    {"temperature": 1.0},
    *(
        {"loss": {"type": name}}
        for name in ("Distillation", "CrossEntropy", "LogitMSE", "DKD", "DIST", "TTM", "FitNet")
    ),
]
MISTAKES = ["mean_reduction", "no_t2", "shuffled_cache", "student_eval", "unmatched_schedule"]
LATER = {"distillation": {"targets": "on_the_fly", "placebo": None}, "training": {"emulate": [], "frozen": []}}
MODEL = {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1, "batch_norm": True}}


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """An experiment with students of one teacher or of two."""
    section = dict(draw(st.sampled_from(LOSSES)))
    section |= {"targets": draw(st.sampled_from(["on_the_fly", "consistent", "clean", "cached"]))}
    section |= {"placebo": draw(st.sampled_from([None, "label_smoothing", "class_mean", "within_class", "shuffled"]))}
    training = {
        "epochs": draw(st.sampled_from([1, 2])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
        "scheduler": draw(st.sampled_from([None, "StepLR", "OneCycleLR"])),
        "emulate": draw(st.lists(st.sampled_from(MISTAKES), unique=True, max_size=3)),
        "frozen": draw(st.sampled_from([[], ["input"]])),
    }
    plain = {"model": MODEL, "training": {"epochs": 2}}
    teacher = draw(st.sampled_from(["first", ["first", "second"]]))
    parents = {"teacher": teacher, "start": draw(st.sampled_from([None, "longer"]))}
    roles = {
        "first": plain,
        "second": {**plain, "seed_offset": 100},
        "longer": {"model": MODEL, "training": {"epochs": 1}, "equal_compute": "first"},
        "student": {"model": MODEL, "training": training, "parents": parents, "distillation": section},
    }
    augment = draw(st.sampled_from([[], ["flip"], ["flip", "crop"]]))
    data = {"name": "mnist-sample", "limit": 120, "batch_size": 40, "augment": augment}
    return {"data": data, "roles": roles, "experiment": {"seeds": 2}}


def students(file: dict[str, Any]) -> tuple[Trial, ...]:
    """The trials of the student."""
    (condition,) = (each for each in fathomlab.load(file).conditions if each.role == "student")
    return condition.trials


@settings(max_examples=150, deadline=None, derandomize=True)
@given(files())
def test_trials_round_trip(file: dict[str, Any]) -> None:
    """Their content names them, options at their default leave no trace in it, and what it says again is the same trial."""
    try:
        first, second = students(file)
    except ConfigError as error:
        assert {problem.code for problem in error.problems} <= {"conflict"}  # noqa: PT017
        return
    assert signature(first.recipe) == signature(second.recipe)
    parents = tuple(parent for _, parent in first.parents)
    again = read_trial(json.loads(first.canonical_json), parents)
    assert (again, again.recipe, again.hash) == (first, first.recipe, first.hash)
    assert decode_trial(encode_trial(first)).recipe == first.recipe
    content = first.content
    for name, defaults in LATER.items():
        assert not [key for key, default in defaults.items() if key in content[name] and content[name][key] == default]
    effective = {key: value for key, value in content["distillation"].items() if key in LATER["distillation"]}
    section = file["roles"]["student"]["distillation"]
    section = {key: value for key, value in section.items() if key not in LATER["distillation"]} | effective
    training = {**file["roles"]["student"]["training"], "emulate": content["training"].get("emulate", [])}
    student = {**file["roles"]["student"], "distillation": section, "training": training}
    assert students({**file, "roles": {**file["roles"], "student": student}}) == (first, second)
