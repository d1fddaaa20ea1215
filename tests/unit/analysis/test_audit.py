"""The fairness audit on trials that differ in known things, and the difference of two summaries."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.as_json import audit_json, differences_json, read_summary, summary_json
from fathomlab.analysis.audit import Audit, Finding, summarize
from fathomlab.analysis.audit import audit as audit_claims
from fathomlab.analysis.compare import Summary, diff_summaries, format_diff, summarize_study
from fathomlab.analysis.study import Study, study
from fathomlab.analysis.verdicts import judge

RESIDUAL, DEPTH = "model.params.residual", "model.params.hidden_layers_num"


def content(**changes: Any) -> dict[str, Any]:
    """A trial's resolved options; a change is a dotted key with two underscores for a dot."""
    options: dict[str, Any] = {
        "format": 1,
        "seed": 0,
        "data": {"name": "mnist", "batch_size": 128, "augment": []},
        "model": {"type": "MLP", "params": {"residual": False, "hidden_layers_num": 5}},
        "training": {"epochs": 2, "optimizer": "Adam", "lr": 0.001, "optimizer_params": {"eps": 1e-8}},
    }
    for key, value in changes.items():
        *sections, last = key.split("__")
        inner = options
        for name in sections:
            inner = inner[name]
        inner[last] = value
    return options


def trials(build: SimpleNamespace, own: dict[str, Any] | None = None, value: Any = 0.9, **changes: Any) -> list[Any]:
    """Three trials that have these options and facts."""
    provenance = {
        "device": "cpu",
        "versions": {"torch": "2.10"},
        "pack": {"size": 6},
        "data": {"files": {"train": "ab12"}},
    }
    facts = {"provenance": provenance, "curves": {"epoch": [1, 2], "step": [10, 20]}, "parameters": 100, "seconds": 1.0}
    return [build.trial("x", value, content(**(own or {}), seed=seed), **(facts | changes)) for seed in range(3)]


def audit(build: SimpleNamespace, first: list[Any], second: list[Any], **changes: Any) -> Audit:
    """The audit of shortcuts against none."""
    factor, levels = changes.get("factor", RESIDUAL), changes.get("levels", [True, False])
    conditions = [({factor: levels[0]}, first), ({factor: levels[1]}, second)]
    (result,) = audit_claims(study(*build.store(conditions, [build.claim(**changes)])))
    return result


def by_name(audit: Audit) -> dict[str, Finding]:
    """Findings by property."""
    return {finding.property: finding for finding in audit.findings}


def unexpected(audit: Audit) -> list[str]:
    """Properties that differ although the factor does not explain it."""
    return [finding.property for finding in audit.unexpected]


def test_audit_of_a_fair_comparison_is_clean(build: SimpleNamespace):
    """The factor is expected; everything else agrees."""
    outcome = audit(build, trials(build, {"model__params__residual": True}), trials(build))
    assert unexpected(outcome) == []
    rows = by_name(outcome)
    assert rows[RESIDUAL] == Finding(RESIDUAL, "true", "false", differs=True, expected=True)
    assert [row.property for row in outcome.findings if row.differs] == [RESIDUAL]
    assert not rows["image order"].differs
    assert (rows["updates"].first, rows["epochs"].first, rows["data files"].first) == ("20", "2", "train ab12")
    assert rows["all other options"].first == "9 identical"
    assert rows["test-set evaluations"].first == "1"


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
    build: SimpleNamespace, own: dict[str, Any], changes: dict[str, Any], names: list[str], values: tuple[str, str]
):
    """One thing at a time is changed in the residual trials."""
    outcome = audit(build, trials(build, {"model__params__residual": True} | own, **changes), trials(build))
    assert set(names) <= set(unexpected(outcome))
    row = by_name(outcome)[names[0]]
    assert (row.first, row.second) == values
    assert names[0] in summarize(outcome)


def test_audit_expects_consequences_of_the_factor(build: SimpleNamespace):
    """A deeper net has more parameters, another program and takes longer; the order of the images stays."""
    first = trials(build, {"model__params__hidden_layers_num": 40}, parameters=900, seconds=3.0)
    conditions = [({DEPTH: 40}, first), ({DEPTH: 5}, trials(build))]
    (outcome,) = audit_claims(
        study(*build.store(conditions, [build.claim(factor="hidden_layers_num", levels=[40, 5])]))
    )
    rows = by_name(outcome)
    for what in ("parameters", "seconds per trial", DEPTH):
        assert (rows[what].differs, rows[what].expected) == (True, True)
    assert unexpected(outcome) == []


def test_audit_expects_options_of_the_optimizer(build: SimpleNamespace):
    """Its options follow from it; another number of parameters would not."""
    key = "training.optimizer"
    first = trials(
        build, {"training__optimizer": "SGD", "training__optimizer_params": {"momentum": 0.9}}, parameters=99
    )
    outcome = audit(build, first, trials(build), factor=key, levels=["SGD", "Adam"])
    rows = by_name(outcome)
    assert rows["training.optimizer_params.momentum"].expected
    assert unexpected(outcome) == ["parameters"]


@pytest.mark.parametrize(("factor", "fair"), [("training_student.lr", True), ("training_student.epochs", False)])
def test_audit_matches_options_of_students(build: SimpleNamespace, factor: str, fair: bool):
    """`training_student.lr` stands in the trials as training.lr; another factor leaves that difference to be told."""
    outcome = audit(build, trials(build, {"training__lr": 0.01}), trials(build), factor=factor, levels=[0.01, 0.001])
    assert unexpected(outcome) == ([] if fair else ["training.lr"])


@pytest.mark.parametrize(("factor", "fair"), [("teacher_model.width", True), ("student_model.width", False)])
def test_audit_separates_teacher_from_student(build: SimpleNamespace, factor: str, fair: bool):
    """A student's factor does not excuse another teacher."""
    first, second = (trials(build, {"teacher": {"model": {"width": width}}}) for width in (8, 4))
    outcome = audit(build, first, second, factor=factor, levels=[8, 4])
    assert unexpected(outcome) == ([] if fair else ["teacher.model.width"])


def test_audit_reports_other_seeds_and_order(build: SimpleNamespace):
    """Seeds that one level lacks are told."""
    outcome = audit(build, trials(build, {"model__params__residual": True})[:2], trials(build))
    assert unexpected(outcome) == ["seeds", "image order"]
    assert (by_name(outcome)["seeds"].first, by_name(outcome)["seeds"].second) == ("0, 1", "0, 1, 2")


def test_audit_of_one_level_has_no_findings(build: SimpleNamespace):
    """Nor has a level that no condition has."""
    conditions = [({RESIDUAL: True}, trials(build))]
    claims = [build.claim(levels=[True], reference=0.9), build.claim()]
    one, none = audit_claims(study(*build.store(conditions, claims)))
    assert (one.findings, one.levels) == ((), ())
    assert (none.findings, none.levels) == ((), ("true", "false"))
    assert len({summarize(one), summarize(none)}) == 2


def test_audit_expects_options_that_plain_networks_ignore(build: SimpleNamespace):
    """Plain CNNs ignore zero_init_residual, so their default there is no difference; other widths are one."""
    first, second = (
        trials(build, {"model": {"type": "CNN", "params": {"residual": on, "zero_init_residual": on, "width": width}}})
        for on, width in ((True, 8), (False, 4))
    )
    outcome = audit(build, first, second)
    assert unexpected(outcome) == ["model.params.width"]
    assert by_name(outcome)["model.params.zero_init_residual"].expected


def test_audit_json_has_a_row_per_finding(build: SimpleNamespace):
    """The keys are those of earlier releases, and JSON survives."""
    result = audit_json(audit(build, trials(build, {"model__params__residual": True}), trials(build)))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result) == ["name", "levels", "rows", "summary"]
    assert (result["name"], result["levels"]) == ("shortcuts help", ["true", "false"])
    assert result["rows"][0] == {
        "what": RESIDUAL,
        "first": "true",
        "second": "false",
        "differs": True,
        "expected": True,
    }


def residual_study(
    build: SimpleNamespace, residual: list[Any], claims: list[Any] | None = None, **factors: Any
) -> Study:
    """Residual and plain networks."""
    conditions = [({RESIDUAL: True, **factors}, residual), ({RESIDUAL: False}, [0.5, 0.5, 0.51])]
    return study(*build.store(conditions, [build.claim()] if claims is None else claims))


def numbers(build: SimpleNamespace, residual: list[Any], claims: list[Any] | None = None) -> Summary:
    """The summary of residual and plain networks."""
    value = residual_study(build, residual, claims)
    return summarize_study(value, judge(value))


def test_summary_json_has_means_with_intervals(build: SimpleNamespace):
    """JSON survives, and gives the summary back; the mean and the t interval by hand."""
    value = residual_study(build, [0.6, 0.62, "diverged"])
    result = summary_json(value, judge(value))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result) == ["format", "name", "title", "headline", "seeds", "claims_hash", "conditions", "verdicts"]
    first = result["conditions"][0]
    assert list(first) == ["label", "role", "factors", "seeds", "trials", "metrics"]
    assert first["trials"] == {"finished": 2, "diverged": 1, "failed": 0}
    metric = first["metrics"]["test/accuracy"]
    assert (metric["mean"], metric["n"]) == (pytest.approx(0.61), 2)
    assert metric["high"] == pytest.approx(0.61 + 12.7062 * 0.01)
    assert result["verdicts"][0]["n"] == 3
    assert read_summary(result) == summarize_study(value, judge(value))


@pytest.mark.parametrize("value", [[], {}, {"conditions": [{}]}, {"conditions": [{"label": 1}]}])
def test_read_summary_rejects_other_json(value: Any):
    """A page of another program has no conditions with labels."""
    with pytest.raises(ValueError, match="validation error"):
        read_summary(value)


def test_equal_summaries_have_no_differences(build: SimpleNamespace):
    """The only line counts the numbers."""
    rows = diff_summaries(numbers(build, [0.6, 0.62, 0.61]), numbers(build, [0.6, 0.62, 0.61]))
    assert {row.state for row in rows} == {"equal"}
    assert len(format_diff(rows)) == 1


def test_differences_have_first_second_and_change(build: SimpleNamespace):
    """A mean, a count, a verdict, and what only one side has."""
    before = numbers(build, [0.6, 0.62, 0.61])
    after = numbers(build, [0.4, 0.42, "failed"], claims=[build.claim(), build.claim(name="another", expect="less")])
    rows = diff_summaries(before, after)
    (accuracy,) = (row for row in rows if row.metric == "test/accuracy" and row.state == "changed")
    assert (accuracy.first, accuracy.second, accuracy.change) == tuple(map(pytest.approx, (0.61, 0.41, -0.2)))
    states = {(row.what, row.metric): (row.first, row.second, row.state) for row in rows}
    assert states["0", "trials failed"] == (0, 1, "changed")
    assert states["claim: shortcuts help", "verdict"] == ("supported", "undecided", "changed")
    assert states["claim: another", "verdict"] == (None, "undecided", "only second")
    lines = format_diff(rows)
    assert len(lines) == 1 + sum(row.state != "equal" for row in rows)
    assert any("61.00% -> 41.00%" in line for line in lines)
    assert {row.state for row in diff_summaries(after, before) if row.what == "claim: another"} == {"only first"}
    changed = next(row for row in differences_json(rows) if row["metric"] == "trials failed")
    assert list(changed.items()) == list(
        {"what": "0", "metric": "trials failed", "first": 0, "second": 1, "change": 1, "state": "changed"}.items()
    )


def test_condition_of_one_summary_only_is_one_row(build: SimpleNamespace):
    """It is listed once, by its label."""
    full = numbers(build, [0.6, 0.62, 0.61])
    fewer = Summary(full.conditions[:1], full.verdicts)
    for first, second, state in ((full, fewer, "only first"), (fewer, full, "only second")):
        assert [row.state for row in diff_summaries(first, second) if row.what == "1"] == [state]
