"""The numbers of a published page, recomputed from its tables with numpy and scipy, independent of the package."""

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

NUMBER = re.compile(r"[-\u2212+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
FLAT = 1e-6  # differences without spread, except for rounding


def page_tables(text: str) -> dict[str, list[list[dict[str, str]]]]:
    """Heading of a section to its tables: a row maps headings to cells."""
    sections: dict[str, list[list[dict[str, str]]]] = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        blocks = [block.splitlines() for block in map(str.strip, body.split("\n\n")) if block.startswith("| ")]
        sections[title] = [
            [dict(zip(cells(block[0]), cells(row), strict=True)) for row in block[2:]] for block in blocks
        ]
    return sections


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def numbers(cell: str) -> list[float]:
    return [float(item.replace("\u2212", "-")) for item in NUMBER.findall(cell)]


def t_interval(values: Sequence[float]) -> list[float]:
    """Mean and ends; only the mean for one value."""
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return [float(data.mean())]
    half = float(stats.t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    return [float(data.mean()), float(data.mean()) - half, float(data.mean()) + half]


def wilson(hits: int, n: int) -> tuple[float, float]:
    ends = stats.binomtest(hits, n).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


class Tables:
    """The tables of a publication.

    Attributes:
        labels: Label of each condition, in order.
    """

    def __init__(self, folder: Path):
        document = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
        with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.record: Any = document["experiment"]
        self.labels: list[str] = [condition["label"] for condition in self.record["conditions"]]
        self.metric = "best/test/accuracy" if self.record["headline"] == "best" else "test/accuracy"
        dataset = document["facts"].get("dataset")
        self.chance = 1 / dataset["values"][0]["classes"] if dataset else None
        self.looks = bool(document["history"]["looks"])

    def trials(self, label: str) -> list[dict[str, str]]:
        return [row for row in self.rows if row["condition"] == label]

    def values(self, label: str, column: str) -> dict[int, float]:
        """Seed to a number of the finished trials of a condition."""
        rows = [row for row in self.trials(label) if row["status"] == "finished"]
        return {int(row["seed"]): float(row[column]) for row in rows if row.get(column) not in (None, "", "null")}

    def arm(self, claim: Any, level: Any) -> list[str]:
        """Labels of the conditions that a claim has at a level."""
        return [item["label"] for item in self.record["conditions"] if self._is_in(item, claim, level)]

    def _is_in(self, condition: Any, claim: Any, level: Any) -> bool:
        fixed = {key: value for key, value in self.record["resolved"].items() if key not in ("factors", "seeds")}
        options = flat(fixed) | condition["factors"] | {"role": condition["role"]}
        wanted = {**claim.get("at", {}), claim["factor"]: level}
        for key, value in wanted.items():
            known = [option for name, option in options.items() if name == key or name.endswith(f".{key}")]
            if not known:
                if claim["factor"] == "role" and key != "role":
                    continue  # a baseline has no alpha
                return False
            if json.dumps(known[0]) != json.dumps(value) and not (
                type(known[0]) in (int, float) and type(value) in (int, float) and known[0] == value
            ):
                return False
        return True

    def by_seed(self, claim: Any, level: Any) -> dict[int, float]:
        """Seed to the mean over conditions, with what diverged trials count as; seeds that lack a value are left out."""
        outcomes: dict[int, list[float]] = {}
        for label in self.arm(claim, level):
            for row in self.trials(label):
                outcomes.setdefault(int(row["seed"]), []).append(self._outcome(row, claim))
        means = {seed: float(np.mean(values)) for seed, values in outcomes.items()}
        return {seed: mean for seed, mean in means.items() if not math.isnan(mean)}

    def _outcome(self, row: dict[str, str], claim: Any) -> float:
        metric, kind = claim.get("metric", "test/accuracy"), claim.get("kind", "difference")
        if row["status"] == "diverged":
            if kind == "success":
                return -math.inf
            return math.nan if kind == "trend" or metric.endswith("loss") or self.chance is None else self.chance
        text = row.get(metric, "")
        return math.nan if row["status"] != "finished" or text in ("", "null") else float(text)

    def diverged(self, claim: Any) -> bool:
        labels = [label for level in claim["levels"] for label in self.arm(claim, level)]
        rows = [row for label in labels for row in self.trials(label)]
        metric = claim.get("metric", "test/accuracy")
        lost = [row for row in rows if row["status"] == "finished" and row.get(metric) == "null" and "loss" in metric]
        return bool(lost) or any(row["status"] == "diverged" for row in rows)


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {
        key: item for name, inner in value.items() for key, item in flat(inner, f"{path}.{name}".strip(".")).items()
    }


def differences(tables: Tables, claim: Any) -> list[float]:
    """One number per seed: a difference from a level or a reference, or a slope per doubling."""
    arms = [tables.by_seed(claim, level) for level in claim["levels"]]
    seeds = sorted(set.intersection(*(set(arm) for arm in arms)))
    if claim.get("kind") == "trend" and seeds:
        labels = [tables.arm(claim, level)[0] for level in claim["levels"]]
        depths = {item["label"]: item["depth"] for item in tables.record["conditions"]}
        lists = any(isinstance(level, list) for level in claim["levels"])
        x = np.log2([depths[label] if lists else level for label, level in zip(labels, claim["levels"], strict=True)])
        return [float(np.polyfit(x, [arm[seed] for arm in arms], 1)[0]) for seed in seeds]
    second: Callable[[int], float] = (lambda seed: arms[1][seed]) if len(arms) > 1 else lambda _: claim["reference"]
    return [arms[0][seed] - second(seed) for seed in seeds]


def success_interval(tables: Tables, claim: Any) -> list[float]:
    """Difference of two fractions with Newcombe's interval, or a fraction minus a reference with Wilson's."""
    arms = [list(tables.by_seed(claim, level).values()) for level in claim["levels"]]
    counts = [(sum(value > claim["threshold"] for value in arm), len(arm)) for arm in arms]
    (hits, n), (low, high) = counts[0], wilson(*counts[0])
    p = hits / n
    if len(counts) == 1:
        return [p - claim["reference"], low - claim["reference"], high - claim["reference"]]
    q, (below, above) = counts[1][0] / counts[1][1], wilson(*counts[1])
    return [p - q, p - q - math.hypot(p - low, above - q), p - q + math.hypot(high - p, q - below)]


def one_sided(values: Sequence[float], null: float) -> float:
    """p of the t test of a mean above `null`; of the sign test without spread."""
    if len(values) < 2:
        return 1.0
    if max(values) - min(values) <= FLAT:
        return 0.5 ** len(values) if float(np.mean(values)) > null + FLAT else 1.0
    t = (np.mean(values) - null) * math.sqrt(len(values)) / np.std(values, ddof=1)
    return float(stats.t.sf(t, len(values) - 1))


def p_values(tables: Tables, claim: Any) -> tuple[float, float]:
    """One-sided p for a claim about means, on the scale on which 2.5% decides, and for its opposite."""
    values, matters, expect = differences(tables, claim), claim.get("matters", 0.0), claim["expect"]
    mirrored = [-value for value in values]
    if expect == "equal":
        inside = max(one_sided(values, -matters), one_sided(mirrored, -matters)) / 2
        result = inside, min(one_sided(values, matters), one_sided(mirrored, matters))
    else:
        first, second = (mirrored, values) if expect == "less" else (values, mirrored)
        result = one_sided(first, matters), one_sided(second, -matters)
    if not values or not tables.diverged(claim):
        return result if values else (1.0, 1.0)
    loss = claim.get("metric", "test/accuracy").endswith("loss")
    if claim.get("kind") == "trend" or loss or tables.chance is None:
        return 1.0, 1.0
    return (1.0, result[1]) if expect == "equal" else result


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values."""
    order, adjusted, largest = np.argsort(p), [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted
