"""The sections about distillation: numbers, order of the page, warnings, and emulated mistakes."""

import re
from pathlib import Path
from typing import Any, cast

import pytest

from fathomlab.analysis.as_json import distillation_json, summary_json
from fathomlab.analysis.audit import audit
from fathomlab.analysis.breakdown import breakdowns
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import judge
from fathomlab.report.effects import distillation_gains
from fathomlab.report.figures.scatter import Mark, pareto_front
from fathomlab.report.page import report_html
from fathomlab.report.section import Plain, Section
from fathomlab.report.sections import (
    breakdown,
    distillation,
    distillation_cost,
    objectives,
    scaling,
    soft_share,
    student_card,
)
from fathomlab.report.sections.gradients import gradient_charts
from fathomlab.report.students import lead_sentence, lead_warnings, named, share_text, teachers_sentence
from fathomlab.report.tables import Table, compact, table
from fathomlab.report.warnings import teacher_warnings
from fathomlab.store.records import ProbeSnapshot
from tests.helpers.distillation import KD, Net, study_of, suite

NEW = (distillation, breakdown, objectives, soft_share, scaling, student_card, distillation_cost)
CLAIM = {"name": "Distillation helps", "factor": "role", "levels": ["self", "baseline"], "expect": "greater"}
FLAT = (0.8, 0.8, 0.8)


def rows(data: Table | None) -> dict[str, dict[str, str]]:
    """First cell of each row to its cells by column."""
    assert data is not None
    return {row[0]: dict(zip(data.columns, row, strict=True)) for row in data.rows}


def plain(section: Section | None) -> Plain:
    """The content of a section without a template of its own."""
    assert section is not None
    return cast(Plain, section.content)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return suite(tmp_path_factory.mktemp("suite"), claims=[CLAIM])


@pytest.fixture(scope="module")
def page(study: Study) -> str:
    return report_html(study, judge(study), audit(study))


def test_lead_comes_before_findings_and_claims(study: Study, page: str):
    sentence = lead_sentence(study)
    assert sentence.startswith("Teacher \u2212 baseline: +8.04 points (95% interval +")
    assert plain(distillation.section(study, (), ())).result.startswith(sentence)
    first = page.index(sentence)
    assert page.index('id="warnings"') < first < page.index('class="card supported"')
    assert len(re.findall(re.escape(sentence), page)) == 2


def test_every_new_section_is_on_the_page(page: str):
    anchors = re.findall(r'<section id="(\w+)"', page)
    assert [name for name in anchors if name in {module.__name__.rpartition(".")[2] for module in NEW}] == [
        module.__name__.rpartition(".")[2] for module in NEW
    ]


def test_other_experiments_have_no_new_section():
    other = study_of(None, [Net("a", "supervised", FLAT), Net("b", "supervised", FLAT, width=8)])
    assert [module.section(other, (), ()) for module in NEW] == [None] * len(NEW)
    assert lead_sentence(other) == ""


def test_mistakes_are_red_in_every_table_and_on_top(study: Study, page: str):
    """The condition with the mistake is named in each section that lists it, and in a warning above all results."""
    mistaken = named(study.conditions[-1])
    assert mistaken.endswith("(mistake: no T\u00b2)")
    assert page.index(f"{mistaken[0].upper()}{mistaken[1:]}") < page.index('class="summary"')
    for module in NEW:
        if module not in (breakdown, student_card):
            assert mistaken in rows(plain(module.section(study, (), ())).table), module.__name__
    red = re.findall(r'<th scope="row" class="s-mistake">([^<\n]+)', page)
    assert set(red) == {mistaken}
    assert len(red) > 8


def test_mistakes_are_neither_gains_nor_best(study: Study):
    assert [gain.second.record.label for gain in distillation_gains(study)] == ["distilled", "self"]
    shown = rows(plain(objectives.section(study, (), ())).table)
    assert all("choice" not in row or row["choice"] == "" for row in shown.values())


def test_share_column_has_fieller_ends(study: Study):
    row = rows(plain(distillation.section(study, (), ())).table)["distilled, placebo none"]
    assert (row["share of teacher's lead (%)"], row["gain over baseline (points)"]) == ("62.1", "4.99")
    assert float(row["share: 95% low"]) < 62.1 < float(row["share: 95% high"])


def test_breakdown_names_controls_and_verdicts(study: Study):
    (item,) = breakdowns(study)
    shown = rows(breakdown.steps_table(item))
    assert list(shown) == [
        "baseline",
        "label smoothing",
        "shuffled teacher",
        "class-mean teacher",
        "within-class teacher",
        "self-distillation",
        "longer baseline (33 epochs)",
        "student",
        "teacher",
    ]
    assert shown["class-mean teacher"]["share of the student's gain (%)"] == "39.3"
    assert "Supported: softness, class structure, single images." in breakdown.verdict_sentence(item)
    assert breakdown.plumbing_warning(item) == ""


def test_unclear_gain_is_not_divided():
    nets = [
        Net("teacher", "teacher", (0.9, 0.91, 0.92), width=64),
        Net("baseline", "baseline", FLAT),
        Net("student", "distilled", (0.82, 0.79, 0.81), teacher="teacher"),
        Net("placebo", "distilled", (0.8, 0.81, 0.8), teacher="teacher", section={**KD, "placebo": "class_mean"}),
    ]
    (item,) = breakdowns(study_of(None, nets))
    assert "cannot be divided" in breakdown.verdict_sentence(item)
    assert rows(breakdown.steps_table(item))["class-mean teacher"]["share: 95% low"] == "unbounded"


def test_suspicious_shuffle_is_a_warning_on_the_page(tmp_path: Path):
    section = {**KD, "placebo": "shuffled"}
    nets = [
        Net("teacher", "teacher", FLAT, width=64, wrong=[range(20)] * 3),
        Net("baseline", "baseline", FLAT, wrong=[range(100, 140 + seed) for seed in range(3)]),
        Net("student", "distilled", (0.85, 0.86, 0.87), teacher="teacher"),
        Net("shuffled", "distilled", FLAT, teacher="teacher", section=section, wrong=[range(20)] * 3),
    ]
    study = study_of(tmp_path, nets)
    text = report_html(study, (), ())
    assert "Check the plumbing: " in text
    before = text[: text.index("Check the plumbing: ")]
    assert before.rindex('class="notice bad"') > before.rindex('id="breakdown"')


@pytest.mark.parametrize(
    ("teacher", "count"),
    [((0.7, 0.7, 0.7), 1), ((0.9, 0.79, 0.95), 1), ((0.9, 0.9, 0.9), 0)],
    ids=["worse", "mixed", "better"],
)
def test_teachers_that_are_not_better_are_warned_about(teacher: tuple[float, ...], count: int):
    """Also with roles of the file's own names."""
    nets = [
        Net("big", "big", teacher, width=64),
        Net("alone", "alone", FLAT),
        Net("student", "student", (0.85, 0.85, 0.86), teacher="big"),
    ]
    study = study_of(None, nets)
    assert len(lead_warnings(study)) == count
    assert bool(teacher_warnings(study)) is bool(count)
    assert plain(distillation.section(study, (), ())).warnings == tuple(lead_warnings(study))


def test_soft_share_warns_below_five_percent(study: Study):
    content = plain(soft_share.section(study, (), ()))
    assert len(content.warnings) == 1
    assert "3.0%" in content.warnings[0]
    assert rows(content.table)["distilled, placebo none"]["soft share (%)"] == "52.00"
    assert [chart.name for chart in content.charts] == ["distillation-soft_share-1", "distillation-cosine-1"]
    off = Net(
        "off", "distilled", FLAT, teacher="t", section={**KD, "alpha": 0.0}, curves={"distillation/soft_share": [0.0]}
    )
    (item,) = [student for student in soft_share.students(study_of(None, [Net("t", "t", FLAT, width=64), off]))]
    assert soft_share.share_warnings([item]) == []


def test_scaling_compares_baseline_and_student(study: Study):
    row = rows(plain(scaling.section(study, (), ())).table)["distilled, placebo none"]
    assert (row["ECE (%)"], row["ECE scaled"], row["ECE difference"]) == ("2.00", "1.20", "-4.00")
    assert (row["NLL (nats)"], row["NLL scaled"], row["T"]) == ("0.3000", "0.2800", "1.40")


def test_student_card_has_bytes_latency_and_pareto(study: Study):
    content = plain(student_card.section(study, (), ()))
    row = rows(content.table)["teacher"]
    assert (row["fp32 (MB)"], row["fp16 (MB)"], row["int8 (MB)"]) == ("0.256", "0.128", "0.064")
    assert (row["latency p50 (ms)"], row["latency p95 (ms)"], row["throughput (images/s)"]) == ("0.5", "0.9", "40000")
    (chart,) = content.charts
    assert {row[-1] for row in chart.table.rows if row[0] in ("teacher", "distilled, placebo none")} == {"yes"}
    assert {row[0] for row in chart.table.rows} == {
        "teacher",
        "baseline student",
        "distilled, placebo none",
        "self",
        "longer",
    }
    assert chart.svg()


def test_pareto_front_has_no_beaten_point():
    """Naive: a point is on the front if no other has a smaller or equal x and a larger or equal y."""
    marks = [
        Mark(str(i), float(x), Interval(float(y), None, None, 1))
        for i, (x, y) in enumerate(((3, 5), (1, 2), (2, 5), (4, 9), (2, 1)))
    ]
    beaten = {a.name for a in marks for b in marks if a is not b and b.x <= a.x and b.y.mean >= a.y.mean}
    assert {mark.name for mark in pareto_front(marks)} == {mark.name for mark in marks} - beaten


def test_gradients_show_students_next_to_their_baselines():
    """For each depth a chart at initialization and one at the last snapshot, each with baseline and student."""

    def probes(norm: float) -> dict[str, Any]:
        names = {"layer": ("a", "b", "c"), "point": ("a", "b", "c")}
        columns = {"weight": (norm,) * 3, "activation": (norm, norm / 2, norm / 4)}
        return {"probes": {"gradients": tuple(ProbeSnapshot(10 * i, i, names, columns) for i in range(2))}}

    nets = [Net("teacher", "teacher", FLAT, width=64)]
    for width in (8, 16):
        factors = {"student_model.params.layers_dim": width}
        nets.append(Net(f"b{width}", "baseline", FLAT, width=width, factors=factors, record=probes(1.0)))
        also: dict[str, Any] = {"factors": factors, "record": probes(0.1), "teacher": "teacher"}
        nets.append(Net(f"s{width}", "distilled", FLAT, width=width, **also))
    charts = gradient_charts(study_of(None, nets))[0].profiles
    assert [chart.title for chart in charts] == [
        f"{when}, baseline student, width {width}"
        for width in (8, 16)
        for when in ("At initialization", "At the last snapshot")
    ]
    assert all(sum(name.endswith(": log10") for name in chart.table.columns) == 2 for chart in charts)
    assert [chart.table.rows[0][1] for chart in charts] == ["0.00"] * 4


def test_compact_tables_leave_out_what_is_empty():
    data = compact(table("t", ["a", "b", "c", "d"], [["x", "1", "", ""], ["y", "", "", "2"]]))
    assert data.columns == ("a", "b", "d")
    assert [part.rows for part in data.parts(["c", "d"])] == [(("x", "1"),), (("y", "2"),)]


def test_texts_of_shares_and_teachers():
    assert share_text(Interval(0.5, -0.1, 1.1, 5)) == "50% (95% interval \u221210 to 110%)"
    assert share_text(Interval(0.5, float("-inf"), float("inf"), 5)) == share_text(None) == ""
    assert teachers_sentence([]) == ""


def test_json_of_the_page_has_gains_and_parts(study: Study):
    """Fractions; intervals without ends are null."""
    numbers = distillation_json(study)
    assert summary_json(study, ())["distillation"] == numbers
    assert numbers["teachers"] == 10
    student = numbers["students"][0]
    assert (student["condition"], student["baseline"], student["teachers"]) == ("distilled", "baseline", ["teacher"])
    assert student["gain"]["mean"] == pytest.approx(0.0499, abs=5e-5)
    assert numbers["students"][-1]["emulated"] == ["no_t2"]
    (item,) = numbers["breakdowns"]
    assert [part["verdict"] for part in item["parts"]] == ["supported"] * 3
    other = study_of(None, [Net("a", "supervised", FLAT)])
    assert "distillation" not in summary_json(other, ())
