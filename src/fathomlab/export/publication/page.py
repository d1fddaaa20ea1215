"""The page of a publication: Markdown with links to its tables and charts, generated from the tables only."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fathomlab.analysis.audit import Audit, audit
from fathomlab.analysis.study import PENDING_STATUSES, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import count
from fathomlab.export.publication.commands import run_command
from fathomlab.export.publication.markdown import code, page, report_table, text
from fathomlab.export.publication.results import checks_table, claim_rows, claim_texts, conditions_table
from fathomlab.export.publication.stored import DISCUSSION, Publication
from fathomlab.export.publication.tables import EXPERIMENT, FILE, TRIALS
from fathomlab.report.accuracy_plots import MAX_CHARTS, accuracy_charts, accuracy_note
from fathomlab.report.charts import Chart
from fathomlab.report.figures.style import MAIN
from fathomlab.report.findings import finding
from fathomlab.report.numbers import duration
from fathomlab.report.page import judged, question
from fathomlab.report.sections.distillation import distillation_sentence, distillation_table
from fathomlab.report.sections.failures import summary
from fathomlab.report.sections.predictions import collapse_sentence, collapses
from fathomlab.report.sections.provenance import provenance_table, resumed, test_reads
from fathomlab.report.sections.tuning import chosen_table, powers_table
from fathomlab.report.slopes import (
    MAX_ROWS,
    Slopes,
    condition_slopes,
    slopes_chart,
    slopes_figure,
    slopes_sentence,
    slopes_table,
)
from fathomlab.report.students import mistake_warnings
from fathomlab.report.tables import compact
from fathomlab.report.tuning import tuning_sentences, tuning_warnings
from fathomlab.report.warnings import data_notes, teacher_warnings

ACCURACY, GAIN = "test accuracy (%)", "gain over baseline (points)"
INTERVALS = (
    "Numbers in parentheses are 95% intervals over seeds: t intervals of means, Wilson's of fractions of seeds. The last column "
    "is the command that trains the row again, in the directory of this page; `--runs DIR` names another results directory. "
    "Its report has the mean, and cannot decide claims that compare rows. Another processor rounds differently, which can "
    "grow to the difference of two seeds, so compare a repeated mean with its interval."
)


def charts(item: Publication) -> list[Chart]:
    """The charts of the page, in its order."""
    slopes = _slopes(item)
    wide = partial(slopes_figure, slopes[:MAX_ROWS], MAIN)
    drawn = [replace(slopes_chart(slopes), draw=wide)] if slopes else []
    return [*accuracy_charts(item.study, slice(MAX_CHARTS)), *drawn]


def page_text(item: Publication) -> str:
    """The page."""
    study, slopes = item.study, _slopes(item)
    verdicts = judged(study)
    drawn = {chart.name: chart for chart in charts(item)}
    return page(
        [
            f"<!-- Written by fathomlab publish from the tables in {item.name}/. Do not edit: change {DISCUSSION} there. -->",
            *_head(item),
            *(["## Discussion", item.discussion] if item.discussion else []),
            *_accuracy(item, [chart for name, chart in drawn.items() if name.startswith("accuracy-")]),
            *_claims(item, verdicts, () if study.problems else audit(study)),
            *_checks(checks_table(item, verdicts, slopes)),
            *_tuned(study),
            *_distillation(study),
            *_gradients(item, slopes, drawn),
            *_tail(item),
        ]
    )


def _slopes(item: Publication) -> list[Slopes]:
    return condition_slopes(item.study, lambda trial: item.slopes.get(trial.trial, {}))


def _head(item: Publication) -> list[str]:
    """Title, question, main result, and what was run."""
    study, record = item.study, item.study.experiment
    statuses = ", ".join(f"{number} {status}" for status, number in study.tally.items())
    seeds = f"{count(len(record.seeds), 'seed')} ({_seeds(record.seeds)})"
    total = duration(sum(trial.seconds or 0.0 for _, _, trial in study.trials))
    file = f"[{FILE}]({item.name}/{FILE})" if record.yaml else "a mapping in Python"
    facts = [
        f"**Experiment**: {file}, run with {code(run_command(study, item.file))}.",
        f"**Trials**: {count(len(study.every), 'condition')}, {seeds}; {statuses}. Training took {total} of "
        "computing time.",
        f"**Date**: {record.created[:10]}. **Machine and versions**: [at the end](#machine-and-versions).",
        f"**Test set**: {test_reads(study)}",
        f"**Tables**: [{TRIALS}]({item.name}/{TRIALS}) has a row per trial. All numbers of this page follow from it and "
        f"from [{EXPERIMENT}]({item.name}/{EXPERIMENT}).",
    ]
    asked = record.question or question(record.yaml)
    title = f"# {text(record.title or item.name)}"
    return [title, text(asked), f"**Result.** {text(finding(study))}", *_warnings(study), _list(facts)]


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds as a range, or one by one.

    Example:
        >>> _seeds((42, 43, 44)), _seeds((1, 7))
        ('42 to 44', '1, 7')
    """
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _warnings(study: Study) -> list[str]:
    """What must be read before the results."""
    pending = sum(study.tally[status] for status in PENDING_STATUSES)
    dirty = sum(bool(trial.provenance.git and trial.provenance.git.dirty) for _, _, trial in study.trials)
    warnings = [
        *(
            ["This is a quick run: less data and shorter training than the experiment declares."]
            * study.experiment.quick
        ),
        *(
            [f"{pending} of {count(len(study.trials), 'trial')} not finished, so this page is preliminary."]
            if pending
            else []
        ),
        *(f"The claims cannot be evaluated: {problem.message}." for problem in study.problems),
        *filter(None, [summary(study)]),
        *([f"{count(dirty, 'trial')} trained with uncommitted changes of the code."] if dirty else []),
        *(mistake_warnings(study) + teacher_warnings(study) + tuning_warnings(study) + data_notes(study)),
    ]
    return [f"**Note.** {text(warning)}" for warning in dict.fromkeys(warnings)]


def _accuracy(item: Publication, drawn: Sequence[Chart]) -> list[str]:
    study = item.study
    collapsed = collapses(study)
    sentences = [accuracy_note(study), *([collapse_sentence(study, collapsed)] if collapsed else [])]
    sentences += [tuning_sentences(study)]
    return [
        "## Accuracy",
        *(_image(item, chart) for chart in drawn),
        text(" ".join(filter(None, sentences))),
        conditions_table(item),
        INTERVALS,
    ]


def _claims(item: Publication, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> list[str]:
    if not verdicts:
        return []
    late = "These claims were added after results existed." if item.study.experiment.claims_late else ""
    return ["## Claims", late, claim_rows(item, verdicts), claim_texts(verdicts, audits)]


def _checks(shown: str) -> list[str]:
    note = (
        "Statements with a claim take its verdict. A published number agrees if the 95% interval contains it; a predicted slope, "
        "if the interval and the tolerance of the prediction overlap."
    )
    return ["## Published or predicted, and ours", note, shown] if shown else []


def _tuned(study: Study) -> list[str]:
    """The levels that were chosen, and how they change with depth."""
    if not study.choices:
        return []
    powers = powers_table(study)
    fitted = "The exponent is that of a power law over depth, fitted for each seed with the best level of that seed."
    return [
        "## Tuned on validation",
        report_table(compact(chosen_table(study))),
        *([fitted, report_table(powers)] if powers else []),
    ]


def _distillation(study: Study) -> list[str]:
    shown = distillation_table(study)
    if shown is None:
        return []
    parts = compact(shown).parts((ACCURACY, GAIN, "agreement with teacher (%)"))
    kept = [report_table(part) for part in parts if ACCURACY not in part.columns]  # the conditions have it above
    return ["## Distillation", text(distillation_sentence(study)), *kept]


def _gradients(item: Publication, slopes: Sequence[Slopes], drawn: dict[str, Chart]) -> list[str]:
    if not slopes:
        return []
    note = "Slopes are in nats per layer: positive if gradients grow toward the input."
    image = _image(item, drawn["slopes-figure"])
    return [
        "## Gradient slopes",
        f"{text(slopes_sentence(slopes))} {note}",
        image,
        report_table(compact(slopes_table(slopes))),
    ]


def _tail(item: Publication) -> list[str]:
    """Machine, versions, and how to go on."""
    study = item.study
    steps = [
        f"Recompute this page from its tables, without training: {code(f'fathomlab publish --from {item.name}')}.",
        f"Train everything again: {code(run_command(study, item.file))}.",
        f"Work with the numbers: [{TRIALS}]({item.name}/{TRIALS}).",
    ]
    return [
        "## Machine and versions",
        text(" ".join(resumed(study))),
        report_table(provenance_table(study)),
        "## Next steps",
        "Commands run in the directory of this page.",
        _list(steps),
    ]


def _image(item: Publication, chart: Chart) -> str:
    return f"![{text(chart.full_title or chart.title)}]({item.name}/{chart.name}.svg)"


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {entry}" for entry in items)
