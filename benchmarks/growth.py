"""How time grows: with the seeds of a pack, and with the trials of an experiment."""

import json
import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.part import Options, Target, exponent, table
from benchmarks.race import Entry, race
from benchmarks.setting import Cell
from benchmarks.startup import command, tiny, whole

TITLE = "Growth"
CELLS = (Cell(32, 10), Cell(128, 10))
SEEDS = (1, 2, 4, 8, 16, 32)
TRIALS = (10, 100, 1000)
MAX_LINEAR = 1.05


def measure(options: Options) -> dict[str, Any]:
    """Both curves."""
    with machine.recorded() as about:
        seeds = {cell.name: _packs(cell, options.rounds) for cell in CELLS}
        trials = _experiments(options.at_most(3))
    return {"about": about, "seeds": seeds, "trials": trials}


def text(record: Mapping[str, Any]) -> list[str]:
    """Return a table per curve."""
    lines = [
        "Steps of one process with one thread, CPU time (ms) per step of the pack, median over the rounds:",
        "",
    ]
    rows = []
    for name, curve in record["seeds"].items():
        costs = curve["milliseconds"]
        rows.append([name, "pack", *(f"{cost:.3g}" for cost in costs.values()), f"{curve['exponent']:.2f}"])
        each = (f"{cost / int(count):.3g}" for count, cost in costs.items())
        rows.append([name, "network", *each, ""])
    lines += table(["cell", "ms per step of", *(f"{count} seeds" for count in SEEDS), "fitted exponent"], rows)
    lines += [
        "Tiny trials (an MLP of width 8, one epoch of 200 images) through `fathomlab run`, its start and report included:",
        "",
    ]
    curve = record["trials"]
    rows = [
        ["seconds", *(f"{seconds:.2f}" for seconds in curve["seconds"].values()), f"{curve['exponent']:.2f}"],
        ["seconds per trial", *(f"{seconds / int(count):.4f}" for count, seconds in curve["seconds"].items()), ""],
        ["seconds for each further trial", "", *(f"{slope:.4f}" for slope in further(curve["seconds"])), ""],
        [
            "of the seconds: without the start of the process and the report",
            *(f"{seconds:.2f}" for seconds in curve["inside"].values()),
            "",
        ],
    ]
    return lines + table(["", *(f"{int(count):,} trials" for count in curve["seconds"]), "fitted exponent"], rows)


def targets(record: Mapping[str, Any]) -> list[Target]:
    """At most linear in seeds and in trials."""
    packs = [
        Target(f"exponent of time against seeds per pack, {name}", MAX_LINEAR, curve["exponent"], "", most=True)
        for name, curve in record["seeds"].items()
    ]
    number = record["trials"]["exponent"]
    return [*packs, Target("exponent of time against trials", MAX_LINEAR, number, "", most=True)]


def further(seconds: Mapping[str, float]) -> list[float]:
    """Seconds for each further trial between one count of trials and the next: a constant where time is linear."""
    points = [(int(count), value) for count, value in seconds.items()]
    return [(after - before) / (more - fewer) for (fewer, before), (more, after) in pairwise(points)]


def fitted(curve: Mapping[int, float]) -> float:
    """The exponent of a curve whose keys are counts."""
    return exponent({float(count): cost for count, cost in curve.items()})


def _packs(cell: Cell, rounds: int) -> dict[str, Any]:
    entries = {count: Entry("fathomlab", cell, 1, 1, count) for count in SEEDS}
    course = race(list(entries.values()), rounds)
    costs = {count: count * median(course.cpu[entry.label]) for count, entry in entries.items()}
    print(cell.name, {count: round(cost, 3) for count, cost in costs.items()}, flush=True)
    return {"milliseconds": costs, "exponent": fitted(costs), "rounds": course.plain()}


def _experiments(rounds: int) -> dict[str, Any]:
    rows: dict[int, list[tuple[float, float]]] = {count: [] for count in TRIALS}
    for _ in range(rounds):
        for count in TRIALS:
            rows[count].append(_experiment(count))
    seconds = {count: median(whole for whole, _ in times) for count, times in rows.items()}
    inside = {count: median(trained for _, trained in times) for count, times in rows.items()}
    print("trials", {count: round(value, 2) for count, value in seconds.items()}, flush=True)
    return {"seconds": seconds, "inside": inside, "exponent": fitted(seconds), "rounds": rows}


def _experiment(trials: int) -> tuple[float, float]:
    """Seconds of `fathomlab run` on so many new trials: the whole process, and what it says its training took."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny.yaml"
        file.write_text(json.dumps(tiny(seeds=trials)), encoding="utf-8")
        words = command("run", str(file), "--runs", f"{folder}/runs", "--progress", "off", "--json")
        seconds, said = whole(words)
        summary = json.loads(said)
        assert summary["trained"] == trials, summary
        return seconds, summary["seconds"]
