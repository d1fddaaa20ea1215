"""Experiment 1.1's grid on every system: BN MLPs of three widths and depths, 16 seeds a cell.

Each system gets both cores, once as one process and once as one process a core; its better result counts.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import exp, log
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.equivalence import differences
from benchmarks.part import Asked, Target, table
from benchmarks.peers.matmul import FLOPS
from benchmarks.race import Entry, in_rounds, race
from benchmarks.setting import CORNERS, GRID, Cell

TITLE = "Grid of experiment 1.1"
# System -> layouts: (processes, threads a process, replicas a process as a share of the seeds; 0 means one network).
LAYOUTS = {
    "fathomlab": [(2, 1, 0.5)],
    "fathomlab native": [(2, 1, 0.5)],
    "JAX vmap": [(1, 2, 1.0), (2, 1, 0.5)],
    "plain loop": [(2, 1, 0.0), (1, 2, 0.0)],
    "Lightning": [(2, 1, 0.0), (1, 2, 0.0)],
    "starter-style loop": [(1, 2, 0.0), (2, 1, 0.0)],
}
NEEDS = {"JAX vmap": "jax", "Lightning": "lightning", "starter-style loop": "PIL"}
TARGETS = {"Lightning": 10.0, "starter-style loop": 25.0, "JAX vmap": 1.5, "plain loop": 2.5}


def measure(asked: Asked) -> dict[str, Any]:
    """Every cell, after the systems have been found to train the same network."""
    systems, skipped = present()
    for line in skipped:
        print(line, flush=True)
    with machine.recorded() as about:
        same = differences([name for name in systems if name != "fathomlab native"], Cell(32, 10), 20, {})
        cells = {}
        for cell in CORNERS if asked.corners else GRID:
            cells[cell.name] = _cell(cell, systems, asked.rounds)
            print(cell.name, cells[cell.name]["milliseconds"], flush=True)
    return {"about": about, "skipped": skipped, "equivalence": same, "cells": cells, "ratios": ratios(cells)}


def present() -> tuple[list[str], list[str]]:
    """The systems that can run here, and a line for each that cannot."""
    missing = {system: package for system, package in NEEDS.items() if find_spec(package) is None}
    lines = [f"skipped: {system}, since {package} is not installed here" for system, package in missing.items()]
    return [system for system in LAYOUTS if system not in missing], lines


def ratios(cells: Mapping[str, Any]) -> dict[str, float]:
    """Geometric mean over the cells of a system's time over fathomlab's."""
    names = next(iter(cells.values()))["ratios"]
    return {name: exp(sum(log(cell["ratios"][name]) for cell in cells.values()) / len(cells)) for name in names}


def summary(
    rounds: Mapping[str, list[float]], peaks: Sequence[float], systems: Sequence[str], flops: float
) -> dict[str, Any]:
    """The better layout of each system, and its ratio to the better of fathomlab's.

    Args:
        rounds: Milliseconds per step and network, by label and round.
        peaks: GFLOP/s of the matmul in each round, all processes together.
        systems: Names; their labels begin with them.
        flops: Of a step of one network.
    """
    best = {
        system: min((median(values), label) for label, values in rounds.items() if label.startswith(f"{system} ("))
        for system in systems
    }
    _, own = min(best[system] for system in systems if system.startswith("fathomlab"))
    rates = [flops / (cost / 1e3) / 1e9 for cost in rounds[own]]
    return {
        "rounds": dict(rounds),
        "milliseconds": {system: round(value, 4) for system, (value, _) in best.items()},
        "layout": {system: label for system, (_, label) in best.items()},
        "ratios": {system: in_rounds(rounds[label], rounds[own]) for system, (_, label) in best.items()},
        "share_of_peak": in_rounds(rates, peaks),
        "peak_gflops": median(peaks),
    }


def text(found: Mapping[str, Any]) -> list[str]:
    """The table of all cells, and that of the first steps."""
    names = list(found["ratios"])
    lines = ["Milliseconds per step (batch 128) and network, both cores busy, median over the rounds:", ""]
    rows = [
        [name, *(f"{cell['milliseconds'][system]:.3g}" for system in names), f"{100 * cell['share_of_peak']:.0f}%"]
        for name, cell in found["cells"].items()
    ]
    rows.append(["geometric mean of the ratio to fathomlab", *(f"{found['ratios'][name]:.2f}x" for name in names), ""])
    lines += table(["cell", *names, "share of the fp32 matmul peak"], rows)
    lines += [
        "Seconds from the start of a process, torch loaded, to the end of its first step (compiling included):",
        "",
    ]
    firsts = [
        [name, *(f"{cell['first_seconds'][cell['layout'][system]]:.1f}" for system in names)]
        for name, cell in found["cells"].items()
    ]
    lines += table(["cell", *names], firsts)
    worst = max(found["equivalence"].values())
    lines += [
        f"Before: 20 float64 losses of every system differ from fathomlab's by at most {worst:.1g} (relative).",
        "",
    ]
    return [*lines, *(f"{line}." for line in found.get("skipped", []))]


def targets(found: Mapping[str, Any]) -> list[Target]:
    """Ratios to the peers that were measured."""
    cells = f"{len(found['cells'])} cells"
    return [
        Target(f"grid against {name}, geometric mean over {cells}", wanted, found["ratios"][name])
        for name, wanted in TARGETS.items()
        if name in found["ratios"]
    ]


def _cell(cell: Cell, systems: Sequence[str], rounds: int) -> dict[str, Any]:
    """Milliseconds per step and network of every system on one cell, by round."""
    entries = [
        Entry(system, cell, processes, threads, max(1, round(cell.seeds * share)))
        for system in systems
        for processes, threads, share in LAYOUTS[system]
    ]
    yardstick = Entry("fp32 matmul", cell, 2, 1)
    course = race([*entries, yardstick], rounds)
    costs = {
        entry.label: [cost / entry.replicas / entry.processes for cost in course.rounds[entry.label]]
        for entry in entries
    }
    peaks = [yardstick.processes * FLOPS / (cost / 1e3) / 1e9 for cost in course.rounds[yardstick.label]]
    return summary(costs, peaks, systems, cell.step_flops) | {"first_seconds": course.first_seconds}
