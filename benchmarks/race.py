"""Systems side by side: processes that wait for the word, and rounds in which each has its turn."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.setting import Setting

ROOT = Path(__file__).parents[1]
SECONDS_A_ROUND = 1.5
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**30)}


@dataclass(frozen=True)
class Entry:
    """One system in one layout: how many processes, threads a process, and networks a process."""

    system: str
    setting: Setting
    processes: int
    threads: int
    replicas: int = 1

    @property
    def label(self) -> str:
        """As the record names it."""
        return f"{self.system} ({self.processes} x {self.threads} threads, {self.replicas} networks each)"


@dataclass
class Entrant:
    """An entry whose processes wait for the word."""

    entry: Entry
    processes: list["subprocess.Popen[str]"]
    first_seconds: float = 0.0
    steps: int = 8

    def round(self) -> float:
        """Train some steps in every process at once; milliseconds per step of the slowest."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{self.steps}\n")
            process.stdin.flush()
        slowest = max(_answer(self.entry, process)["seconds"] for process in self.processes)
        cost = 1e3 * slowest / self.steps
        self.steps = max(4, min(60, round(self.steps * SECONDS_A_ROUND / slowest)))
        return cost


@dataclass(frozen=True)
class Course:
    """What a race found.

    Attributes:
        rounds: Milliseconds per step of each process, by the entry's label and round.
        first_seconds: From the worker's start, torch loaded, to the end of its first step, by label.
    """

    rounds: dict[str, list[float]]
    first_seconds: dict[str, float]


def race(entries: Sequence[Entry], rounds: int) -> Course:
    """Time every entry once a round, after one round that is not counted.

    Raises:
        SystemExit: A process ended.
    """
    entrants: list[Entrant] = []
    table: dict[str, list[float]] = {entry.label: [] for entry in entries}
    try:
        for entry in entries:
            entrants.append(Entrant(entry, []))
            _start(entrants[-1])
        for entrant in entrants:
            entrant.round()
        for _ in range(rounds):
            for entrant in entrants:
                table[entrant.entry.label].append(entrant.round())
    finally:
        for entrant in entrants:
            for process in entrant.processes:
                process.kill()
                process.wait()
    return Course(table, {entrant.entry.label: round(entrant.first_seconds, 2) for entrant in entrants})


def apart(function: str, *arguments: Any) -> Any:
    """What `module:function` returns (plain data) in a process of its own, with one thread and the workers' allocator.

    Raises:
        SystemExit: It raised; the message is the end of what it said.
    """
    words = [sys.executable, "-m", "benchmarks.apart", function, json.dumps(arguments)]
    settings = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **KEPT_MEMORY}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **settings})
    if done.returncode:
        raise SystemExit(f"{function}{arguments} did not run:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def in_rounds(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Median over the rounds of the ratio within each."""
    return median(a / b for a, b in zip(theirs, ours, strict=True))


def _start(entrant: Entrant) -> None:
    """Start the processes of an entry and wait until they are ready."""
    entry = entrant.entry
    for number in range(entry.processes):
        sizes = [str(size) for size in (entry.replicas, entry.threads, number)]
        entrant.processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", entry.system, *sizes, *entry.setting.words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
                env={**KEPT_MEMORY, **os.environ},
            )
        )
    entrant.first_seconds = max(_answer(entry, process)["first_seconds"] for process in entrant.processes)


def _answer(entry: Entry, process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{entry.label} on {entry.setting.name} ended with status {process.wait()}")
    return json.loads(line)
