"""The context of the page template, section by section."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fathomlab.report import accounts, claims, cost, distillation, outcomes, provenance
from fathomlab.report.answers import answers
from fathomlab.report.curves import curve_figures, curve_note
from fathomlab.report.depths import accuracy_figures, accuracy_note, effect_figures
from fathomlab.report.dots import claim_figure
from fathomlab.report.effects import effect_panels
from fathomlab.report.fairness import audit_tables
from fathomlab.report.heatmaps import gradient_figures, probe_cost
from fathomlab.report.loose import mapping
from fathomlab.report.methods import methods
from fathomlab.report.numbers import count, grouped
from fathomlab.report.probes import probe_figures
from fathomlab.report.slopes import condition_slopes, slopes_figure, slopes_sentence, sources
from fathomlab.report.study import Study


@dataclass(frozen=True)
class Evidence:
    """The analysis of an experiment.

    Attributes:
        verdicts: The verdicts on its claims, as plain mappings.
        audits: What differs between the levels of each claim, as plain mappings.
        claims: The declared claims.
        numbers: The machine-readable summary of the page.
        problem: Why the claims could not be evaluated; "" if they could.
    """

    verdicts: tuple[Mapping[str, Any], ...]
    audits: tuple[Mapping[str, Any], ...]
    claims: tuple[Mapping[str, Any], ...]
    numbers: Mapping[str, Any]
    problem: str


def sections(about: Study, evidence: Evidence) -> dict[str, Any]:
    """The context of the template. The page omits sections without content."""
    tally, failures = accounts.tally(about), accounts.failures(about)
    known = [panel for panel in effect_panels(about) if panel.known]
    return {
        "experiment": about.experiment,
        "tally": tally,
        "total": len(about.trials),
        "pending": sum(tally[status] for status in accounts.PENDING),
        "failures": failures,
        "failures_note": accounts.failures_note(failures),
        "failures_title": accounts.failures_title(failures),
        "warnings": distillation.teacher_warnings(about),
        "interrupted": tally["interrupted"],
        **_claims(evidence),
        "answers": answers(about),
        "notes": provenance.data_notes(about),
        "curves": curve_figures(about),
        "curve_note": curve_note(about),
        "accuracy": accuracy_figures(about) if any(c.outcomes(about.metric) for c in about.conditions) else [],
        "accuracy_note": accuracy_note(about),
        "effects": [figure for panel in known if panel.name != "gain" for figure in effect_figures(panel)],
        **_gradients(about),
        "probes": probe_figures(about),
        "distillation": distillation.distillation_table(about),
        "gains": [figure for panel in known if panel.name == "gain" for figure in effect_figures(panel)],
        "gain_sentence": distillation.distillation_sentence(about),
        **_outcomes(about),
        "audits": audit_tables(evidence.audits),
        "cost": cost.cost_table(about) if about.trials else None,
        "time": cost.total_time(about),
        "methods": methods(about, evidence.verdicts),
        "trials": accounts.trials_table(about),
        **_provenance(about),
        "count": count,
        "grouped": grouped,
    }


def _claims(known: Evidence) -> dict[str, Any]:
    audits = {str(audit.get("name")): audit for audit in known.audits}
    declared = {str(claim.get("name")): claim for claim in known.claims}
    cards = [claims.card(verdict, audits.get(str(verdict.get("name")), {})) for verdict in known.verdicts]
    plots = [
        (plot, verdict.get("exploratory") is True)
        for place, verdict in enumerate(known.verdicts, start=1)
        if (plot := claim_figure(place, verdict, mapping(declared.get(str(verdict.get("name")))))) is not None
    ]
    return {
        "problem": known.problem,
        "cards": [card for card in cards if not card.exploratory],
        "late_cards": [card for card in cards if card.exploratory],
        "plots": [plot for plot, late in plots if not late],
        "late_plots": [plot for plot, late in plots if late],
        "claims": claims.claims_table(known.verdicts, known.claims) if known.verdicts else None,
        "claims_note": claims.claims_note(known.verdicts),
        "successes": claims.success_table(known.verdicts),
        "images": claims.images_table(known.verdicts),
    }


def _gradients(about: Study) -> dict[str, Any]:
    slopes = condition_slopes(about)
    return {
        "gradients": gradient_figures(about),
        "slopes": slopes_figure(slopes) if slopes else None,
        "slopes_text": slopes_sentence(slopes),
        "sources": sources(slopes),
        "probe_cost": probe_cost(about),
    }


def _outcomes(about: Study) -> dict[str, Any]:
    collapsed = outcomes.collapses(about)
    return {
        "collapsed": outcomes.collapse_table(collapsed) if collapsed else None,
        "collapse_text": outcomes.collapse_sentence(about, collapsed),
        "histograms": outcomes.histogram_figures(about),
        "calibration": outcomes.calibration_table(about),
        "reliability": outcomes.calibration_figures(about),
    }


def _provenance(about: Study) -> dict[str, Any]:
    files = provenance.data_files(about)
    return {
        "provenance": provenance.provenance_table(about),
        "dirty": provenance.dirty(about),
        "resumed": provenance.resumed(about),
        "files": files,
        "unofficial": [file for file in files if not file.official],
        "reads": provenance.test_reads(about),
    }
