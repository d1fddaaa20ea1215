"""Systems side by side: processes that wait for a line, and rounds in which each has its turn."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

from benchmarks.setting import Setting
from fathomlab.execute.worker_process import MEMORY

ROOT = Path(__file__).parents[1]
SECONDS_PER_ROUND = 0.8
MAX_STEPS = 1000
FIRST_STEPS = {"train": 3, "evaluate": 1}
SLOW_LAYOUT = 1.5


@dataclass(frozen=True)
class Entry:
    """One system in one layout: how many processes, threads per process, and networks per process."""

    system: str
    setting: Setting
    processes: int
    threads: int
    replicas: int = 1
    task: str = "train"

    @property
    def label(self) -> str:
        """The key of the record."""
        return f"{self.system} ({self.processes} x {self.threads} threads, {self.replicas} networks each)"

    @property
    def networks(self) -> int:
        """Networks of all processes."""
        return self.processes * self.replicas


@dataclass(frozen=True)
class Cost:
    """Time (ms) per step and network.

    Attributes:
        wall: Of the slowest process, over the networks of all processes: with every core busy.
        cpu: CPU time of all threads of all processes.
    """

    wall: float
    cpu: float


@dataclass
class Entrant:
    """An entry whose processes wait for a line."""

    entry: Entry
    processes: list["subprocess.Popen[str]"]
    steps: int
    first: dict[str, float]

    def round(self) -> Cost:
        """Run some steps in every process at the same time."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{self.steps}\n")
            process.stdin.flush()
        times = [_answer(self.entry, process) for process in self.processes]
        slowest = max(time["wall"] / time["steps"] for time in times)
        total = sum(time["cpu"] / time["steps"] for time in times)
        self.steps = max(1, min(MAX_STEPS, round(SECONDS_PER_ROUND / slowest)))
        return Cost(1e3 * slowest / self.entry.networks, 1e3 * total / self.entry.networks)

    def stop(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Course:
    """Results of a race, by the entry's label.

    Attributes:
        wall: `Cost.wall` of each round.
        cpu: `Cost.cpu` of each round.
        first: `seconds` of the first step (torch is loaded, the system is not), `from_start` of the process, and CPU time,
            `cpu_from_start`.
    """

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]
    first: dict[str, dict[str, float]]

    def plain(self) -> dict[str, Any]:
        """Return what the record stores."""
        return {"wall": self.wall, "cpu": self.cpu, "first": self.first}


def race(entries: Sequence[Entry], rounds: int, drop_slow: bool = False) -> Course:
    """Time every entry once per round, after two rounds that are not counted.

    Args:
        entries: Systems in their layouts.
        rounds: Rounds that are counted.
        drop_slow: Whether slow layouts of a system leave after the rounds that are not counted.

    Raises:
        SystemExit: If a process ends.
    """
    entrants: list[Entrant] = []
    wall, cpu = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile("w+") as errors:
        try:
            for entry in entries:
                entrants.append(_start(entry, cache, errors))
            for entrant in entrants:
                entrant.round()
            warm = [(entrant, entrant.round()) for entrant in entrants]
            racing = contenders(warm) if drop_slow else entrants
            for _ in range(rounds):
                for entrant in racing:
                    cost = entrant.round()
                    wall[entrant.entry.label].append(cost.wall)
                    cpu[entrant.entry.label].append(cost.cpu)
        except SystemExit as ended:
            errors.seek(0)
            raise SystemExit(f"{ended}:\n{errors.read()[-2000:]}") from None
        finally:
            for entrant in entrants:
                entrant.stop()
    return Course(wall, cpu, {entrant.entry.label: entrant.first for entrant in racing})


def contenders(costs: Sequence[tuple[Entrant, Cost]]) -> list[Entrant]:
    """Stop the layouts that are more than 1.5 times slower than the best of their system, by wall and by CPU time."""
    best_wall, best_cpu = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for entrant, cost in costs:
        best_wall[entrant.entry.system].append(cost.wall)
        best_cpu[entrant.entry.system].append(cost.cpu)
    racing = []
    for entrant, cost in costs:
        system = entrant.entry.system
        if min(cost.wall / min(best_wall[system]), cost.cpu / min(best_cpu[system])) <= SLOW_LAYOUT:
            racing.append(entrant)
        else:
            entrant.stop()
    return racing


def in_subprocess(function: str, *arguments: Any) -> Any:
    """Return what `module:function` returns (plain data) in a process with one thread and the allocator of the workers.

    Raises:
        SystemExit: If it fails; the message is the end of its standard error.
    """
    words = [sys.executable, "-m", "benchmarks.in_subprocess", function, json.dumps(arguments)]
    settings = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **MEMORY}
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **settings})
    if done.returncode:
        raise SystemExit(f"{function}{arguments} did not run:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def in_rounds(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Median over the rounds of the ratio within each."""
    return median(a / b for a, b in zip(theirs, ours, strict=True))


def _start(entry: Entry, cache: str, errors: IO[str]) -> Entrant:
    """Start the processes of an entry, and wait until each has run its first step. Compilers start with an empty cache."""
    started, processes = time.perf_counter(), []
    for number in range(entry.processes):
        sizes = [str(size) for size in (entry.replicas, entry.threads, number)]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", entry.system, entry.task, *sizes, *entry.setting.words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**MEMORY, **os.environ, "TORCHINDUCTOR_CACHE_DIR": cache},
            )
        )
    entrant = Entrant(entry, processes, FIRST_STEPS[entry.task], {})
    try:
        answers = [_answer(entry, process) for process in processes]
    except SystemExit:
        entrant.stop()
        raise
    first = {name: max(answer[name] for answer in answers) for name in answers[0]}
    entrant.first = first | {"from_start": time.perf_counter() - started}
    return entrant


def _answer(entry: Entry, process: "subprocess.Popen[str]") -> dict[str, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{entry.label} on {entry.setting.name} ended with status {process.wait()}")
    return json.loads(line)
