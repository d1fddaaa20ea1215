"""The fairness audit on trials that differ in known things, and the difference of two summaries."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.audit import audits
from fathomlab.analysis.compare import differences, lines, summary

RESIDUAL, DEPTH = "model.params.residual", "model.params.hidden_layers_num"


def content(**changes: Any) -> dict[str, Any]:
    """A trial's resolved options; a change is a dotted key with two underscores for a dot."""
    made: dict[str, Any] = {
        "format": 1,
        "seed": 0,
        "data": {"name": "mnist", "batch_size": 128, "augment": []},
        "model": {"type": "MLP", "params": {"residual": False, "hidden_layers_num": 5}},
        "training": {"epochs": 2, "optimizer": "Adam", "lr": 0.001, "optimizer_params": {"eps": 1e-8}},
    }
    for key, value in changes.items():
        *sections, last = key.split("__")
        inner = made
        for name in sections:
            inner = inner[name]
        inner[last] = value
    return made


def trials(made: SimpleNamespace, own: dict[str, Any] | None = None, value: Any = 0.9, **changes: Any) -> list[Any]:
    """Three trials that have these options and facts."""
    provenance = {
        "device": "cpu",
        "versions": {"torch": "2.10"},
        "pack": {"size": 6},
        "data": {"files": {"train": "ab12"}},
    }
    facts = {"provenance": provenance, "curves": {"epoch": [1, 2], "step": [10, 20]}, "parameters": 100, "seconds": 1.0}
    return [made.trial("x", value, content(**(own or {}), seed=seed), **(facts | changes)) for seed in range(3)]


def audit(made: SimpleNamespace, first: list[Any], second: list[Any], **changes: Any) -> dict[str, Any]:
    """The audit of shortcuts against none."""
    factor, levels = changes.get("factor", RESIDUAL), changes.get("levels", [True, False])
    conditions = [({factor: levels[0]}, first), ({factor: levels[1]}, second)]
    (found,) = audits(*made.store(conditions, [made.claim(**changes)]))
    json.dumps(found, allow_nan=False)
    return found


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    """Rows by what they are about."""
    return {row["what"]: row for row in found["rows"]}


def test_nothing_but_the_factor(made: SimpleNamespace):
    """The factor is told as expected; everything else agrees."""
    found = audit(made, trials(made, {"model__params__residual": True}), trials(made))
    assert found["summary"] == "Nothing but the factor and what follows from it differs."
    rows = by_name(found)
    assert rows[RESIDUAL] == {"what": RESIDUAL, "first": "true", "second": "false", "differs": True, "expected": True}
    assert [row["what"] for row in found["rows"] if row["differs"]] == [RESIDUAL]
    assert rows["order of the images"]["first"] == "one stream for each seed, the same for both levels"
    assert (rows["updates"]["first"], rows["epochs"]["first"], rows["data files"]["first"]) == ("20", "2", "train ab12")
    assert rows["all other options"]["first"] == "9 agree"
    assert rows["reads of the test set"]["first"] == "1"


@pytest.mark.parametrize(
    ("own", "changes", "what", "text"),
    [
        (
            {"training__lr": 0.01},
            {},
            "training.lr",
            "1 thing besides the factor differs: training.lr (0.01 and 0.001).",
        ),
        ({"data__batch_size": 64}, {}, "data.batch_size", "2 things besides the factor differ: data.batch_size"),
        (
            {},
            {"curves": {"epoch": [1], "step": [10]}},
            "updates",
            "2 things besides the factor differ: epochs (1 and 2)",
        ),
        ({}, {"provenance": {"device": "cuda", "versions": {"torch": "2.10"}}}, "device", "device (cuda and cpu)"),
        ({}, {"value": "failed"}, "trials that failed", "trials that failed (3 of 3 and 0 of 3)"),
        ({}, {"value": "diverged"}, "trials that diverged", "trials that diverged (3 of 3 and 0 of 3)"),
        ({}, {"value": {"test/accuracy": 0.9, "best/test/accuracy": 0.9}}, "reads of the test set", "(2 and 1)"),
    ],
)
def test_what_differs_besides_the_factor_is_named(
    made: SimpleNamespace, own: dict[str, Any], changes: dict[str, Any], what: str, text: str
):
    """One thing at a time is changed in the residual trials."""
    found = audit(made, trials(made, {"model__params__residual": True} | own, **changes), trials(made))
    row = by_name(found)[what]
    assert row["differs"]
    assert not row["expected"]
    assert text in found["summary"]


def test_what_follows_from_the_factor_is_expected(made: SimpleNamespace):
    """A deeper net has more parameters, another program and takes longer; the order of the images stays."""
    first = trials(made, {"model__params__hidden_layers_num": 40}, parameters=900, seconds=3.0)
    (found,) = audits(
        *made.store(
            [({DEPTH: 40}, first), ({DEPTH: 5}, trials(made))], [made.claim(factor="hidden_layers_num", levels=[40, 5])]
        )
    )
    rows = by_name(found)
    for what in ("parameters", "seconds of a trial", DEPTH):
        assert (rows[what]["differs"], rows[what]["expected"]) == (True, True)
    assert found["summary"].startswith("Nothing but")


def test_an_optimiser_brings_its_own_options_and_nothing_else(made: SimpleNamespace):
    """Its options follow from it; another number of parameters would not."""
    key = "training.optimizer"
    first = trials(made, {"training__optimizer": "SGD", "training__optimizer_params": {"momentum": 0.9}}, parameters=99)
    found = audit(made, first, trials(made), factor=key, levels=["SGD", "Adam"])
    rows = by_name(found)
    assert rows["training.optimizer_params.momentum"]["expected"]
    assert found["summary"] == "1 thing besides the factor differs: parameters (99 and 100)."


@pytest.mark.parametrize(("factor", "fair"), [("training_student.lr", True), ("training_student.epochs", False)])
def test_a_student_s_options_are_those_of_its_trials(made: SimpleNamespace, factor: str, fair: bool):
    """`training_student.lr` stands in the trials as training.lr; another factor leaves that difference to be told."""
    found = audit(made, trials(made, {"training__lr": 0.01}), trials(made), factor=factor, levels=[0.01, 0.001])
    assert found["summary"].startswith("Nothing but" if fair else "1 thing besides the factor differs: training.lr")


@pytest.mark.parametrize(("factor", "fair"), [("teacher_model.width", True), ("student_model.width", False)])
def test_a_teacher_s_options_are_the_teacher_s(made: SimpleNamespace, factor: str, fair: bool):
    """A student's factor does not excuse another teacher."""
    first, second = (trials(made, {"teacher": {"model": {"width": width}}}) for width in (8, 4))
    found = audit(made, first, second, factor=factor, levels=[8, 4])
    assert found["summary"].startswith(
        "Nothing but" if fair else "1 thing besides the factor differs: teacher.model.width"
    )


def test_other_seeds_are_another_order(made: SimpleNamespace):
    """Seeds that one level lacks are told."""
    found = audit(made, trials(made, {"model__params__residual": True})[:2], trials(made))
    assert "seeds (0, 1 and 0, 1, 2)" in found["summary"]
    assert by_name(found)["order of the images"]["differs"]


def test_one_level_has_nothing_to_compare(made: SimpleNamespace):
    """Nor has a level that no condition has."""
    conditions = [({RESIDUAL: True}, trials(made))]
    one, none = audits(*made.store(conditions, [made.claim(levels=[True], reference=0.9), made.claim()]))
    assert (one["rows"], one["summary"]) == ([], "One level and a number: nothing to compare.")
    assert (none["rows"], none["summary"]) == ([], "No trials to compare.")


def study(
    made: SimpleNamespace, residual: list[Any], claims: list[Any] | None = None, **factors: Any
) -> dict[str, Any]:
    """The summary of residual and plain nets."""
    conditions = [({RESIDUAL: True, **factors}, residual), ({RESIDUAL: False}, [0.5, 0.5, 0.51])]
    return summary(*made.store(conditions, [made.claim()] if claims is None else claims))


def test_a_summary_is_plain_and_holds_means_with_intervals(made: SimpleNamespace):
    """JSON survives; the mean and the t interval by hand."""
    found = study(made, [0.6, 0.62, "diverged"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    first = found["conditions"][0]
    assert first["trials"] == {"finished": 2, "diverged": 1, "failed": 0}
    metric = first["metrics"]["test/accuracy"]
    assert (metric["mean"], metric["n"]) == (pytest.approx(0.61), 2)
    assert metric["high"] == pytest.approx(0.61 + 12.7062 * 0.01)
    assert found["verdicts"][0]["n"] == 2


def test_equal_summaries_differ_in_nothing(made: SimpleNamespace):
    """And say how many numbers were compared."""
    rows = differences(study(made, [0.6, 0.62, 0.61]), study(made, [0.6, 0.62, 0.61]))
    assert {row["state"] for row in rows} == {"equal"}
    assert lines(rows) == [f"{len(rows)} of {len(rows)} numbers are equal."]


def test_what_changed_is_told_with_its_amount(made: SimpleNamespace):
    """A mean, a count, a verdict, and what only one side has."""
    before = study(made, [0.6, 0.62, 0.61])
    after = study(made, [0.4, 0.42, "failed"], claims=[made.claim(), made.claim(name="another", expect="less")])
    rows = differences(before, after)
    (accuracy,) = (row for row in rows if row["metric"] == "test/accuracy" and row["state"] == "changed")
    assert (accuracy["first"], accuracy["second"], accuracy["change"]) == tuple(map(pytest.approx, (0.61, 0.41, -0.2)))
    text = lines(rows)
    assert "0, test/accuracy: 61.00 % -> 41.00 % (\u221220.00 points)" in text
    assert "0, trials failed: 0 -> 1 (+1)" in text
    assert "claim: shortcuts help, verdict: supported -> undecided" in text
    assert "claim: another, verdict: undecided, only in the second" in text
    assert text[-1].endswith("numbers are equal.")
    other = differences(after, before)
    assert {row["state"] for row in other if row["what"] == "claim: another"} == {"only first"}


def test_a_condition_of_one_side_only(made: SimpleNamespace):
    """It is told once, by its label."""
    one = study(made, [0.6, 0.62, 0.61])
    fewer = {**one, "conditions": one["conditions"][:1]}
    assert "1: only in the first" in lines(differences(one, fewer))
    assert "1: only in the second" in lines(differences(fewer, one))
