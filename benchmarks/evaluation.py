"""Evaluation of trained networks on 10,000 images: a pack of 16, or one network at a time."""

from collections.abc import Mapping
from typing import Any

from benchmarks import grid, machine
from benchmarks.equivalence import differences
from benchmarks.grid import BASELINE, REFERENCE
from benchmarks.part import Options, Target, table
from benchmarks.race import Entry, race
from benchmarks.setting import EVALUATED, Cell

TITLE = "Evaluation"
CELLS = (Cell(32, 10), Cell(128, 10))
LAYOUTS = {
    BASELINE: [(2, 1, 8)],
    REFERENCE: [(2, 1, 8)],
    "JAX vmap": [(2, 1, 8), (1, 2, 16)],
    "torch.func vmap": [(2, 1, 8), (1, 2, 16)],
    "plain loop": [(2, 1, 1), (1, 2, 1)],
    "Lightning": [(2, 1, 1), (1, 2, 1)],
}
KINDS = {"cpu": "per second of CPU time", "wall": "per second of wall time, both cores busy"}


def measure(options: Options) -> dict[str, Any]:
    """Race all systems, after they have computed the same loss and accuracy."""
    systems, skipped = grid.present(LAYOUTS)
    with machine.recorded() as about:
        others = [name for name in systems if name != REFERENCE]
        same = differences([REFERENCE, *others], Cell(32, 10), 0, {}, "evaluate")
        cells = {}
        for cell in CELLS[: 1 if options.corners else None]:
            entries = [Entry(name, cell, *layout, "evaluate") for name in systems for layout in LAYOUTS[name]]
            cells[cell.name] = grid.summary(race(entries, options.rounds, drop_slow=True), systems)
            print(cell.name, cells[cell.name]["cpu"], flush=True)
    return {"about": about, "skipped": skipped, "equivalence": same, "cells": cells}


def text(record: Mapping[str, Any]) -> list[str]:
    """A table of images per second."""
    lines = [
        f"Loss and accuracy of trained networks on {EVALUATED:,} images in memory, in batches of 512 (JAX: 500). Thousands",
        "of images, and the ratio of the system's time to fathomlab's, within a round:",
        "",
    ]
    rows = []
    for cell_name, cell in record["cells"].items():
        for system in cell["cpu"]:
            row = [cell_name, system]
            for kind in KINDS:
                row += [f"{EVALUATED / cell[kind][system]:.0f}", f"{cell[f'{kind}_ratios'][system]:.2f}x"]
            rows.append(row)
    head = ["cell", "system"]
    for title in KINDS.values():
        head += [title, "ratio"]
    lines += table(head, rows)
    worst = max(record["equivalence"].values())
    lines += [f"Before, in float64, losses and accuracies differed by at most {worst:.1g} (relative).", ""]
    return [*lines, *(f"{line}." for line in record["skipped"])]


def targets(record: Mapping[str, Any]) -> list[Target]:
    """The smallest ratio to each peer."""
    cells = record["cells"]
    rows = []
    for name in next(iter(cells.values()))["cpu"]:
        if name in (BASELINE, REFERENCE):
            continue
        cpu, wall = (min(grid.ratios(cells, name, kind).values()) for kind in ("cpu", "wall"))
        rows.append(Target(f"evaluation against {name}, smallest of {len(cells)} cells", 1.0, cpu, wall=wall))
    return rows
