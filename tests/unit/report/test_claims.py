"""Verdicts on the page: cards, the table of all numbers, dot plots, success rates, and audits."""

from typing import Any

import pytest

from fathomlab.analysis.statistics import wilson_interval
from fathomlab.analysis.verdicts import verdicts
from fathomlab.report.claim_plots import claim_chart
from fathomlab.report.claims import (
    VERDICTS,
    card,
    claims_note,
    claims_table,
    contrast_text,
    images_table,
    success_table,
    unit,
)
from fathomlab.report.fairness import audit_tables
from fathomlab.store.reading import Store

VERDICT: dict[str, Any] = {
    "name": "Depth hurts",
    "kind": "difference",
    "sentence": "Depth hurts: the difference is +5.00 points.",
    "verdict": "supported",
    "metric": "test/accuracy",
    "expect": "greater",
    "matters": 0.02,
    "effect": 0.05,
    "low": 0.03,
    "high": 0.07,
    "n": 3,
    "sd": 0.008,
    "rho": -0.25,
    "p": 0.00004,
    "p_holm": 0.012,
    "signflip_p": 0.25,
    "signflip_floor": 0.25,
    "mde": 0.021,
    "more_seeds": None,
    "values": [
        {"seed": seed, "first": 0.9, "second": 0.9 - 0.01 * seed, "difference": 0.01 * seed} for seed in (4, 5, 6)
    ],
    "success": None,
    "mcnemar": {"b": 7, "c": 2, "p": 0.18, "seeds": 1, "each": [{"seed": 4, "b": 7, "c": 2, "p": 0.18}]},
    "notes": ["Look twice."],
    "details": ["p = 0.01."],
    "exploratory": False,
}
CLAIM = {"name": "Depth hurts", "factor": "residual", "levels": [True, False], "at": {"hidden_layers_num": 40}}


def test_card_leads_with_the_finding():
    """The claim is the title and the finding the text; statistics and notes are details."""
    rows = [{"what": "epochs", "first": "1", "second": "2", "differs": True, "expected": False}]
    shown = card(VERDICT, {"summary": "1 thing differs.", "rows": rows})
    assert (shown.kind, shown.title, shown.text) == ("supported", "Depth hurts", "The difference is +5.00 points.")
    assert (shown.details, shown.audit, shown.unfair) == (("p = 0.01.", "Look twice."), "1 thing differs.", True)
    rows[0]["expected"] = True
    assert not card(VERDICT, {"summary": "", "rows": rows}).unfair
    assert card(VERDICT | {"finding": "5 points higher."}, {}).text == "5 points higher."
    assert card(VERDICT | {"verdict": "proven"}, {}).kind == "undecided"
    assert card(VERDICT | {"seeds_added_after_results": True}, {}).added


def test_verdicts_have_distinct_tooltips():
    """Each of the three words has its own explanation."""
    assert len({card(VERDICT | {"verdict": kind}, {}).meaning for kind in VERDICTS}) == 3


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (CLAIM, "residual \u2212 plain at depth 40"),
        ({"factor": "init", "levels": ["torch"], "reference": 0.1135}, "initialization torch \u2212 11.35%"),
        ({"factor": "hidden_layers_num", "levels": [5, 10], "kind": "trend"}, "trend over depth 5, 10"),
        ({"factor": "role", "levels": ["distilled", "baseline"]}, "distilled \u2212 baseline"),
        (
            {
                "factor": "init",
                "levels": ["he", "torch"],
                "kind": "success",
                "threshold": 0.9,
                "at": {"residual": False},
            },
            "seeds above 90%: initialization he \u2212 initialization torch at plain",
        ),
        ({}, ""),
    ],
)
def test_contrast_text_names_both_levels(claim: dict[str, Any], expected: str):
    """Each kind of claim."""
    assert contrast_text(claim) == expected


def test_claims_table_has_every_number_in_its_unit():
    """Accuracies in points, losses in nats; the tiny p keeps its power of ten."""
    table = claims_table([VERDICT, VERDICT | {"metric": "test/loss", "exploratory": True}], [CLAIM])
    first, second = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert [first[key] for key in ("effect", "95% low", "95% high", "unit")] == ["5.00", "3.00", "7.00", "points"]
    assert first["smallest effect that matters"] == "above 2.00"
    assert (first["p, one-sided"], first["p, Holm-corrected"], first["minimum sign-flip p"]) == (
        "4.0e-05",
        "0.012",
        "0.25",
    )
    assert (first["smallest detectable effect"], first["correlation"]) == ("2.10", "-0.25")
    sides = [{"level": "a", "diverged": 0}, {"level": "b", "diverged": 2}]
    diverged = claims_table([VERDICT | {"diverged": sides}], [CLAIM])
    assert dict(zip(diverged.columns, diverged.rows[0], strict=True))["diverged"] == "0 and 2"
    assert (second["effect"], second["unit"], second["exploratory"]) == ("0.05", "nats", "yes")
    assert first["contrast"] == "residual \u2212 plain at depth 40"
    assert unit(VERDICT | {"kind": "trend"})[0] == "points per doubling"


def test_dot_plot_labels_each_seed():
    """Its table contains both levels and the difference; no seed, no plot."""
    figure = claim_chart(1, VERDICT, CLAIM)
    assert figure is not None
    assert figure.table.rows[1] == ("5", "90.00", "85.00", "5.00")
    assert 'role="img"' in figure.svg
    assert "residual \u2212 plain at depth 40 (points)" in figure.description
    assert all(f"seed {seed}<" in figure.svg for seed in (4, 5, 6))
    assert claim_chart(1, VERDICT | {"values": []}, CLAIM) is None
    many = [{"seed": seed, "first": 1.0, "second": 0.5, "difference": 0.5} for seed in range(40)]
    crowded = claim_chart(1, VERDICT | {"values": many}, CLAIM)
    assert crowded is not None
    assert "seed 17<" not in crowded.svg


def test_dot_plot_marks_diverged_seeds():
    """A diverged seed has a mark and a legend entry, also in a success claim, where it has no value."""
    values = [{"seed": 4, "first": 0.9, "second": 0.1, "difference": 0.8, "diverged": True}, VERDICT["values"][1]]
    figure = claim_chart(1, VERDICT | {"values": values}, CLAIM)
    assert figure is not None
    assert [key.shape for key in figure.keys].count("cross") == 1
    assert [row[-1] for row in figure.table.rows] == ["yes", ""]
    sides = [{"level": "a"}, {"level": "b"}]
    values = [{"seed": 4, "first": None, "second": 0.9, "difference": -1.0, "diverged": True}]
    success = VERDICT | {"kind": "success", "success": sides, "values": values}
    figure = claim_chart(1, success, CLAIM | {"threshold": 0.5})
    assert figure is not None
    assert [key.shape for key in figure.keys].count("cross") == 1


def test_one_seed_mentions_no_interval():
    """Neither the legend, the description, nor the note names an interval that is not drawn."""
    alone = VERDICT | {"low": None, "high": None, "values": VERDICT["values"][:1]}
    figure = claim_chart(1, alone, CLAIM)
    assert figure is not None
    for text in (figure.description, claims_note([alone]), *(key.text for key in figure.keys)):
        assert "interval" not in text
    assert "interval" in claims_note([VERDICT])


def test_images_and_audits_become_tables():
    """McNemar over all seeds and per seed; a row of an audit classifies its difference."""
    table = images_table([VERDICT])
    assert table is not None
    assert table.rows == (("Depth hurts", "all 1", "7", "2", "0.18"), ("Depth hurts", "seed 4", "7", "2", "0.18"))
    assert images_table([VERDICT | {"mcnemar": None}]) is None
    table = images_table([VERDICT | {"mcnemar": VERDICT["mcnemar"] | {"excluded": [5, 6]}}])
    assert table is not None
    assert "2 excluded" in table.rows[0][1]
    rows = [
        {"what": "a", "first": "1", "second": "1", "differs": False, "expected": False},
        {"what": "b", "first": "1", "second": "2", "differs": True, "expected": True},
        {"what": "c", "first": "1", "second": "2", "differs": True, "expected": False},
    ]
    (audit,) = audit_tables(
        [{"name": "x", "levels": ["true", "false"], "rows": rows, "summary": "s"}, {"name": "empty"}]
    )
    assert audit.table.columns == ("property", "true", "false", "result")
    assert [row[-1] for row in audit.table.rows] == ["same", "expected", "unexpected"]
    assert audit.unfair


def test_success_table_has_wilson_intervals(written: Store):
    """Seeds above 90% at depth 40: no plain seed, and all residual seeds except the diverged one."""
    table = success_table(verdicts(written, written.experiment("1_2")))
    assert table is not None
    rows = {row[1]: row[2:] for row in table.rows}
    high = wilson_interval(4, 5)
    assert rows["residual=true"] == ("4", "5", f"{100 * (high.low or 0):.2f}", f"{100 * (high.high or 0):.2f}")
    assert rows["residual=false"][:3] == ("0", "5", "0.00")
