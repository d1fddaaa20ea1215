"""What the gain is made of: the gain that each control reaches, and the differences between controls."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.breakdown import Breakdown, Decision, Kind, Part, Step, breakdowns
from fathomlab.analysis.options import number
from fathomlab.analysis.statistics import mean_interval
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.accuracy_plots import effects
from fathomlab.report.charts import Chart, drawn_seeds
from fathomlab.report.effects import bounded
from fathomlab.report.figures.rows import Point, Row
from fathomlab.report.numbers import MINUS, capital, signed, span
from fathomlab.report.section import Section
from fathomlab.report.students import cells, difference_text, named, share_text
from fathomlab.report.tables import Table, compact, table

NAMES: dict[Kind | None, str] = {
    None: "baseline",
    "label_smoothing": "label smoothing",
    "shuffled": "shuffled teacher",
    "class_mean": "class-mean teacher",
    "within_class": "within-class teacher",
    "self": "self-distillation",
    "equal_compute": "equal-compute baseline",
    "longer": "longer baseline",
    "teacher": "teacher",
    "student": "student",
}
KEEPS: dict[Kind | None, str] = {
    None: "nothing: the labels only",
    "label_smoothing": "how soft the targets are",
    "shuffled": "the set of outputs, given to other images",
    "class_mean": "how similar the classes are",
    "within_class": "the outputs for other images of the class",
    "self": "outputs for each image, of a network like the student",
    "equal_compute": "the operations of the teacher's training, for more epochs",
    "longer": "more epochs",
    "teacher": "the larger network itself",
    "student": "everything that the teacher's outputs say",
}
MEANINGS = {
    "softness": ("Softer targets alone help.", "Softer targets alone do not help; they cost accuracy."),
    "class structure": (
        "Which classes are similar helps beyond softness.",
        "Which classes are similar costs accuracy compared with softness alone.",
    ),
    "single images": (
        "What the teacher says about single images helps beyond its classes.",
        "The teacher's outputs for the images help less than those for other images of their class.",
    ),
}
DECISIONS: tuple[Decision, ...] = ("supported", "refuted", "undecided")
OPEN = "The seeds do not decide whether this contributes."


@dataclass(frozen=True)
class PartCard:
    """A part of the gain with its decision.

    Attributes:
        decision: The word of the badge.
        title: The part, and the two networks that are compared.
        text: The difference with its interval, and what it means.
    """

    decision: Decision
    title: str
    text: str


@dataclass(frozen=True)
class Made:
    """The breakdown of one student.

    Attributes:
        name: The student; "" if the experiment has only one breakdown.
        warnings: What must be read before it, such as targets that seem not to be shuffled.
        sentence: The verdict.
    """

    name: str
    warnings: tuple[str, ...]
    sentence: str
    parts: tuple[PartCard, ...]
    table: Table
    chart: Chart | None


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The breakdown of the gain of each student that has controls."""
    every = breakdowns(study)
    if not every:
        return None
    content = tuple(_made(item, index, len(every) > 1) for index, item in enumerate(every, start=1))
    return Section("breakdown", "What is the gain made of?", content, link="Made of")


def verdict_sentence(item: Breakdown) -> str:
    """Whether there is a gain, and which parts of it are supported, refuted, or undecided."""
    gain = item.gain
    text = f"Gain of {named(item.student.condition)} over the baseline: {difference_text(gain)}."
    if gain.interval is None:
        return text
    if not (gain.is_clear and gain.is_positive):
        text += " It is not clearly above zero, so it cannot be divided."
    groups = {word: [part.name for part in item.parts if part.decision == word] for word in DECISIONS}
    words = [f"{capital(word)}: {', '.join(names)}." for word, names in groups.items() if names]
    return " ".join([text, *words])


def steps_table(item: Breakdown, name: str = "breakdown") -> Table:
    """A row per control: its gain over the baseline, and how much of the student's gain it reaches."""
    baseline = item.student.baseline
    rows = [[NAMES[None], KEEPS[None], "" if baseline is None else baseline.name, "0.00", *[""] * 7]]
    for step in item.steps:
        row = [step_name(step), KEEPS[step.kind], named(step.condition), *cells(step.gain.interval, 100)]
        row += [str(len(step.gain.differences)), step.gain.excluded]
        rows.append([*row, *cells(step.share, 100, 1)])
    columns = ["network", "keeps of the teacher", "condition", "gain over baseline (points)", "95% low", "95% high"]
    columns += ["pairs", "excluded pairs", "share of the student's gain (%)", "share: 95% low", "share: 95% high"]
    return table(name, columns, [row[: len(columns)] for row in rows], texts=3)


def step_name(step: Step) -> str:
    """The name of a control: "equal-compute baseline (120 epochs)"."""
    if step.kind not in ("equal_compute", "longer"):
        return NAMES[step.kind]
    epochs = next((value for _, trial in step.condition.trials if (value := number(trial, "training.epochs"))), None)
    return NAMES[step.kind] if epochs is None else f"{NAMES[step.kind]} ({epochs:.0f} epochs)"


def plumbing_warning(item: Breakdown) -> str:
    """A warning if the network that learned from shuffled targets agrees with the teacher more than the baseline; "" if not."""
    shuffled = item.step("shuffled")
    if not item.is_suspicious or item.agreement is None or shuffled is None:
        return ""
    return (
        f"Check the plumbing: {named(shuffled.condition)} learned from shuffled targets, but agrees with the teacher more "
        f"than the baseline does ({difference_text(item.agreement)}). Either the targets were not shuffled, or softer "
        f"targets alone made it more accurate (gain {difference_text(shuffled.gain)})."
    )


def _made(item: Breakdown, index: int, several: bool) -> Made:
    name = f"breakdown-{index}" if several else "breakdown"
    warning = plumbing_warning(item)
    return Made(
        name=named(item.student.condition) if several else "",
        warnings=(warning,) if warning else (),
        sentence=verdict_sentence(item),
        parts=tuple(map(_card, item.parts)),
        table=compact(steps_table(item, name)),
        chart=_chart(item, name),
    )


def _card(part: Part) -> PartCard:
    helps, hurts = MEANINGS[part.name]
    meaning = {"supported": helps, "refuted": hurts, "undecided": OPEN}[part.decision]
    title = f"{capital(part.name)}: {NAMES[part.second]} {MINUS} {NAMES[part.first]}"
    return PartCard(part.decision, title, f"{difference_text(part.difference)}. {meaning}")


def _chart(item: Breakdown, name: str) -> Chart | None:
    """The gain of each control over the baseline, as a forest plot."""
    known = [step for step in item.steps if step.gain.interval is not None]
    if not known:
        return None
    rows = [_row(step) for step in known]
    title = f"Gain over the baseline (points), {named(item.student.condition)} and its controls"
    spans = [
        f"{step_name(step)} {signed(100 * step.gain.interval.mean)}"
        + (f" ({ends})" if (ends := span(step.gain.interval, 100)) else "")
        for step in known
        if step.gain.interval is not None
    ]
    description = f"{title}: each seed, the mean, and its 95% interval: {'; '.join(spans)}."
    draw = partial(effects, rows, f"network {MINUS} baseline")
    seeds = sorted({seed for step in known for seed in step.gain.differences})
    return Chart(f"{name}-forest", title, description, draw, _forest_table(name, known, seeds))


def _row(step: Step) -> Row:
    differences = [100 * value for value in step.gain.differences.values()]
    mean = bounded(mean_interval(differences), -100.0)
    share = share_text(step.share).partition(" (")[0]
    note = f"{share} of the gain" if share and step.kind != "teacher" else ""
    color = {"teacher": 2, "student": 1}.get(step.kind, 0)
    return Row(step_name(step), tuple(map(Point, drawn_seeds(differences))), mean, note=note, series=color)


def _forest_table(name: str, known: Sequence[Step], seeds: Sequence[int]) -> Table:
    rows: list[list[str]] = []
    for step in known:
        values = [step.gain.differences.get(seed) for seed in seeds]
        row = [step_name(step), *cells(step.gain.interval, 100), str(len(step.gain.differences)), step.gain.excluded]
        rows.append([*row, *("" if value is None else f"{100 * value:.2f}" for value in values)])
    columns = ["network", "mean (points)", "95% low", "95% high", "pairs", "excluded pairs"]
    return table(f"{name}-forest", [*columns, *(f"seed {seed}" for seed in seeds)], rows)
