"""Compares every number in the tables of a published page with the one recomputed from its CSV file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.recomputed import (
    Tables,
    differences,
    holm,
    numbers,
    p_values,
    page_tables,
    success_interval,
    t_interval,
    wilson,
)

TIMES = {"at initialization": "start", "after epoch 1": "first", "at the end": "last"}


def is_shown(cell: str, expected: Sequence[float], digits: int | None = 2) -> bool:
    """Whether a cell begins with these numbers, rounded to so many decimals (None: to four significant digits)."""
    shown = numbers(cell)[: len(expected)]
    if len(shown) < len(expected):
        return False
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=_half(b, digits)) for a, b in zip(shown, expected, strict=True))


def _half(value: float, digits: int | None) -> float:
    """Half of the last digit, and a little more for ties."""
    last = digits if digits is not None else 3 - math.floor(math.log10(abs(value) or 1.0))
    return 0.5001 * 10.0**-last


def wrong_numbers(page: Path) -> list[str]:
    """The cells of a page that differ from its tables, one line each; empty if the page is right."""
    tables = Tables(page.with_suffix(""))
    sections = page_tables(page.read_text(encoding="utf-8"))
    names = [row["condition"] for row in sections["Accuracy"][0]]
    if tables.record["tune"]:
        return []  # its conditions are chosen by the analysis
    labels = dict(zip(names, tables.labels, strict=True))
    wrong = [text for row in sections["Accuracy"][0] for text in _condition(tables, labels[row["condition"]], row)]
    wrong += _claims(tables, sections.get("Claims", [[]])[0])
    wrong += _checks(tables, labels, sections.get("Published or predicted, and ours", [[]])[0])
    for row in sections.get("Gradient slopes", [[]])[0]:
        wrong += _slopes(tables, labels[row["condition"]], row)
    for part in sections.get("Distillation", []):
        for row in part:
            wrong += _student(tables, labels[row["network"].partition(" (mistake")[0]], row)
    return wrong


def _condition(tables: Tables, label: str, row: dict[str, str]) -> list[str]:
    values = tables.values(label, tables.metric)
    trials = tables.trials(label)
    expected: dict[str, tuple[Sequence[float], int | None]] = {"trials": ([len(values), len(trials)], 0)}
    if values:
        ends = t_interval([100 * value for value in values.values()])
        accuracy = next(name for name in row if name.lower().startswith("test accuracy"))
        expected[accuracy] = ([ends[0], *(min(100.0, max(0.0, end)) for end in ends[1:])], 2)
        expected["training loss (nats)"] = (t_interval(list(tables.values(label, "train/loss").values())), None)
        correct = [100 * value for value in tables.values(label, "train/accuracy").values()]
        expected["training accuracy (%)"] = (t_interval(correct), 2)
    wrong = [name for name, (want, digits) in expected.items() if not is_shown(row[name], want, digits)]
    for name in (name for name in row if name.startswith("seeds above")):
        threshold = numbers(name)[0] / 100
        n = len(values) + sum(trial["status"] == "diverged" for trial in trials)
        hits = sum(value > threshold for value in values.values())
        if not is_shown(row[name], [hits, n, *(100 * end for end in wilson(hits, n))] if n else [], 0):
            wrong.append(name)
    lost = len(trials) - len(values)
    excluded = numbers(row["excluded"])
    if lost != (excluded[0] if row["excluded"].startswith("all") else sum(excluded[::2])):
        wrong.append("excluded")
    return [f"{label}: {name}: {row[name]}" for name in wrong]


def _claims(tables: Tables, rows: Sequence[dict[str, str]]) -> list[str]:
    claims, wrong = tables.record["claims"], list[str]()
    means = all(claim.get("kind") != "success" for claim in claims)
    tests = [p_values(tables, claim) for claim in claims] if means else []
    adjusted = holm([min(pair) for pair in tests])
    for index, (claim, row) in enumerate(zip(claims, rows, strict=True) if rows else ()):
        wrong += [f"{claim['name']}: {name}: {row[name]}" for name in _claim(tables, claim, row)]
        if not means:
            continue
        scale = 2 if claim["expect"] == "equal" else 1
        shown = {"p, one-sided": scale * tests[index][0], "p, Holm-corrected": scale * adjusted[index]}
        for name, p in shown.items():
            if not math.isclose(float(row[name]), min(1.0, p), rel_tol=0.06, abs_tol=1e-15):
                wrong.append(f"{claim['name']}: {name}: {row[name]} instead of {p}")
        side = "supported" if tests[index][0] < tests[index][1] else "refuted"
        verdict = side if adjusted[index] <= 0.025 else "undecided"
        if not tables.looks and row["verdict"] != verdict:
            wrong.append(f"{claim['name']}: {row['verdict']} instead of {verdict}")
    return wrong


def _claim(tables: Tables, claim: Any, row: dict[str, str]) -> list[str]:
    """The columns of a claim that are wrong."""
    success, loss = claim.get("kind") == "success", claim.get("metric", "").endswith("loss")
    values = differences(tables, claim)
    scale, digits = (1.0, None) if loss else (100.0, 2)
    ends = success_interval(tables, claim) if success and values else t_interval(values) if values else []
    wrong = [] if is_shown(row["effect"], [scale * end for end in ends], digits) else ["effect"]
    if not is_shown(row["smallest effect that matters"], [scale * claim.get("matters", 0.0)], digits):
        wrong.append("smallest effect that matters")
    return wrong if int(row["seeds"]) == len(values) else [*wrong, "seeds"]


def _checks(tables: Tables, labels: dict[str, str], rows: Sequence[dict[str, str]]) -> list[str]:
    """Published numbers and predicted slopes; statements with a claim have the numbers of its row."""
    wrong: list[str] = []
    for item, row in zip(tables.record["published"], rows, strict=False):
        if item["value"] is None or item["metric"] == "parameters" or "This run:" not in row["ours"]:
            continue
        arms = {"metric": item["metric"], "factor": item["factor"], "levels": item["levels"], "at": item["at"]}
        values = differences(tables, arms | {"reference": 0.0})
        ends, scale = t_interval(values), 1 if item["metric"].endswith("loss") else 100
        ours = row["ours"].partition("This run:")[2].replace("95% interval", "")
        if not is_shown(ours, [scale * end for end in ends], 2 if len(item["levels"]) > 1 else 1):
            wrong.append(f"{item['statement']}: {row['ours']}")
        if len(ends) > 1 and row["agrees"] != ("agrees" if ends[1] <= item["value"] <= ends[2] else "disagrees"):
            wrong.append(f"{item['statement']}: {row['agrees']}")
    for row in (row for row in rows if row["published or predicted"].startswith("Gradient slope")):
        name, _, rest = row["published or predicted"].partition(", ")[2].partition(": ")
        slope, tolerance = numbers(rest)[:2]
        ends = t_interval(list(_starts(tables, labels[name])))
        if not is_shown(row["ours"], ends, 4):
            wrong.append(f"{name}: {row['ours']}")
        low, high = (ends[1], ends[2]) if len(ends) > 1 else (ends[0], ends[0])
        distance = max(low - tolerance - slope, slope - high - tolerance)
        if abs(distance) > 1e-4 and row["agrees"] != ("agrees" if distance < 0 else "differs"):
            wrong.append(f"{name}: {row['agrees']}")
    return wrong


def _starts(tables: Tables, label: str) -> list[float]:
    return [float(row["slope/start"]) for row in tables.trials(label) if row.get("slope/start")]


def _slopes(tables: Tables, label: str, row: dict[str, str]) -> list[str]:
    wrong: list[str] = []
    for when, column in TIMES.items():
        values = [float(trial[name]) for trial in tables.trials(label) if trial.get(name := f"slope/{column}")]
        prefix = "" if column == "start" else f"{when}: "
        names = [when, f"{prefix}95% low", f"{prefix}95% high", f"{prefix}seeds"]
        if when in row and values:
            want = [*t_interval(values), len(values)]
            shown = " ".join(row[name] for name in names if row[name])
            wrong += [] if is_shown(shown, want, 4) else [f"{label}: {when}: {shown}"]
        elif row.get(when):
            wrong.append(f"{label}: {when}: {row[when]}")
    return wrong


def _student(tables: Tables, label: str, row: dict[str, str]) -> list[str]:
    """Parameters, gains over the only baseline, and the agreement with the teacher."""
    wrong: list[str] = []
    sizes = {trial["parameters"] for trial in tables.trials(label)} - {""}
    if row.get("parameters") and {row["parameters"]} != sizes:
        wrong.append("parameters")
    if agreement := row.get("agreement with teacher (%)"):
        values = [100 * value for value in tables.values(label, "agreement").values()]
        shown = f"{agreement} {row['agreement: 95% low']} {row['agreement: 95% high']}"
        wrong += [] if is_shown(shown, t_interval(values)) else ["agreement with teacher (%)"]
    baselines = [item["label"] for item in tables.record["conditions"] if item["role"] == "baseline"]
    if len(baselines) == 1 and (gain := row.get("gain over baseline (points)")):
        before, after = (tables.values(name, tables.metric) for name in (baselines[0], label))
        ends = t_interval([100 * (after[seed] - before[seed]) for seed in after if seed in before])
        shown = f"{gain} {row['gain: 95% low']} {row['gain: 95% high']}"
        wrong += [] if is_shown(shown, ends) else ["gain over baseline (points)"]
    return [f"{label}: {name}: {row[name]}" for name in wrong]
