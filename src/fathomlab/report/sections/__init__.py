"""The sections of the page of an experiment, one module each. A new section needs a module, and a line in `SECTIONS`."""

from collections.abc import Callable, Sequence

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.section import Section
from fathomlab.report.sections import (
    accuracy,
    answer,
    audit,
    breakdown,
    claims,
    cost,
    curves,
    distillation,
    distillation_cost,
    failures,
    gradients,
    methods,
    mistakes,
    objectives,
    predictions,
    probes,
    provenance,
    published,
    scaling,
    soft_share,
    student_card,
    trials,
    tuning,
)

SectionBuilder = Callable[[Study, Sequence[Verdict], Sequence[Audit]], Section | None]

# In the order of the page. A builder returns None if the experiment has nothing to show; the page then omits the section.
SECTIONS: tuple[SectionBuilder, ...] = (
    answer.section,
    failures.section,
    claims.section,
    tuning.section,
    published.section,
    accuracy.section,
    curves.section,
    gradients.section,
    probes.section,
    distillation.section,
    breakdown.section,
    objectives.section,
    soft_share.section,
    scaling.section,
    student_card.section,
    predictions.section,
    mistakes.section,
    audit.section,
    cost.section,
    distillation_cost.section,
    methods.section,
    provenance.section,
    trials.section,
)
