"""Tables of docs/results/distillation.md, from the results directory in which its experiments ran.

for name in gain placebo losses tuned mistakes compute; do fathomlab run docs/results/distillation/$name.yaml --runs RUNS; done
python -m benchmarks.distillation RUNS    # rewrites the tables of the page
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path

from fathomlab.analysis.breakdown import breakdowns
from fathomlab.analysis.distillation import Gain, gains, leads
from fathomlab.analysis.fidelity import fidelity
from fathomlab.analysis.pairing import Paired
from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study, study
from fathomlab.analysis.verdicts import judge
from fathomlab.base.files import atomic_write
from fathomlab.store.reading import Store

PAGE = Path(__file__).parents[1] / "docs" / "results" / "distillation.md"
NAMES = ("gain", "placebo", "losses", "mistakes")
KINDS = {
    "label_smoothing": "label smoothing of the teacher's entropy",
    "shuffled": "outputs for another image",
    "class_mean": "mean outputs of the class",
    "within_class": "outputs for another image of the class",
    "self": "outputs of another network like the student",
    "equal_compute": "no teacher, its compute spent on longer training",
    "longer": "no teacher, longer training",
    "teacher": "(the teacher itself)",
    "student": "outputs of the teacher",
}


def points(interval: Interval | None, digits: int = 1) -> str:
    """A mean of fractions in points, with the ends of its interval."""
    if interval is None:
        return ""
    mean = f"{100 * interval.mean:+.{digits}f}"
    if interval.low is None or interval.high is None or not isfinite(interval.high - interval.low):
        return f"{mean} (unbounded)"
    return f"{mean} ({100 * interval.low:+.{digits}f} to {100 * interval.high:+.{digits}f})"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accuracy(condition: Condition, metric: str) -> str:
    """Mean test accuracy in percent, with its interval over seeds."""
    values = list(condition.outcomes(metric).values())
    interval = mean_interval(values)
    ends = "" if interval.low is None else f" ({100 * interval.low:.1f} to {100 * (interval.high or 0):.1f})"
    return f"{100 * interval.mean:.1f}{ends}"


def per_seed(paired: Paired | None) -> str:
    """The differences of the seeds, in points."""
    return "" if paired is None else ", ".join(f"{100 * value:+.1f}" for value in paired.differences.values())


def gain_row(item: Gain, metric: str) -> list[str]:
    """What a student gains, which part of the teacher's lead this is, and how often it agrees with the teacher."""
    agreement = list(fidelity(item.student).agreement.values())
    return [
        item.student.condition.record.label,
        accuracy(item.student.condition, metric),
        points(item.gain.interval if item.gain else None),
        per_seed(item.gain),
        points(item.share, 0).replace("+", ""),
        f"{100 * mean_interval(agreement).mean:.1f}" if agreement else "",
    ]


def tables(part: Study) -> str:
    """Everything that the page shows of one experiment."""
    known, lines = gains(part), []
    for lead in leads(part):
        teacher = " and ".join(each.record.label for each in lead.teachers)
        low = min(lead.difference.differences.values())
        means = " and ".join(f"{accuracy(each, part.metric)}" for each in lead.teachers)
        lines.append(
            f"Teacher ({teacher}): {means}%; {lead.baseline.record.label}: {accuracy(lead.baseline, part.metric)}%. "
            f"Teacher minus baseline: {points(lead.difference.interval)} points; lowest seed {100 * low:+.1f}.\n"
        )
    columns = ["student", "test accuracy (%)", "gain (points)", "per seed", "share of the lead (%)", "agreement (%)"]
    lines.append(table(columns, [gain_row(item, part.metric) for item in known]))
    for item in breakdowns(part):
        rows = [[KINDS[step.kind], points(step.gain.interval), per_seed(step.gain)] for step in item.steps]
        lines.append("\n" + table(["the student learns from", "gain (points)", "per seed"], rows))
        parts = [[each.name, points(each.difference.interval), each.decision] for each in item.parts]
        if parts:
            lines.append("\n" + table(["part of the gain", "points", "verdict"], parts))
    verdicts = judge(part)
    if verdicts:
        rows = [[each.contrast.claim.name, each.decision, points(each.effect)] for each in verdicts]
        lines.append("\n" + table(["claim", "verdict", "effect (points)"], rows))
    return "\n".join(lines)


def main() -> None:
    """Rewrite the tables of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    store = Store(parser.parse_args().runs)
    page = PAGE.read_text(encoding="utf-8")
    for record in store.experiments():
        name = Path(record.source).stem
        part = study(store, record)
        if name not in NAMES or not all(trial.status == "finished" for _, _, trial in part.trials):
            continue
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        text = f"{begin}\n\n{tables(part)}\n\n{end}"
        page = re.sub(f"{begin}.*?{end}", lambda _, text=text: text, page, flags=re.S)
    atomic_write(PAGE, page.encode())


if __name__ == "__main__":
    main()
