"""The mean outcome of each condition, as `run` prints it."""

from fathomlab.analysis.study import Study
from fathomlab.base.labels import count
from fathomlab.base.output import escape_control_chars
from fathomlab.cli.options import print_table
from fathomlab.report.effects import accuracy
from fathomlab.report.numbers import plain, span

MOST = 20  # rows; the report has all


def print_means(study: Study) -> None:
    """Print the mean test accuracy of each condition with its 95% interval, and which seeds it excludes."""
    rows: list[list[str]] = []
    for condition in study.conditions[:MOST]:
        mean = accuracy(study, condition)
        number = "-" if mean is None else plain(mean.mean)
        ends = "-" if mean is None else span(mean, sign=False) or "-"
        seeds = str(len(condition.outcomes(study.metric)))
        rows.append([number, ends, seeds, condition.name, condition.excluded(study.metric)])
    heading = "test (%)" if study.metric == "test/accuracy" else "test, best epoch (%)"
    columns = [heading, "95% interval", "seeds", "condition", "excluded"]
    shown = slice(None if any(row[-1] for row in rows) else -1)  # without an empty last column
    print_table("", columns[shown], [[escape_control_chars(cell) for cell in row[shown]] for row in rows])
    if len(study.conditions) > MOST:
        print(f"The report also has {count(len(study.conditions) - MOST, 'other condition')}.")
