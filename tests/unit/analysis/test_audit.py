"""The fairness audit on trials that differ in known things, and the difference of two summaries."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.as_json import differences_json, read_summary, summary_json
from fathomlab.analysis.audit import Audit, Finding, summarize
from fathomlab.analysis.audit import audit as audit_claims
from fathomlab.analysis.compare import Summary, diff_summaries, format_diff, summarize_study
from fathomlab.analysis.expected import follows
from fathomlab.analysis.study import Study, study
from fathomlab.analysis.verdicts import judge
from fathomlab.store.provenance import BackendBuild, DataSource, Hardware, PackSlot, Provenance

PROVENANCE = Provenance(
    device="cpu",
    versions={"torch": "2.10"},
    backend=BackendBuild("reference", "torch 2.10"),
    pack=PackSlot(6, 0),
    data=DataSource(files={"train": "ab12"}),
)
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
    facts = {"provenance": PROVENANCE, "curves": {"epoch": [1, 2], "step": [10, 20]}, "parameters": 100, "seconds": 1.0}
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
            {"provenance": Provenance(device="cuda", data=DataSource(files={"train": "ab12"}))},
            ["device"],
            ("cuda", "cpu"),
        ),
        (
            {},
            {"provenance": replace(PROVENANCE, backend=BackendBuild("graph", ""))},
            ["backend"],
            ("graph", "reference"),
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


@pytest.mark.parametrize(
    ("other", "fair"),
    [({}, True), ({"plugins": {"parts.py": "ab", "more.py": "cd"}}, True), ({"training__lr": 0.1}, False)],
    ids=str,
)
def test_audit_expects_what_a_named_loss_replaces(build: SimpleNamespace, other: dict[str, Any], fair: bool):
    training = {"epochs": 2, "lr": 0.001}
    criterion = {**training, "criterion": "CrossEntropyLoss", "label_smoothing": 0.0}
    named = {**training, "loss": {"type": "focal", "params": {"gamma": 2.0}}}
    first = trials(build, {"training": criterion})
    second = trials(build, {"training": named, "plugins": {"parts.py": "ab"}, **other})
    checked = audit(build, first, second, factor="training.loss.type", levels=["CrossEntropy", "focal"])
    assert (checked.unexpected == []) == fair


def test_audit_reports_another_version_of_a_plugin(build: SimpleNamespace):
    first, second = (trials(build, {"plugins": {"parts.py": digest}}) for digest in ("ab", "cd"))
    assert [finding.property for finding in audit(build, first, second).unexpected] == ["plugins.parts.py"]


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


def test_summary_says_none_for_a_missing_value():
    finding = Finding("test-set evaluations", "2", "", differs=True)
    assert "(2 vs. none)" in summarize(Audit("a", ("true", "false"), (finding,)))


def test_audit_expects_options_that_plain_networks_ignore(build: SimpleNamespace):
    """Plain CNNs ignore zero_init_residual, so their default there is no difference; other widths are one."""
    first, second = (
        trials(build, {"model": {"type": "CNN", "params": {"residual": on, "zero_init_residual": on, "width": width}}})
        for on, width in ((True, 8), (False, 4))
    )
    outcome = audit(build, first, second)
    assert unexpected(outcome) == ["model.params.width"]
    assert by_name(outcome)["model.params.zero_init_residual"].expected


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
    keys = ["format", "name", "title", "headline", "seeds", "claims_hash", "conditions", "verdicts", "trials"]
    assert list(result) == keys
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


TEACHER_DEPTH = "teacher_model.params.hidden_layers_num"


def distillation_audit(build: SimpleNamespace, factor: str, levels: list[Any], **changes: Any) -> dict[str, Finding]:
    """Findings between students of two teachers, or between students and their baseline. `changes` are the second teacher's."""
    teachers = [trials(build), trials(build, {"model__params": {"hidden_layers_num": 20}} | changes)]
    students = [
        [build.trial("x", 0.9, content(seed=seed) | student, provenance=PROVENANCE) for seed in range(3)]
        for student in (
            {"distillation": {"alpha": 0.5}, "parents": {"teacher": [f"{number:032x}{0:032x}"]}} for number in (0, 1)
        )
    ]
    conditions = [
        ({"role": "teacher", TEACHER_DEPTH: depth}, group) for depth, group in zip((5, 20), teachers, strict=True)
    ]
    conditions += [
        ({"role": "distilled", TEACHER_DEPTH: depth}, group) for depth, group in zip((5, 20), students, strict=True)
    ]
    conditions.append(({"role": "baseline"}, trials(build, {"training__lr": 0.1})))
    claim = build.claim(factor=factor, levels=levels, at={"role": "distilled"} if factor != "role" else {})
    (result,) = audit_claims(study(*build.store(conditions, [claim])))
    return by_name(result)


def test_audit_compares_the_options_of_teachers(build: SimpleNamespace):
    findings = distillation_audit(build, TEACHER_DEPTH, [5, 20], training__epochs=9)
    depth, epochs = (findings[f"teacher.{key}"] for key in ("model.params.hidden_layers_num", "training.epochs"))
    assert (depth.first, depth.second, depth.expected) == ("5", "20", True)
    assert (epochs.first, epochs.second, epochs.expected) == ("2", "9", False)
    assert "model.params.hidden_layers_num" not in findings


def test_audit_expects_a_teacher_of_the_role_that_has_one(build: SimpleNamespace):
    findings = distillation_audit(build, "role", ["distilled", "baseline"])
    inherited = [finding for name, finding in findings.items() if name.startswith(("teacher.", "distillation."))]
    assert len(inherited) > 5
    assert all(finding.expected for finding in inherited)
    assert not findings["training.lr"].expected


@pytest.mark.parametrize(
    ("factor", "key", "expected"),
    [
        ("data.name", "data.sha256", True),
        ("data.params.path", "data.sha256", True),
        ("roles.student.data.params.size", "data.sha256", True),
        ("data.limit", "data.sha256", False),
        ("model.type", "data.sha256", False),
        ("data.name", "plugins.my_data.py", True),
        ("data.params.width", "plugins.my_data.py", False),
    ],
)
def test_other_images_follow_from_the_choice_of_a_dataset(factor: str, key: str, expected: bool):
    assert follows(factor, key) == expected


@pytest.mark.parametrize(
    ("second", "unexpected"),
    [("AMD AMD Intel", []), ("AMD Intel AMD", ["processor of a seed"]), ("AMD AMD AMD", ["cpu"])],
)
def test_processors_are_compared_seed_by_seed(build: SimpleNamespace, second: str, unexpected: list[str]):
    """On a mixed cluster, each level may have the same processors, but not at the same seeds."""

    def level(processors: str, residual: bool) -> list[Any]:
        options = {"model__params__residual": residual}
        hardware = [Hardware(name, 2) for name in processors.split()]
        return [
            replace(trial, provenance=replace(PROVENANCE, hardware=item))
            for trial, item in zip(trials(build, options), hardware, strict=True)
        ]

    result = audit(build, level("AMD AMD Intel", True), level(second, False))
    assert [finding.property for finding in result.unexpected] == unexpected
