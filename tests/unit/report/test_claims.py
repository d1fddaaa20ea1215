"""Verdicts on the page: cards, the table of every number, dot plots, fractions of success, audits."""

from typing import Any

import pytest

from fathomlab.analysis.statistics import wilson_interval
from fathomlab.analysis.verdicts import verdicts
from fathomlab.report.claims import card, claims_table, contrast_text, images_table, success_table, unit
from fathomlab.report.dots import claim_figure
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
    "exploratory": False,
}
CLAIM = {"name": "Depth hurts", "factor": "residual", "levels": [True, False], "at": {"hidden_layers_num": 40}}


def test_a_card_has_the_sentence_the_notes_and_the_audit():
    """The claim is the title, the rest begins with a capital; an unexpected difference is marked."""
    rows = [{"what": "epochs", "first": "1", "second": "2", "differs": True, "expected": False}]
    found = card(VERDICT, {"summary": "1 thing differs.", "rows": rows})
    assert (found.kind, found.title, found.text) == ("supported", "Depth hurts", "The difference is +5.00 points.")
    assert (found.notes, found.besides, found.unfair) == (("Look twice.",), "1 thing differs.", True)
    rows[0]["expected"] = True
    assert not card(VERDICT, {"summary": "", "rows": rows}).unfair
    assert card(VERDICT | {"verdict": "proven"}, {}).kind == "undecided"


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (CLAIM, "residual minus plain at depth 40"),
        ({"factor": "init", "levels": ["torch"], "reference": 0.1135}, "init torch minus 11.35 %"),
        ({"factor": "hidden_layers_num", "levels": [5, 10], "kind": "trend"}, "trend over depth 5, 10"),
        ({"factor": "role", "levels": ["distilled", "baseline"]}, "distilled minus baseline"),
        (
            {
                "factor": "init",
                "levels": ["he", "torch"],
                "kind": "success",
                "threshold": 0.9,
                "at": {"residual": False},
            },
            "seeds above 90 %: init he minus init torch at plain",
        ),
        ({}, ""),
    ],
)
def test_contrasts_are_told_in_words(claim: dict[str, Any], expected: str):
    """Each kind of claim."""
    assert contrast_text(claim) == expected


def test_the_table_has_every_number_in_its_unit():
    """Accuracies in points, losses in nats; the tiny p keeps its power of ten."""
    table = claims_table([VERDICT, VERDICT | {"metric": "test/loss", "exploratory": True}], [CLAIM])
    first, second = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert [first[key] for key in ("effect", "95 % low", "95 % high", "unit")] == ["5.00", "3.00", "7.00", "points"]
    assert (first["what matters"], first["p, one-sided"], first["p, Holm"]) == ("above 2.00", "4.0e-05", "0.012")
    assert (first["least p of sign-flip"], first["detectable effect"], first["correlation"]) == (
        "0.25",
        "2.10",
        "-0.25",
    )
    assert (second["effect"], second["unit"], second["exploratory"]) == ("0.05", "nats", "yes")
    assert first["contrast"] == "residual minus plain at depth 40"
    assert unit(VERDICT | {"kind": "trend"})[0] == "points per doubling"


def test_a_dot_plot_has_a_mark_for_each_seed_and_names_itself():
    """Its table holds both levels and the difference; no seed, no plot."""
    figure = claim_figure(1, VERDICT, CLAIM)
    assert figure is not None
    assert figure.table.rows[1] == ("5", "90.00", "85.00", "5.00")
    assert 'role="img"' in figure.svg
    assert "residual minus plain at depth 40 [points]" in figure.description
    assert all(f"seed {seed}<" in figure.svg for seed in (4, 5, 6))
    assert claim_figure(1, VERDICT | {"values": []}, CLAIM) is None
    many = [{"seed": seed, "first": 1.0, "second": 0.5, "difference": 0.5} for seed in range(40)]
    crowded = claim_figure(1, VERDICT | {"values": many}, CLAIM)
    assert crowded is not None
    assert "seed 17<" not in crowded.svg


def test_images_and_audits_become_tables():
    """McNemar over all seeds and for each; a row of an audit says in words what its difference means."""
    table = images_table([VERDICT])
    assert table is not None
    assert table.rows == (("Depth hurts", "all 1", "7", "2", "0.18"), ("Depth hurts", "seed 4", "7", "2", "0.18"))
    assert images_table([VERDICT | {"mcnemar": None}]) is None
    rows = [
        {"what": "a", "first": "1", "second": "1", "differs": False, "expected": False},
        {"what": "b", "first": "1", "second": "2", "differs": True, "expected": True},
        {"what": "c", "first": "1", "second": "2", "differs": True, "expected": False},
    ]
    (audit,) = audit_tables(
        [{"name": "x", "levels": ["true", "false"], "rows": rows, "summary": "s"}, {"name": "empty"}]
    )
    assert audit.table.columns == ("what", "true", "false", "verdict")
    assert [row[-1] for row in audit.table.rows] == ["same", "follows from the factor", "differs"]
    assert audit.unfair


def test_success_fractions_are_wilsons(written: Store):
    """The claim on seeds above 90 % at depth 40: no plain seed, all residual ones but the diverged, which counts."""
    table = success_table(verdicts(written, written.experiment("1_2")))
    assert table is not None
    rows = {row[1]: row[2:] for row in table.rows}
    high = wilson_interval(4, 5)
    assert rows["residual=true"] == ("4", "5", f"{100 * (high.low or 0):.2f}", f"{100 * (high.high or 0):.2f}")
    assert rows["residual=false"][:3] == ("0", "5", "0.00")
