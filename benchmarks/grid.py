"""Experiment 1.1's grid on every system: BN MLPs of three widths and depths, 16 seeds per cell.

Each system uses both cores, as one process with two threads or as one process per core. Its better layout counts.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from statistics import median
from typing import Any

from benchmarks import machine, roofline
from benchmarks.equivalence import differences
from benchmarks.part import Options, Target, geometric_mean, table
from benchmarks.race import Course, Entry, in_rounds, race
from benchmarks.setting import CORNERS, GRID, Cell
from fathomlab.prepare.machine import has_compiler

TITLE = "Grid of experiment 1.1"
BASELINE, REFERENCE = "fathomlab", "fathomlab reference"
# System -> layouts: processes, threads per process, networks per process. A compiled system has one, because each is compiled
# anew. Packs of 4 fit better into the cache than packs of 8 where networks are wide.
LAYOUTS = {
    BASELINE: [(2, 1, 8)],
    REFERENCE: [(2, 1, 8)],
    "JAX vmap": [(2, 1, 8), (2, 1, 4), (1, 2, 16)],
    "torch.func vmap": [(2, 1, 8), (1, 2, 16)],
    "compiled torch.func vmap": [(2, 1, 8)],
    "plain loop": [(2, 1, 1), (1, 2, 1)],
    "compiled plain loop": [(2, 1, 1)],
    "Lightning": [(2, 1, 1), (1, 2, 1)],
    "starter-style loop": [(2, 1, 1), (1, 2, 1)],
}
PACKAGES = {"JAX vmap": "jax", "Lightning": "lightning", "starter-style loop": "PIL"}
COMPILED = ("compiled torch.func vmap", "compiled plain loop")
TARGETS = {"JAX vmap": 2.0, "plain loop": 4.0, "Lightning": 5.0, "starter-style loop": 14.0}
FIRST_STEP_SECONDS = 1.0
KINDS = {"cpu": "CPU time (ms) per step (batch 128) and network", "wall": "Wall time (ms), with both cores busy"}


def measure(options: Options) -> dict[str, Any]:
    """Measure every cell, after the systems have computed the same losses."""
    systems, skipped = present(LAYOUTS)
    for line in skipped:
        print(line, flush=True)
    with machine.recorded() as about:
        same = differences([REFERENCE, *(name for name in systems if name != REFERENCE)], Cell(32, 10), 20, {})
        layouts: dict[int, dict[str, list[tuple[int, int, int]]]] = {}  # by width
        cells = {}
        for cell in CORNERS if options.corners else GRID:
            layouts.setdefault(cell.width, {name: list(LAYOUTS[name]) for name in systems})
            cells[cell.name] = _cell(cell, layouts[cell.width], options.rounds)
            print(cell.name, cells[cell.name]["cpu"], flush=True)
    return {"about": about, "skipped": skipped, "equivalence": same, "cells": cells}


def present(layouts: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the systems that can run on this machine, and a line for each that cannot."""
    reasons = {
        system: f"{package} is not installed" for system, package in PACKAGES.items() if find_spec(package) is None
    }
    if not has_compiler():
        reasons |= dict.fromkeys(COMPILED, "no C++ compiler is installed")
    systems = [system for system in layouts if system not in reasons]
    return systems, [f"skipped: {name}, because {reasons[name]}" for name in layouts if name in reasons]


def summary(course: Course, systems: Sequence[str]) -> dict[str, Any]:
    """The better layout of each system, and the ratio of its time to fathomlab's, by CPU time and by wall time."""
    result: dict[str, Any] = {"rounds": course.plain()}
    for kind, rounds in (("cpu", course.cpu), ("wall", course.wall)):
        best = {system: best_layout(rounds, system) for system in systems}
        result |= {
            kind: {system: round(median(rounds[label]), 4) for system, label in best.items()},
            f"{kind}_layouts": best,
            f"{kind}_ratios": {name: in_rounds(rounds[label], rounds[best[BASELINE]]) for name, label in best.items()},
        }
    return result


def best_layout(rounds: Mapping[str, list[float]], system: str) -> str:
    """Return the label of a system with the smallest median."""
    return min((median(values), label) for label, values in rounds.items() if label.startswith(f"{system} ("))[1]


def ratios(cells: Mapping[str, Any], system: str, kind: str) -> dict[str, float]:
    """The ratio of a system's time to fathomlab's by cell; `kind` is `cpu` or `wall`."""
    return {name: cell[f"{kind}_ratios"][system] for name, cell in cells.items()}


def text(record: Mapping[str, Any]) -> list[str]:
    """Tables of CPU time, wall time, the roofline, and the first steps."""
    cells = record["cells"]
    systems = list(next(iter(cells.values()))["cpu"])
    lines = [
        "CPU time decides: it counts the threads and data loaders of all processes, and neither other processes nor a",
        "neighbor change it much. Wall time shows what idle cores would need. Ratios are formed within a round, each by the",
        f"system's layout with the least time of that kind. `{REFERENCE}` is the backend that runs every network.",
        "",
    ]
    for kind, title in KINDS.items():
        rows = [[name, *(f"{cell[kind][system]:.3g}" for system in systems)] for name, cell in cells.items()]
        by_system = [ratios(cells, system, kind).values() for system in systems]
        rows.append(["ratio to fathomlab, geometric mean", *(f"{geometric_mean(values):.2f}x" for values in by_system)])
        rows.append(["ratio to fathomlab, smallest", *(f"{min(values):.2f}x" for values in by_system)])
        lines += [f"{title}, median over the rounds:", "", *table(["cell", *systems], rows)]
    lines += roofline.text({name: cell["roofline"] for name, cell in cells.items()})
    lines += ["Seconds (wall time) from the loading of torch to the end of the first step, compilation included:", ""]
    rows = []
    for name, cell in cells.items():
        first = cell["rounds"]["first"]
        rows.append([name, *(f"{first[cell['cpu_layouts'][system]]['seconds']:.1f}" for system in systems)])
    lines += table(["cell", *systems], rows)
    worst = max(record["equivalence"].values())
    lines += [
        f"Before the timing, 20 float64 losses of every system differed from those of `{REFERENCE}` by at most",
        f"{worst:.1g} (relative).",
        "",
    ]
    return [*lines, *(f"{line}." for line in record["skipped"])]


def targets(record: Mapping[str, Any]) -> list[Target]:
    """Mean and smallest ratio to each peer, and fathomlab's first step."""
    cells = record["cells"]
    count = f"{len(cells)} cells"
    rows = []
    for name in next(iter(cells.values()))["cpu"]:
        if name in (BASELINE, REFERENCE):
            continue
        cpu, wall = (ratios(cells, name, kind) for kind in ("cpu", "wall"))
        if name in TARGETS:
            means = geometric_mean(cpu.values()), geometric_mean(wall.values())
            title = f"grid against {name}, geometric mean over {count}"
            rows.append(Target(title, TARGETS[name], means[0], wall=means[1]))
        slowest = min(cpu, key=cpu.__getitem__)
        title = f"grid against {name}, smallest of {count} ({slowest})"
        rows.append(Target(title, 1.0, cpu[slowest], wall=min(wall.values())))
    first = [cell["rounds"]["first"][cell["cpu_layouts"][BASELINE]] for cell in cells.values()]
    cpu_first, wall_first = (max(step[name] for step in first) for name in ("cpu_from_start", "from_start"))
    title = f"process start to the end of the first step, largest of {count}"
    return [*rows, Target(title, FIRST_STEP_SECONDS, cpu_first, " s", most=True, wall=wall_first)]


def _cell(cell: Cell, layouts: dict[str, list[tuple[int, int, int]]], rounds: int) -> dict[str, Any]:
    """Race all systems on one cell. Layouts that are too slow are removed from `layouts`, so that deeper cells skip them."""
    entries = {
        (system, layout): Entry(system, cell, *layout) for system, options in layouts.items() for layout in options
    }
    yardsticks = roofline.entries(cell, ("fp32 matmul", "memory stream"))
    course = race([*entries.values(), *yardsticks.values()], rounds, drop_slow=True)
    for (system, layout), entry in entries.items():
        if entry.label not in course.cpu:
            layouts[system].remove(layout)
    result = summary(course, list(layouts))
    times = course.cpu[result["cpu_layouts"][BASELINE]]
    return result | {"roofline": roofline.position(cell, times, yardsticks, course)}
