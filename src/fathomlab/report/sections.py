"""Everything that the template shows, section by section, in the order of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fathomlab.report import accounts, claims, cost, distillation, outcomes, provenance
from fathomlab.report.answers import answers
from fathomlab.report.curves import curve_figures
from fathomlab.report.depths import accuracy_figures, effect_figure
from fathomlab.report.dots import claim_figure
from fathomlab.report.effects import Effect, depth_effects, distillation_gains, residual_effects
from fathomlab.report.fairness import audit_tables
from fathomlab.report.figures import Figure
from fathomlab.report.heatmaps import gradient_figures, probe_cost
from fathomlab.report.loose import mapping
from fathomlab.report.methods import methods
from fathomlab.report.numbers import count, grouped
from fathomlab.report.probes import probe_figures
from fathomlab.report.slopes import condition_slopes, slopes_figure, slopes_sentence, sources
from fathomlab.report.study import Study


@dataclass(frozen=True)
class Evidence:
    """What the analysis says of an experiment.

    Attributes:
        verdicts: On its claims, as plain mappings.
        audits: What differs between the levels of each claim, likewise.
        claims: As declared.
        numbers: The summary that the page carries for other programs.
        problem: Why the claims cannot be judged; "" where they can.
    """

    verdicts: tuple[Mapping[str, Any], ...]
    audits: tuple[Mapping[str, Any], ...]
    claims: tuple[Mapping[str, Any], ...]
    numbers: Mapping[str, Any]
    problem: str


def sections(about: Study, known: Evidence) -> dict[str, Any]:
    """The template's context; what has no content is empty, and its section vanishes."""
    tally = accounts.tally(about)
    gains = distillation_gains(about)
    return {
        "experiment": about.experiment,
        "tally": tally,
        "total": len(about.trials),
        "pending": sum(tally[status] for status in accounts.PENDING),
        "failures": accounts.failures(about),
        "interrupted": tally["interrupted"],
        **_claims(known),
        "answers": answers(about) if about.conditions else None,
        "notes": provenance.data_notes(about),
        "curves": curve_figures(about),
        "accuracy": accuracy_figures(about) if any(c.outcomes(about.metric) for c in about.conditions) else [],
        "effects": [] if gains else _effect_figures(about),
        **_gradients(about),
        "probes": probe_figures(about),
        "distillation": distillation.distillation_table(about),
        "gains": [effect_figure(gains, "effect-gain", "Distilled minus baseline student [points]")] if gains else [],
        "gain_sentence": distillation.distillation_sentence(about),
        **_outcomes(about),
        "audits": audit_tables(known.audits),
        "cost": cost.cost_table(about) if about.trials else None,
        "time": cost.total_time(about),
        "methods": methods(about, known.verdicts),
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
        "collapse_text": outcomes.collapse_sentence(collapsed),
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


def _effect_figures(about: Study) -> list[Figure]:
    kinds: tuple[tuple[str, str, Sequence[Effect]], ...] = (
        ("effect-residual", "Residual minus plain [points]", residual_effects(about)),
        ("effect-depth", "Deepest minus shallowest [points]", depth_effects(about) if about.has_depths else []),
    )
    return [effect_figure(effects, name, title) for name, title, effects in kinds if any(e.interval for e in effects)]
