"""The table of lines between networks in docs/results/connectivity/discussion.md.

fathomlab run connectivity --runs RUNS
python -m benchmarks.connectivity --runs RUNS    # evaluates all lines and writes lines.csv: about as long as the training
python -m benchmarks.connectivity                # writes the table again from lines.csv
fathomlab publish --from docs/results/connectivity
"""

import argparse
import csv
import re
from pathlib import Path

import fathomlab
from fathomlab.analysis.connectivity import METRICS, Connectivity, Line
from fathomlab.analysis.statistics import Interval
from fathomlab.base.files import atomic_write

FOLDER = Path(__file__).parents[1] / "docs" / "results" / "connectivity"
BEGIN, END = "<!-- lines: begin -->", "<!-- lines: end -->"
COLUMNS = ("condition", "seed", "alpha", *METRICS)


def write_lines(lines: Connectivity) -> str:
    """The lines as CSV, one row per point."""
    table = lines.table()
    rows = zip(*(table[name] for name in COLUMNS), strict=True)
    return "\n".join(",".join(map(str, row)) for row in [COLUMNS, *rows]) + "\n"


def read_lines(text: str) -> Connectivity:
    """The lines of such a CSV."""
    points: dict[tuple[str, int], list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        points.setdefault((row["condition"], int(row["seed"])), []).append(row)
    return Connectivity(
        tuple(
            Line(
                condition,
                {},
                seed,
                (0, 1),
                tuple(float(row["alpha"]) for row in rows),
                {name: tuple(float(row[name]) for row in rows) for name in METRICS},
            )
            for (condition, seed), rows in points.items()
        )
    )


def markdown(lines: Connectivity) -> str:
    """A row per condition: the barriers of the error in points and of the loss in nats, with 95% intervals over seeds."""
    columns = ("networks", "seeds", "test error (points)", "training error (points)", "test loss (nats)")
    rows = [columns, ("---", *["--:"] * 4)]
    for name in dict.fromkeys(line.condition for line in lines.lines):
        test, train, loss = (lines.barrier(name, metric) for metric in ("test/accuracy", "train/accuracy", "test/loss"))
        rows.append((name, str(test.n), _interval(test, 100), _interval(train, 100), _interval(loss)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _interval(interval: Interval, factor: float = 1) -> str:
    low, high = (0.0 if end is None else factor * end for end in (interval.low, interval.high))
    return f"{factor * interval.mean:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Write the lines if a results directory is given, and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=Path, help="results directory of the experiment")
    runs: Path | None = parser.parse_args().runs
    if runs is not None:
        atomic_write(
            FOLDER / "lines.csv", write_lines(fathomlab.open_store(runs).experiment("connectivity").connectivity())
        )
    page = FOLDER / "discussion.md"
    table = markdown(read_lines((FOLDER / "lines.csv").read_text(encoding="utf-8")))
    text, count = re.subn(
        f"(?<={BEGIN}\n).*?(?={END})", lambda _: f"\n{table}\n", page.read_text("utf-8"), flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{page} must contain {BEGIN} and {END} once, on lines by themselves.")
    atomic_write(page, text)
    print(table)


if __name__ == "__main__":
    main()
