"""The choice of tuned levels from records made by hand: by validation, never by test, with the same numbers as by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.as_json import summary_json, verdict_json
from fathomlab.analysis.audit import audit
from fathomlab.analysis.expected import was_tuned
from fathomlab.analysis.study import Study, study
from fathomlab.analysis.verdicts import judge
from fathomlab.analysis.wording import notes
from fathomlab.config.schema import TuneOptions
from fathomlab.report.sections.tuning import chosen_table, section, tried_table
from fathomlab.report.tuning import tuning_warnings

BASELINE, DISTILLED = "roles.baseline.training.lr", "roles.distilled.training.lr"
TUNE = TuneOptions((BASELINE, DISTILLED))
CLAIM = {"name": "helps", "factor": "role", "levels": ["distilled", "baseline"], "expect": "greater"}
# level -> (validation, test) of each seed; the best level by validation is the worst by test
RESULTS: dict[str, dict[float, list[Any]]] = {
    "baseline": {0.001: [(0.5, 0.9), (0.7, 0.9)], 0.01: [(0.8, 0.5), (0.6, 0.6)], 0.1: [(0.6, 0.8), (0.6, 0.8)]},
    "distilled": {0.001: [(0.6, 0.7), (0.7, 0.8)], 0.01: [(0.6, 0.9), (0.6, 0.9)], 0.1: [(0.1, 0.9), (0.2, 0.9)]},
}


def read(build: SimpleNamespace, results: dict[str, dict[Any, list[Any]]], tune: TuneOptions | None = TUNE) -> Study:
    """A study of roles whose learning rate has these levels and outcomes."""
    conditions = [
        (
            {"role": role, f"roles.{role}.training.lr": level},
            [
                value if isinstance(value, str) else {"val/accuracy": value[0], "test/accuracy": value[1]}
                for value in values
            ],
        )
        for role, levels in results.items()
        for level, values in levels.items()
    ]
    return study(*build.store(conditions, [CLAIM], tune=tune, seeds=(0, 1)))


def picked(read: Study) -> dict[str, Any]:
    """Role to the level that is compared."""
    return {item.record.role: next(iter(choice.picked.levels.values())) for item, choice in read.choices}


def test_validation_chooses_and_test_is_compared(build: SimpleNamespace):
    """By test, 0.001 and 0.01 would be picked. The effect is that of the picked levels: 0.75 - 0.55."""
    tuned = read(build, RESULTS)
    assert picked(tuned) == {"baseline": 0.01, "distilled": 0.001}
    assert [item.outcomes("test/accuracy") for item in tuned.conditions] == [{0: 0.5, 1: 0.6}, {0: 0.7, 1: 0.8}]
    (verdict,) = judge(tuned)
    assert verdict.effect is not None
    assert verdict.effect.mean == pytest.approx(0.2)
    assert [[pair.first, pair.second] for pair in verdict.contrast.pairs] == [[0.7, 0.5], [0.8, 0.6]]


def test_every_try_has_its_score(build: SimpleNamespace):
    (_, baseline), (_, distilled) = read(build, RESULTS).choices
    assert [item.score for item in baseline.tries] == pytest.approx([0.6, 0.7, 0.6])
    assert [item.score for item in distilled.tries] == pytest.approx([0.65, 0.6, 0.15])
    assert (baseline.lead, distilled.lead) == pytest.approx((0.1, 0.05))
    assert (baseline.edges, distilled.edges) == ((), (DISTILLED,))
    assert baseline.complete


def test_compared_conditions_have_no_tuned_factor(build: SimpleNamespace):
    """So partners are found, whatever level each has, and names do not depend on the choice."""
    tuned = read(build, RESULTS)
    assert [(item.name, item.record.label, item.record.factors) for item in tuned.conditions] == [
        ("baseline student", "baseline", {}),
        ("distilled", "distilled", {}),
    ]
    assert tuned.partner(tuned.with_role("distilled")[0], "baseline") is tuned.with_role("baseline")[0]
    assert (len(tuned.every), len(tuned.trials)) == (6, 12)
    plain = read(build, RESULTS, None)
    assert (len(plain.conditions), plain.choices, len(plain.trials)) == (6, [], 12)


def test_ties_go_to_the_first_level(build: SimpleNamespace):
    equal = {"baseline": {0.1: [(0.6, 0.1), (0.7, 0.1)], 0.01: [(0.7, 0.9), (0.6, 0.9)]}}
    assert picked(read(build, equal)) == {"baseline": 0.1}


def test_a_diverged_trial_counts_as_chance(build: SimpleNamespace):
    """(0.9 + 0.1) / 2 is less than 0.55, and (0.9 + 0.3) / 2 would be more. Without the seed, 0.9 would win."""
    levels = {0.01: [(0.9, 0.9), "diverged"], 0.001: [(0.5, 0.5), (0.6, 0.6)]}
    tuned = read(build, {"baseline": levels})
    assert picked(tuned) == {"baseline": 0.001}
    assert tuned.choices[0][1].tries[0].score == pytest.approx(0.5)
    assert tuned.choices[0][1].complete


def test_levels_are_compared_on_shared_seeds(build: SimpleNamespace):
    """A level whose weak seed failed does not win by that: over seed 0, 0.01 is better."""
    levels = {0.001: [(0.6, 0.6), "failed"], 0.01: [(0.7, 0.7), (0.1, 0.1)]}
    tuned = read(build, {"baseline": levels})
    assert picked(tuned) == {"baseline": 0.01}
    assert not tuned.choices[0][1].complete
    assert [item.seeds for item in tuned.choices[0][1].tries] == [1, 1]


def test_without_results_the_first_level_stands(build: SimpleNamespace):
    tuned = read(build, {"baseline": {0.1: ["waiting"], 0.01: ["waiting"]}})
    assert picked(tuned) == {"baseline": 0.1}
    assert (tuned.choices[0][1].lead, tuned.choices[0][1].picked.score) == (None, None)


def test_each_level_of_another_factor_has_its_choice(build: SimpleNamespace):
    """Two alphas, two rates: each alpha its rate."""
    values = {(0.5, 0.1): 0.6, (0.5, 0.01): 0.7, (0.9, 0.1): 0.8, (0.9, 0.01): 0.7}
    conditions = [
        ({"role": "distilled", "distillation.alpha": alpha, DISTILLED: rate}, [{"val/accuracy": value}])
        for (alpha, rate), value in values.items()
    ]
    tuned = study(*build.store(conditions, [], tune=TUNE))
    assert [(item.record.factors, choice.picked.levels) for item, choice in tuned.choices] == [
        ({"distillation.alpha": 0.5}, {DISTILLED: 0.01}),
        ({"distillation.alpha": 0.9}, {DISTILLED: 0.1}),
    ]


def test_warnings_name_edges_and_unequal_tries(build: SimpleNamespace):
    (edge,) = tuning_warnings(read(build, RESULTS))
    assert "distilled" in edge
    assert "baseline" not in edge
    fewer = RESULTS | {"distilled": {0.001: [(0.6, 0.7), (0.7, 0.8)]}}
    (tries,) = tuning_warnings(read(build, fewer))
    assert "1 and 3" in tries
    assert tuning_warnings(read(build, RESULTS, None)) == []


def test_names_have_no_edge(build: SimpleNamespace):
    levels = {"Adam": [(0.6, 0.6)], "SGD": [(0.7, 0.7)]}
    assert tuning_warnings(read(build, {"baseline": levels})) == []


def content(rate: float, **more: Any) -> dict[str, Any]:
    """The content of a trial with this learning rate."""
    training = {"lr": rate, "epochs": 2} | more
    return {"format": 3, "seed": 0, "data": {"name": "mnist-sample"}, "model": {"type": "MLP"}, "training": training}


def findings(build: SimpleNamespace, second: dict[str, Any], tune: TuneOptions | None, **changes: Any) -> set[str]:
    """The unexpected differences between two roles with the learning rates 0.1 and 0.01."""
    curves = {"epoch": [1, 2], "step": [10, 20]}
    trial = build.trial("x", {"test/accuracy": 0.9, "val/accuracy": 0.9}, content(0.1), curves=curves)
    other = replace(trial, content=second, curves={"epoch": list(range(9)), "step": [90]} if changes else curves)
    conditions = [
        ({"role": "distilled", DISTILLED: 0.1}, [trial]),
        ({"role": "baseline", BASELINE: 0.01}, [other]),
    ]
    (result,) = audit(study(*build.store(conditions, [CLAIM], tune=tune, **changes)))
    return {finding.property for finding in result.unexpected}


def test_audit_expects_tuned_options_only(build: SimpleNamespace):
    """A tuned learning rate may differ. Another option, and a learning rate that was not tuned, may not."""
    assert findings(build, content(0.01), TUNE) == set()
    assert findings(build, content(0.01), None) == {"training.lr"}
    assert findings(build, content(0.01, optimizer="SGD"), TUNE) == {"training.optimizer"}
    only_teacher = TuneOptions(("roles.teacher.training.lr",))
    assert findings(build, content(0.01), only_teacher) == {"training.lr"}


def test_audit_expects_epochs_of_equal_compute(build: SimpleNamespace):
    longer = content(0.01, epochs=9)
    assert findings(build, longer, TUNE, equal_compute={"baseline": "teacher"}) == set()
    assert findings(build, longer, TUNE, equal_compute={"other": "teacher"}) == {"training.epochs", "epochs", "updates"}


def test_tables_show_the_choice_and_every_try(build: SimpleNamespace):
    tuned = read(build, RESULTS)
    assert section(tuned, (), ()) is not None
    assert chosen_table(tuned).rows == (
        ("baseline student", "learning rate 0.01", "3", "70.00", "10.00", "no"),
        ("distilled", "learning rate 0.001", "3", "65.00", "5.00", "yes"),
    )
    rows = tried_table(tuned).rows
    assert len(rows) == 6
    assert rows[1] == ("baseline student", "learning rate 0.01", "picked", "70.00", "2", "0", "55.00")
    assert section(read(build, RESULTS, None), (), ()) is None


def test_json_has_the_tuned_levels(build: SimpleNamespace):
    tuned = read(build, RESULTS)
    (verdict,) = judge(tuned)
    assert verdict_json(verdict)["tuned"] == [
        {"level": "role=distilled", "condition": "distilled", "picked": {DISTILLED: 0.001}, "tries": 3},
        {"level": "role=baseline", "condition": "baseline", "picked": {BASELINE: 0.01}, "tries": 3},
    ]
    summary = summary_json(tuned, [verdict])
    assert [(item["condition"], item["picked"], len(item["tried"])) for item in summary["tuned"]] == [
        ("baseline", {BASELINE: 0.01}, 3),
        ("distilled", {DISTILLED: 0.001}, 3),
    ]
    plain = read(build, RESULTS, None)
    assert "tuned" not in summary_json(plain, ())
    assert all("tuned" not in verdict_json(item) for item in judge(plain))


def test_notes_of_a_verdict_name_the_picked_levels(build: SimpleNamespace):
    (verdict,) = judge(read(build, RESULTS))
    assert notes(verdict)[0] == (
        "Tuned on validation: distilled learning rate 0.001 (best of 3); baseline student learning rate 0.01 (best of 3)."
    )
    assert not any(notes(item) for item in judge(read(build, RESULTS, None)))


@pytest.mark.parametrize(
    ("key", "tuned", "expected"),
    [
        ("training.lr", "training_student.lr", True),
        ("training.lr", "training.lr", True),
        ("training.lr", BASELINE, True),
        ("training.lr", DISTILLED, False),
        ("training.lr", "training_teacher.lr", False),
        ("training.lr", "training_student.epochs", False),
        ("teacher.training.lr", "training_teacher.lr", True),
        ("teacher.training.lr", "roles.teacher.training.lr", True),
        ("teacher.training.lr", "training_student.lr", False),
        ("teacher.training.lr", BASELINE, False),
        ("model.params.width", "student_model.params.width", True),
        ("training.optimizer_params.betas", "training_student.optimizer", True),
        ("distillation.alpha", "distillation.alpha", True),
    ],
)
def test_which_options_a_tuned_factor_is(key: str, tuned: str, expected: bool):
    """For conditions of the role baseline."""
    assert was_tuned(key, [tuned], ["baseline"]) == expected
