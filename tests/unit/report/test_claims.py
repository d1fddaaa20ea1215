"""Verdicts on the page: cards, the table of all numbers, dot plots, success rates, and audits."""

from dataclasses import replace
from typing import Any, get_args

import pytest

from fathomlab.analysis import wording
from fathomlab.analysis.audit import Audit, Finding
from fathomlab.analysis.contrasts import Arm, Contrast, ImageCounts, ImageTest, Pair
from fathomlab.analysis.looks import LookHistory
from fathomlab.analysis.significance import SignFlip
from fathomlab.analysis.statistics import Interval, wilson_interval
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import Advice, Decision, Success, Verdict, judge
from fathomlab.analysis.verdicts import Tests as Statistics
from fathomlab.analysis.wording import unit
from fathomlab.config.claims import Claim
from fathomlab.report.sections.answer import card
from fathomlab.report.sections.audit import audit_tables
from fathomlab.report.sections.claims import (
    claim_chart,
    claims_note,
    claims_table,
    contrast_text,
    images_table,
    success_table,
)
from fathomlab.store.reading import Store


def arm(level: str, diverged: tuple[int, ...] = (), **missing: tuple[int, ...]) -> Arm:
    """A level of a claim over seeds 4 to 6."""
    return Arm(level, level, (), {}, (4, 5, 6), diverged, missing)


CLAIM = Claim("Depth hurts", "residual", (True, False), "greater", matters=0.02, at={"hidden_layers_num": 40})
PAIRS = tuple(Pair(seed, 0.9, 0.9 - 0.01 * seed, 0.01 * seed) for seed in (4, 5, 6))
VERDICT = Verdict(
    contrast=Contrast(CLAIM, (arm("residual=true"), arm("residual=false", failed=(7,))), PAIRS, ""),
    decision="supported",
    effect=Interval(0.05, 0.03, 0.07, 3),
    tests=Statistics(0.00004, 0.9, 0.012, 0.025, sign_flip=SignFlip(0.25, 0.25), sd=0.008, correlation=-0.25),
    advice=Advice(detectable=0.021),
    images=ImageTest(7, 2, 0.18, 1, (), (ImageCounts(4, 7, 2, 0.18),)),
)
NO_AUDIT = Audit("Depth hurts", (), ())


def with_claim(**changes: Any) -> Verdict:
    """The verdict on a claim that differs in this."""
    return replace(VERDICT, contrast=replace(VERDICT.contrast, claim=replace(CLAIM, **changes)))


def with_pairs(*pairs: Pair) -> Verdict:
    """The verdict with other seeds."""
    return replace(VERDICT, contrast=replace(VERDICT.contrast, pairs=pairs))


def test_card_starts_with_the_finding():
    """The claim is the title and the finding the text; statistics and notes are details."""
    differing = Finding("epochs", "1", "2", differs=True)
    shown = card(VERDICT, Audit("Depth hurts", ("true", "false"), (differing,)))
    assert (shown.kind, shown.title, shown.confounded, shown.added) == ("supported", "Depth hurts", True, False)
    assert "5.00 points" in shown.text
    assert "epochs" in shown.audit
    assert shown.details[0] == " ".join(wording.reasons(VERDICT))
    assert ["p = 4e-05" in text for text in shown.details[1:]] == [True, False, False, False]
    assert "7" in shown.details[-1]
    fair = card(VERDICT, Audit("Depth hurts", ("true", "false"), (replace(differing, expected=True),)))
    assert (fair.confounded, "epochs" in fair.audit) == (False, False)
    assert card(VERDICT, NO_AUDIT).audit == ""
    assert card(replace(VERDICT, looks=LookHistory(5, changed=True)), NO_AUDIT).added
    assert card(with_claim(name=""), NO_AUDIT).title == shown.text


def test_card_explains_each_decision():
    """Each of the three words has its own explanation."""
    decisions: tuple[Decision, ...] = get_args(Decision)
    assert len({card(replace(VERDICT, decision=decision), NO_AUDIT).meaning for decision in decisions}) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"at": {"hidden_layers_num": 40}}, "residual \u2212 plain at depth 40"),
        ({"factor": "init", "levels": ("torch",), "reference": 0.1135}, "initialization torch \u2212 11.35%"),
        ({"levels": (True,), "reference": 0.5, "metric": "test/loss"}, "residual \u2212 0.5 nats"),
        ({"factor": "hidden_layers_num", "levels": (5, 10), "kind": "trend"}, "trend over depth 5, 10"),
        ({"factor": "role", "levels": ("distilled", "baseline")}, "distilled \u2212 baseline"),
        (
            {
                "factor": "init",
                "levels": ("he", "torch"),
                "kind": "success",
                "threshold": 0.9,
                "at": {"residual": False},
            },
            "seeds above 90%: initialization he \u2212 initialization torch at plain",
        ),
    ],
)
def test_contrast_text_names_both_levels(changes: dict[str, Any], expected: str):
    """Each kind of claim."""
    assert contrast_text(
        Claim(**{"name": "", "factor": "residual", "levels": (True, False), "expect": "less"} | changes)
    ) == (expected)


def test_claims_table_has_every_number_in_its_unit():
    """Accuracies in points, losses in nats; the tiny p keeps its power of ten."""
    table = claims_table([VERDICT, replace(with_claim(metric="test/loss"), exploratory=True)])
    first, second = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert [first[key] for key in ("effect", "95% low", "95% high", "unit")] == ["5.00", "3.00", "7.00", "points"]
    assert first["smallest effect that matters"] == "above 2.00"
    assert (first["p, one-sided"], first["p, Holm-corrected"], first["minimum sign-flip p"]) == (
        "4.0e-05",
        "0.012",
        "0.25",
    )
    assert (first["smallest detectable effect"], first["correlation"]) == ("2.10", "-0.25")
    assert (second["effect"], second["unit"], second["exploratory"]) == ("0.05", "nats", "yes")
    assert first["contrast"] == "residual \u2212 plain at depth 40"
    assert unit(replace(CLAIM, kind="trend")) == "points per doubling"
    arms = (arm("a"), arm("b", diverged=(4, 5)))
    empty = replace(VERDICT, contrast=replace(VERDICT.contrast, arms=arms), effect=None)
    table = claims_table([empty])
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["diverged"], row["effect"], row["95% low"], row["seeds"]) == ("0 and 2", "", "", "0")


def test_dot_plot_labels_each_seed():
    """Its table contains both levels and the difference; no seed, no plot."""
    figure = claim_chart(1, VERDICT)
    assert figure is not None
    assert figure.table.rows[1] == ("5", "90.00", "85.00", "5.00", "no")
    assert 'role="img"' in figure.svg()
    assert "residual \u2212 plain at depth 40 (points)" in figure.description
    assert all(f"seed {seed}<" in figure.svg() for seed in (4, 5, 6))
    assert claim_chart(1, with_pairs()) is None
    crowded = claim_chart(1, with_pairs(*(Pair(seed, 1.0, 0.5, 0.5) for seed in range(40))))
    assert crowded is not None
    assert "seed 17<" not in crowded.svg()
    assert ">all seeds<" in crowded.svg()


def test_dot_plot_of_many_seeds_draws_two_hundred():
    """From the smallest to the largest difference; the label says so, and the table has all."""
    figure = claim_chart(1, with_pairs(*(Pair(seed, 1.0, 0.5, seed / 1000) for seed in range(1000))))
    assert figure is not None
    assert ">200 of 1,000 seeds<" in figure.svg()
    dots = figure.svg().split('<g fill="var(--s1)"')[1].split("</g>")[0]
    assert dots.count("<use ") == 200
    assert len(figure.table.rows) == 1000


def test_dot_plot_marks_diverged_seeds():
    """A diverged seed has a mark and a legend entry, also in a success claim, where it has no value."""
    figure = claim_chart(1, with_pairs(Pair(4, 0.9, 0.1, 0.8, diverged=True), PAIRS[1]))
    assert figure is not None
    assert [key.shape for key in figure.keys].count("cross") == 1
    assert [row[-1] for row in figure.table.rows] == ["yes", "no"]
    contrast = replace(VERDICT.contrast, claim=replace(CLAIM, kind="success", threshold=0.5))
    contrast = replace(contrast, pairs=(Pair(4, None, 0.9, -1.0, diverged=True),))
    sides = (Success("a", 0, 1, 0.0, 0.8), Success("b", 1, 1, 0.2, 1.0))
    figure = claim_chart(1, replace(VERDICT, contrast=contrast, success=sides))
    assert figure is not None
    assert [key.shape for key in figure.keys].count("cross") == 1


def test_dot_plot_clips_impossible_differences():
    """As the sentence does: accuracies differ by at most 100 points, and losses by any amount."""
    wide = replace(VERDICT, effect=Interval(0.05, -3.5, 3.6, 2))
    for metric, largest in (("test/accuracy", 100), ("test/loss", 3.6)):
        claim = replace(wide.contrast.claim, metric=metric)
        figure = claim_chart(1, replace(wide, contrast=replace(wide.contrast, claim=claim)))
        assert figure is not None
        assert largest <= figure.draw().axes[0].get_xlim()[1] < 1.2 * largest


def test_one_seed_mentions_no_interval():
    """Neither the legend, the description, nor the note names an interval that is not drawn."""
    alone = replace(with_pairs(PAIRS[0]), effect=Interval(0.04, None, None, 1))
    figure = claim_chart(1, alone)
    assert figure is not None
    for text in (figure.description, claims_note([alone]), *(key.text for key in figure.keys)):
        assert "interval" not in text
    assert "interval" in claims_note([VERDICT])


def test_images_and_audit_tables_have_every_row():
    """McNemar over all seeds and per seed; a row of an audit classifies its difference."""
    table = images_table([VERDICT])
    assert table is not None
    assert table.rows == (("Depth hurts", "all 1", "7", "2", "0.18"), ("Depth hurts", "seed 4", "7", "2", "0.18"))
    assert images_table([replace(VERDICT, images=None)]) is None
    assert VERDICT.images is not None
    table = images_table([replace(VERDICT, images=replace(VERDICT.images, excluded=(5, 6)))])
    assert table is not None
    assert "2 excluded" in table.rows[0][1]
    findings = (
        Finding("a", "1", "1", differs=False),
        Finding("b", "1", "2", differs=True, expected=True),
        Finding("c", "1", "2", differs=True),
    )
    (shown,) = audit_tables([Audit("x", ("true", "false"), findings), Audit("empty", (), ())])
    assert shown.table.columns == ("property", "true", "false", "result")
    assert [row[-1] for row in shown.table.rows] == ["same", "expected", "unexpected"]
    assert shown.confounded


def test_success_table_has_wilson_intervals(written: Store):
    """Seeds above 90% at depth 40: no plain seed, and all residual seeds except the diverged one."""
    table = success_table(judge(study(written, written.experiment("1_2"))))
    assert table is not None
    rows = {row[1]: row[2:] for row in table.rows}
    high = wilson_interval(4, 5)
    assert rows["residual=true"] == ("4", "5", f"{100 * (high.low or 0):.2f}", f"{100 * (high.high or 0):.2f}")
    assert rows["residual=false"][:3] == ("0", "5", "0.00")
