"""The context of the page template, section by section."""

from collections.abc import Sequence
from typing import Any

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report import claims, cost, distillation, outcomes, provenance, trials
from fathomlab.report.answers import answers
from fathomlab.report.curves import curve_figures, curve_note
from fathomlab.report.depths import accuracy_figures, accuracy_note, effect_figures
from fathomlab.report.dots import claim_figure
from fathomlab.report.effects import effect_panels
from fathomlab.report.fairness import audit_tables
from fathomlab.report.heatmaps import gradient_figures, probe_cost
from fathomlab.report.methods import methods
from fathomlab.report.numbers import count, grouped
from fathomlab.report.probes import probe_figures
from fathomlab.report.slopes import condition_slopes, slopes_figure, slopes_sentence, sources

Context = dict[str, Any]  # of a template


def sections(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Context:
    """The context of the template. The page omits sections without content."""
    tally, failures = trials.count_by_status(study), trials.failures(study)
    panels = [panel for panel in effect_panels(study) if panel.known]
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
        "curves": curve_figures(study),
        "curve_note": curve_note(study),
        "accuracy": accuracy_figures(study) if any(c.outcomes(study.metric) for c in study.conditions) else [],
        "accuracy_note": accuracy_note(study),
        "effects": [figure for panel in panels if panel.name != "gain" for figure in effect_figures(panel)],
        **_gradients(study),
        "probes": probe_figures(study),
        "distillation": distillation.distillation_table(study),
        "gains": [figure for panel in panels if panel.name == "gain" for figure in effect_figures(panel)],
        "gain_sentence": distillation.distillation_sentence(study),
        **_outcomes(study),
        "audits": audit_tables(audits),
        "cost": cost.cost_table(study) if study.trials else None,
        "time": cost.total_time(study),
        "methods": methods(study, verdicts),
        "trials": trials.trials_table(study),
        **_provenance(study),
        "count": count,
        "grouped": grouped,
    }


def _claims(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Context:
    cards = [claims.card(verdict, audit) for verdict, audit in zip(verdicts, audits, strict=True)]
    plots = [
        (plot, verdict.exploratory)
        for number, verdict in enumerate(verdicts, start=1)
        if (plot := claim_figure(number, verdict)) is not None
    ]
    return {
        "problem": "; ".join(map(str, study.problems)),
        "cards": [card for card in cards if not card.exploratory],
        "exploratory_cards": [card for card in cards if card.exploratory],
        "plots": [plot for plot, exploratory in plots if not exploratory],
        "exploratory_plots": [plot for plot, exploratory in plots if exploratory],
        "claims": claims.claims_table(verdicts) if verdicts else None,
        "claims_note": claims.claims_note(verdicts),
        "successes": claims.success_table(verdicts),
        "images": claims.images_table(verdicts),
    }


def _gradients(study: Study) -> Context:
    slopes = condition_slopes(study)
    return {
        "gradients": gradient_figures(study),
        "slopes": slopes_figure(slopes) if slopes else None,
        "slopes_text": slopes_sentence(slopes),
        "sources": sources(slopes),
        "probe_cost": probe_cost(study),
    }


def _outcomes(study: Study) -> Context:
    collapsed = outcomes.collapses(study)
    return {
        "collapsed": outcomes.collapse_table(collapsed) if collapsed else None,
        "collapse_text": outcomes.collapse_sentence(study, collapsed),
        "histograms": outcomes.histogram_figures(study),
        "calibration": outcomes.calibration_table(study),
        "reliability": outcomes.calibration_figures(study),
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
