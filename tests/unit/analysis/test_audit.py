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


def unexpected(found: dict[str, Any]) -> list[str]:
    """Names of the rows that differ although the factor does not explain it."""
    return [row["what"] for row in found["rows"] if row["differs"] and not row["expected"]]


def test_audit_of_a_fair_comparison_is_clean(made: SimpleNamespace):
    """The factor is expected; everything else agrees."""
    found = audit(made, trials(made, {"model__params__residual": True}), trials(made))
    assert unexpected(found) == []
    rows = by_name(found)
    assert rows[RESIDUAL] == {"what": RESIDUAL, "first": "true", "second": "false", "differs": True, "expected": True}
    assert [row["what"] for row in found["rows"] if row["differs"]] == [RESIDUAL]
    assert not rows["image order"]["differs"]
    assert (rows["updates"]["first"], rows["epochs"]["first"], rows["data files"]["first"]) == ("20", "2", "train ab12")
    assert rows["all other options"]["first"] == "9 identical"
    assert rows["test-set evaluations"]["first"] == "1"


@pytest.mark.parametrize(
    ("own", "changes", "names", "values"),
    [
        ({"training__lr": 0.01}, {}, ["training.lr"], ("0.01", "0.001")),
        ({"data__batch_size": 64}, {}, ["data.batch_size", "image order"], ("64", "128")),
        ({}, {"curves": {"epoch": [1], "step": [10]}}, ["epochs", "updates"], ("1", "2")),
        (
            {},
            {"provenance": {"device": "cuda", "data": {"files": {"train": "ab12"}}}},
            ["device"],
            ("cuda", "cpu"),
        ),
        ({}, {"value": "failed"}, ["failed trials"], ("3 of 3", "0 of 3")),
        ({}, {"value": "diverged"}, ["diverged trials"], ("3 of 3", "0 of 3")),
        ({}, {"value": {"test/accuracy": 0.9, "best/test/accuracy": 0.9}}, ["test-set evaluations"], ("2", "1")),
    ],
)
def test_audit_names_unexpected_differences(
    made: SimpleNamespace, own: dict[str, Any], changes: dict[str, Any], names: list[str], values: tuple[str, str]
):
    """One thing at a time is changed in the residual trials."""
    found = audit(made, trials(made, {"model__params__residual": True} | own, **changes), trials(made))
    assert set(names) <= set(unexpected(found))
    row = by_name(found)[names[0]]
    assert (row["first"], row["second"]) == values
    assert names[0] in found["summary"]


def test_what_follows_from_the_factor_is_expected(made: SimpleNamespace):
    """A deeper net has more parameters, another program and takes longer; the order of the images stays."""
    first = trials(made, {"model__params__hidden_layers_num": 40}, parameters=900, seconds=3.0)
    (found,) = audits(
        *made.store(
            [({DEPTH: 40}, first), ({DEPTH: 5}, trials(made))], [made.claim(factor="hidden_layers_num", levels=[40, 5])]
        )
    )
    rows = by_name(found)
    for what in ("parameters", "seconds per trial", DEPTH):
        assert (rows[what]["differs"], rows[what]["expected"]) == (True, True)
    assert unexpected(found) == []


def test_audit_expects_options_of_the_optimizer(made: SimpleNamespace):
    """Its options follow from it; another number of parameters would not."""
    key = "training.optimizer"
    first = trials(made, {"training__optimizer": "SGD", "training__optimizer_params": {"momentum": 0.9}}, parameters=99)
    found = audit(made, first, trials(made), factor=key, levels=["SGD", "Adam"])
    rows = by_name(found)
    assert rows["training.optimizer_params.momentum"]["expected"]
    assert unexpected(found) == ["parameters"]


@pytest.mark.parametrize(("factor", "fair"), [("training_student.lr", True), ("training_student.epochs", False)])
def test_a_student_s_options_are_those_of_its_trials(made: SimpleNamespace, factor: str, fair: bool):
    """`training_student.lr` stands in the trials as training.lr; another factor leaves that difference to be told."""
    found = audit(made, trials(made, {"training__lr": 0.01}), trials(made), factor=factor, levels=[0.01, 0.001])
    assert unexpected(found) == ([] if fair else ["training.lr"])


@pytest.mark.parametrize(("factor", "fair"), [("teacher_model.width", True), ("student_model.width", False)])
def test_a_teacher_s_options_are_the_teacher_s(made: SimpleNamespace, factor: str, fair: bool):
    """A student's factor does not excuse another teacher."""
    first, second = (trials(made, {"teacher": {"model": {"width": width}}}) for width in (8, 4))
    found = audit(made, first, second, factor=factor, levels=[8, 4])
    assert unexpected(found) == ([] if fair else ["teacher.model.width"])


def test_other_seeds_are_another_order(made: SimpleNamespace):
    """Seeds that one level lacks are told."""
    found = audit(made, trials(made, {"model__params__residual": True})[:2], trials(made))
    assert unexpected(found) == ["seeds", "image order"]
    assert (by_name(found)["seeds"]["first"], by_name(found)["seeds"]["second"]) == ("0, 1", "0, 1, 2")


def test_one_level_has_nothing_to_compare(made: SimpleNamespace):
    """Nor has a level that no condition has."""
    conditions = [({RESIDUAL: True}, trials(made))]
    one, none = audits(*made.store(conditions, [made.claim(levels=[True], reference=0.9), made.claim()]))
    assert (one["rows"], one["levels"]) == ([], [])
    assert none["rows"] == []


def test_audit_expects_options_that_plain_networks_ignore(made: SimpleNamespace):
    """Plain CNNs ignore zero_init_residual, so their default there is no difference; other widths are one."""
    first, second = (
        trials(made, {"model": {"type": "CNN", "params": {"residual": on, "zero_init_residual": on, "width": width}}})
        for on, width in ((True, 8), (False, 4))
    )
    found = audit(made, first, second)
    assert unexpected(found) == ["model.params.width"]
    assert by_name(found)["model.params.zero_init_residual"]["expected"]


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
    assert found["verdicts"][0]["n"] == 3


def test_equal_summaries_differ_in_nothing(made: SimpleNamespace):
    """And say how many numbers were compared."""
    rows = differences(study(made, [0.6, 0.62, 0.61]), study(made, [0.6, 0.62, 0.61]))
    assert {row["state"] for row in rows} == {"equal"}
    assert len(lines(rows)) == 1


def test_what_changed_is_told_with_its_amount(made: SimpleNamespace):
    """A mean, a count, a verdict, and what only one side has."""
    before = study(made, [0.6, 0.62, 0.61])
    after = study(made, [0.4, 0.42, "failed"], claims=[made.claim(), made.claim(name="another", expect="less")])
    rows = differences(before, after)
    (accuracy,) = (row for row in rows if row["metric"] == "test/accuracy" and row["state"] == "changed")
    assert (accuracy["first"], accuracy["second"], accuracy["change"]) == tuple(map(pytest.approx, (0.61, 0.41, -0.2)))
    states = {(row["what"], row["metric"]): (row["first"], row["second"], row["state"]) for row in rows}
    assert states["0", "trials failed"] == (0, 1, "changed")
    assert states["claim: shortcuts help", "verdict"] == ("supported", "undecided", "changed")
    assert states["claim: another", "verdict"] == (None, "undecided", "only second")
    assert len(lines(rows)) == 1 + sum(row["state"] != "equal" for row in rows)
    assert any("61.00% -> 41.00%" in line for line in lines(rows))
    other = differences(after, before)
    assert {row["state"] for row in other if row["what"] == "claim: another"} == {"only first"}


def test_a_condition_of_one_side_only(made: SimpleNamespace):
    """It is told once, by its label."""
    one = study(made, [0.6, 0.62, 0.61])
    fewer = {**one, "conditions": one["conditions"][:1]}
    for first, second, state in ((one, fewer, "only first"), (fewer, one, "only second")):
        assert [row["state"] for row in differences(first, second) if row["what"] == "1"] == [state]
