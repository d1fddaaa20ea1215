"""Experiment 1.1's grid on every system, side by side in one run.

    make bench                              # all nine cells, five rounds
    python -m benchmarks --corners --rounds 3 --json out.json --markdown out.md

Each system gets both cores, once as one process and once as one process a core; its better result counts. Rounds are
interleaved; ratios are formed within a round. A system whose losses differ from fathomlab's in float64 is not timed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.setting import CORNERS, GRID, Cell

SECONDS_A_ROUND = 1.5
# System -> layouts: (processes, threads a process, replicas a process as a share of the seeds; 0 means one network).
LAYOUTS = {
    "fathomlab": [(2, 1, 0.5)],
    "fathomlab compiled": [(2, 1, 0.5)],
    "JAX vmap": [(1, 2, 1.0), (2, 1, 0.5)],
    "plain loop": [(2, 1, 0.0), (1, 2, 0.0)],
    "Lightning": [(2, 1, 0.0), (1, 2, 0.0)],
    "seed-style loop": [(1, 2, 0.0), (2, 1, 0.0)],
}
TARGETS = {"Lightning": 10.0, "seed-style loop": 25.0, "JAX vmap": 1.5, "plain loop": 2.5}


@dataclass
class Entrant:
    """One system in one layout on one cell, its processes waiting for the word."""

    system: str
    layout: tuple[int, int, float]
    replicas: int
    processes: list["subprocess.Popen[str]"]
    first_seconds: float
    steps: int = 8

    def round(self) -> float:
        """Train some steps in every process at once; milliseconds a step and network."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{self.steps}\n")
            process.stdin.flush()
        slowest = max(_answer(process)["seconds"] for process in self.processes)
        cost = 1e3 * slowest / self.steps / self.replicas / len(self.processes)
        self.steps = max(4, min(60, round(self.steps * SECONDS_A_ROUND / slowest)))
        return cost

    def end(self) -> None:
        """Stop the processes."""
        for process in self.processes:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corners", action="store_true", help="four cells instead of nine")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--systems", nargs="*", default=list(LAYOUTS))
    parser.add_argument("--json", type=Path, default=Path("docs/results/bench.json"))
    parser.add_argument("--markdown", type=Path, default=Path("docs/results/bench.md"))
    asked = parser.parse_args()
    record: dict[str, Any] = {"about": about(), "equivalence": equivalence(asked.systems), "cells": {}}
    for cell in CORNERS if asked.corners else GRID:
        record["cells"][cell.name] = measure(cell, asked.systems, asked.rounds)
        print(cell.name, json.dumps(record["cells"][cell.name]["milliseconds"]), flush=True)
    record["ratios"] = ratios(record["cells"])
    text = markdown(record)
    print(text)
    for path, content in ((asked.json, json.dumps(record, indent=1) + "\n"), (asked.markdown, text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def equivalence(systems: Sequence[str]) -> dict[str, float]:
    """Largest relative difference of 20 float64 losses from fathomlab's, same initial values and order.

    Raises:
        SystemExit: A system does not train the same network.
    """
    code = (
        "import json,sys,torch,importlib;from benchmarks.setting import Cell;from benchmarks.worker import SYSTEMS;"
        "order=torch.arange(20*128).view(20,128)*17%48000;"
        "m=importlib.import_module(SYSTEMS[sys.argv[1]][0]);"
        "torch.set_num_threads(1);"
        "print('CURVE'+json.dumps(m.curve(Cell(32,10),1,order)))"
    )
    curves = {}
    for system in dict.fromkeys(["fathomlab", *systems]):
        if system == "fathomlab compiled":
            continue
        done = subprocess.run([sys.executable, "-c", code, system], capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("CURVE")]
        if not lines:
            raise SystemExit(f"{system} did not run:\n{done.stderr[-2000:]}")
        curves[system] = json.loads(lines[0].removeprefix("CURVE"))
    own = curves["fathomlab"]
    found = {name: max(abs(a - b) / abs(b) for a, b in zip(curve, own, strict=True)) for name, curve in curves.items()}
    print("largest relative difference of 20 float64 losses:", json.dumps(found), flush=True)
    wrong = [name for name, difference in found.items() if difference > 1e-10]
    if wrong:
        raise SystemExit(f"not the same training: {', '.join(wrong)}; nothing is timed")
    return found


def measure(cell: Cell, systems: Sequence[str], rounds: int) -> dict[str, Any]:
    """Milliseconds a step and network of every system on one cell, by round."""
    entrants = [start(system, layout, cell) for system in systems for layout in LAYOUTS[system]]
    for entrant in entrants:
        entrant.round()
    table: dict[str, list[float]] = {}
    try:
        for _ in range(rounds):
            for entrant in entrants:
                table.setdefault(_label(entrant), []).append(entrant.round())
        peak = _peak()
    finally:
        for entrant in entrants:
            entrant.end()
    best = {
        system: min((median(values), label) for label, values in table.items() if label.startswith(f"{system} ("))
        for system in systems
    }
    own = min(best[system] for system in systems if system.startswith("fathomlab"))
    return {
        "rounds": table,
        "milliseconds": {system: round(value, 4) for system, (value, _) in best.items()},
        "layout": {system: label for system, (_, label) in best.items()},
        "first_seconds": {_label(entrant): round(entrant.first_seconds, 2) for entrant in entrants},
        "ratios": {system: median(_pairs(table[label], table[own[1]])) for system, (_, label) in best.items()},
        "share_of_peak": cell.step_flops / (own[0] / 1e3) / 1e9 / peak,
        "peak_gflops": peak,
    }


def start(system: str, layout: tuple[int, int, float], cell: Cell) -> Entrant:
    """Start the processes of a system and wait until they are ready."""
    processes, threads, share = layout
    replicas = max(1, round(cell.seeds * share))
    words = [
        sys.executable,
        "-m",
        "benchmarks.worker",
        system,
        str(cell.width),
        str(cell.depth),
        str(replicas),
        str(threads),
    ]
    made = [
        subprocess.Popen(
            [*words, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**30), **os.environ},
        )
        for number in range(processes)
    ]
    first = max(_answer(process)["first_seconds"] for process in made)
    return Entrant(system, layout, replicas, made, first)


def ratios(cells: dict[str, Any]) -> dict[str, float]:
    """Geometric mean over the cells of a system's time over fathomlab's."""
    names = next(iter(cells.values()))["ratios"]
    return {name: exp(sum(log(cell["ratios"][name]) for cell in cells.values()) / len(cells)) for name in names}


def markdown(record: dict[str, Any]) -> str:
    """The record as a table for people, with targets met or missed."""
    names = list(record["ratios"])
    lines = [f"Measured on {record['about']['date']}: {record['about']['cpu']}, {record['about']['cores']} cores; "]
    lines[0] += ", ".join(f"{name} {number}" for name, number in record["about"]["versions"].items()) + ".\n"
    lines += ["Milliseconds a step (batch 128) and network, both cores busy, median over the rounds:\n"]
    lines += [f"| cell | {' | '.join(names)} | share of the fp32 matmul peak |", "|---" * (len(names) + 2) + "|"]
    for name, cell in record["cells"].items():
        row = " | ".join(f"{cell['milliseconds'][system]:.3g}" for system in names)
        lines.append(f"| {name} | {row} | {100 * cell['share_of_peak']:.0f} % |")
    means = " | ".join(f"{record['ratios'][name]:.2f}x" for name in names)
    lines += [f"| geometric mean of the ratio to fathomlab | {means} | |", ""]
    for name, target in TARGETS.items():
        if name in record["ratios"]:
            reached = record["ratios"][name]
            lines.append(
                f"- {name}: target {target:g}x, measured {reached:.2f}x: {'met' if reached >= target else 'missed'}"
            )
    return "\n".join(lines) + "\n"


def about() -> dict[str, Any]:
    """Hardware and versions."""
    from fathomlab.run.provenance import hardware

    names = ("torch", "lightning", "jax", "numpy")
    found = {"python": platform.python_version()} | {name: version(name) for name in names}
    return {"date": date.today().isoformat(), **hardware(), "versions": found, "load": os.getloadavg()}


def _peak() -> float:
    """GFLOP/s of a 2048^3 fp32 product in one thread on each of two cores at once."""
    code = (
        "import torch,time;torch.set_num_threads(1);a=torch.randn(2048,2048);a@a;t=[]\n"
        "for _ in range(3):\n s=time.perf_counter();a@a;t.append(time.perf_counter()-s)\n"
        "print(2*2048**3/1e9/sorted(t)[1])"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(float(process.communicate()[0]) for process in both)


def _pairs(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(theirs, ours, strict=True)]


def _label(entrant: Entrant) -> str:
    processes, threads, _ = entrant.layout
    return f"{entrant.system} ({processes} x {threads} threads, {entrant.replicas} networks each)"


def _answer(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a process of the benchmark ended with status {process.wait()}")
    return json.loads(line)


if __name__ == "__main__":
    main()
