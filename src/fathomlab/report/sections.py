"""The context of the page template, section by section."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fathomlab.report import accounts, claims, cost, distillation, outcomes, provenance
from fathomlab.report.accuracy_plots import accuracy_charts, accuracy_note, effect_charts
from fathomlab.report.answers import answers
from fathomlab.report.charts import Chart, columns
from fathomlab.report.claim_plots import claim_chart
from fathomlab.report.curves import curve_charts, curve_note
from fathomlab.report.effects import effect_panels
from fathomlab.report.fairness import audit_tables
from fathomlab.report.heatmaps import gradient_charts, probe_cost
from fathomlab.report.loose import mapping
from fathomlab.report.methods import methods
from fathomlab.report.numbers import count, grouped
from fathomlab.report.probes import probe_charts
from fathomlab.report.slopes import condition_slopes, slopes_chart, slopes_sentence, sources
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
        "curves": curve_charts(about),
        "curve_note": curve_note(about),
        **_accuracy(about),
        **_gradients(about),
        "probes": probe_charts(about),
        "distillation": distillation.distillation_table(about),
        "gain_sentence": distillation.distillation_sentence(about),
        **_outcomes(about),
        "audits": audit_tables(evidence.audits),
        "cost": cost.cost_table(about) if about.trials else None,
        "time": cost.total_time(about),
        "methods": methods(about, evidence.verdicts),
        "trials": accounts.trials_table(about),
        **_provenance(about),
        "columns": columns,
        "count": count,
        "grouped": grouped,
    }


def _claims(known: Evidence) -> dict[str, Any]:
    audits = {str(audit.get("name")): audit for audit in known.audits}
    cards = [claims.card(verdict, audits.get(str(verdict.get("name")), {})) for verdict in known.verdicts]
    return {
        "problem": known.problem,
        "cards": [card for card in cards if not card.exploratory],
        "late_cards": [card for card in cards if card.exploratory],
        "plots": _claim_charts(known, exploratory=False),
        "late_plots": _claim_charts(known, exploratory=True),
        "claims": claims.claims_table(known.verdicts, known.claims) if known.verdicts else None,
        "claims_note": claims.claims_note(known.verdicts),
        "successes": claims.success_table(known.verdicts),
        "images": claims.images_table(known.verdicts),
    }


def _claim_charts(known: Evidence, exploratory: bool) -> list[Chart]:
    declared = {str(claim.get("name")): claim for claim in known.claims}
    numbered = enumerate(known.verdicts, start=1)
    shown = [item for item in numbered if (item[1].get("exploratory") is True) is exploratory]
    charts = (
        claim_chart(number, verdict, mapping(declared.get(str(verdict.get("name")))), len(shown))
        for number, verdict in shown
    )
    return [chart for chart in charts if chart is not None]


def _accuracy(study: Study) -> dict[str, Any]:
    """The main chart and the first effect, which are next to the verdicts, and the other charts of accuracy."""
    charts = accuracy_charts(study) if any(c.outcomes(study.metric) for c in study.conditions) else []
    known = [panel for panel in effect_panels(study) if panel.known]
    lead = [*charts[:1], *(effect_charts(known[0], wide=True) if charts and known else [])]
    others = [chart for panel in known[1:] for chart in effect_charts(panel)]
    return {
        "lead": lead[:2],
        "accuracy": [*charts[1:], *lead[2:], *others],
        "accuracy_note": accuracy_note(study),
    }


def _gradients(about: Study) -> dict[str, Any]:
    slopes = condition_slopes(about)
    return {
        "gradients": gradient_charts(about),
        "slopes": slopes_chart(slopes) if slopes else None,
        "slopes_text": slopes_sentence(slopes),
        "sources": sources(slopes),
        "probe_cost": probe_cost(about),
    }


def _outcomes(about: Study) -> dict[str, Any]:
    collapsed = outcomes.collapses(about)
    return {
        "collapsed": outcomes.collapse_table(collapsed) if collapsed else None,
        "collapse_text": outcomes.collapse_sentence(about, collapsed),
        "histograms": outcomes.histogram_charts(about),
        "calibration": outcomes.calibration_table(about),
        "reliability": outcomes.calibration_charts(about),
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
