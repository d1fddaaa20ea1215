"""The context of the page template, section by section."""

from collections.abc import Sequence
from typing import Any

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report import claims, cost, distillation, outcomes, provenance, trials
from fathomlab.report.accuracy_plots import accuracy_charts, accuracy_note, effect_charts
from fathomlab.report.answers import answers
from fathomlab.report.charts import Chart, columns
from fathomlab.report.claim_plots import claim_chart
from fathomlab.report.curves import curve_charts, curve_note
from fathomlab.report.effects import effect_panels
from fathomlab.report.fairness import audit_tables
from fathomlab.report.heatmaps import gradient_charts, probe_cost
from fathomlab.report.methods import methods
from fathomlab.report.numbers import count, grouped
from fathomlab.report.probes import probe_charts
from fathomlab.report.slopes import condition_slopes, slopes_chart, slopes_sentence, sources

Context = dict[str, Any]  # of a template


def sections(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Context:
    """The context of the template. The page omits sections without content."""
    tally, failures = trials.count_by_status(study), trials.failures(study)
    return {
        "experiment": study.experiment,
        "tally": tally,
        "total": len(study.trials),
        "pending": sum(tally[status] for status in trials.PENDING_STATUSES),
        "failures": failures,
        "failures_note": trials.failures_note(failures),
        "failures_title": trials.failures_title(failures),
        "warnings": distillation.teacher_warnings(study),
        "interrupted": tally["interrupted"],
        **_claims(study, verdicts, audits),
        "answers": answers(study),
        "notes": provenance.data_notes(study),
        "curves": curve_charts(study),
        "curve_note": curve_note(study),
        **_accuracy(study),
        **_gradients(study),
        "probes": probe_charts(study),
        "distillation": distillation.distillation_table(study),
        "gain_sentence": distillation.distillation_sentence(study),
        **_outcomes(study),
        "audits": audit_tables(audits),
        "cost": cost.cost_table(study) if study.trials else None,
        "time": cost.total_time(study),
        "methods": methods(study, verdicts),
        "trials": trials.trials_table(study),
        **_provenance(study),
        "columns": columns,
        "count": count,
        "grouped": grouped,
    }


def _claims(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Context:
    cards = [claims.card(verdict, audit) for verdict, audit in zip(verdicts, audits, strict=True)]
    return {
        "problem": "; ".join(map(str, study.problems)),
        "cards": [card for card in cards if not card.exploratory],
        "exploratory_cards": [card for card in cards if card.exploratory],
        "plots": _claim_charts(verdicts, exploratory=False),
        "exploratory_plots": _claim_charts(verdicts, exploratory=True),
        "claims": claims.claims_table(verdicts) if verdicts else None,
        "claims_note": claims.claims_note(verdicts),
        "successes": claims.success_table(verdicts),
        "images": claims.images_table(verdicts),
    }


def _claim_charts(verdicts: Sequence[Verdict], exploratory: bool) -> list[Chart]:
    shown = [item for item in enumerate(verdicts, start=1) if item[1].exploratory is exploratory]
    charts = (claim_chart(number, verdict, len(shown)) for number, verdict in shown)
    return [chart for chart in charts if chart is not None]


def _accuracy(study: Study) -> Context:
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


def _gradients(study: Study) -> Context:
    slopes = condition_slopes(study)
    return {
        "gradients": gradient_charts(study),
        "slopes": slopes_chart(slopes) if slopes else None,
        "slopes_text": slopes_sentence(slopes),
        "sources": sources(slopes),
        "probe_cost": probe_cost(study),
    }


def _outcomes(study: Study) -> Context:
    collapsed = outcomes.collapses(study)
    return {
        "collapsed": outcomes.collapse_table(collapsed) if collapsed else None,
        "collapse_text": outcomes.collapse_sentence(study, collapsed),
        "histograms": outcomes.histogram_charts(study),
        "calibration": outcomes.calibration_table(study),
        "reliability": outcomes.calibration_charts(study),
    }


def _provenance(study: Study) -> Context:
    files = provenance.data_files(study)
    return {
        "provenance": provenance.provenance_table(study),
        "dirty": provenance.dirty(study),
        "resumed": provenance.resumed(study),
        "files": files,
        "unofficial": [file for file in files if not file.official],
        "reads": provenance.test_reads(study),
    }
