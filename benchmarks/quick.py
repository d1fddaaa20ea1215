"""Quick experiments from an empty store to the report: against plain loops, and `make run` against an earlier commit."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks import machine
from benchmarks.part import Options, Target, table
from benchmarks.race import ROOT, in_rounds
from fathomlab.api.results import open_store
from fathomlab.execute.worker_process import MEMORY

TITLE = "Quick experiments"
EXPERIMENTS = ("1_1", "1_2", "1_3", "2_2")
COMPARED = ("1_1", "1_2")
MAX_ROUNDS = 2
PROCESSES = 2
CLAIMS_FAILED = 1  # the status of a run whose claims are not all supported, and of an exception
TRACEBACK = "Traceback (most recent call last)"
PLAIN_SETTINGS = {**MEMORY, "OMP_NUM_THREADS": "1"}  # those of workers
NOW, SAME_FILES = "make run", "make run, files of the commit"


@dataclass(frozen=True)
class Spent:
    """Wall time (s) of commands, and the CPU time (s) of their processes with all that these have started."""

    wall: float
    cpu: float
    printed: tuple[str, ...] = ()

    def __add__(self, other: "Spent") -> "Spent":
        """One after the other."""
        return Spent(self.wall + other.wall, self.cpu + other.cpu, self.printed + other.printed)


def measure(options: Options) -> dict[str, Any]:
    """Run the four quick experiments, the plain loops, and the four of another commit, interleaved."""
    costs: dict[str, list[Spent]] = {}
    with machine.recorded() as about, tempfile.TemporaryDirectory() as folder:
        clone = cloned(options.against, Path(folder) / "clone") if options.against else None
        for number in range(options.at_most(MAX_ROUNDS)):
            for name, spent in _round(Path(folder) / str(number), clone).items():
                costs.setdefault(name, []).append(spent)
                print(f"{name}: {spent.wall:.1f} s, {spent.cpu:.1f} s of CPU time", flush=True)
        accuracies = {name: _accuracies(name, Path(folder) / "0" / "now", costs) for name in COMPARED}
    return {"about": about, "against": options.against, "accuracies": accuracies} | summary(costs)


def summary(costs: Mapping[str, Sequence[Spent]]) -> dict[str, Any]:
    """Seconds by round and their medians, by what was run."""
    result: dict[str, Any] = {"rounds": {}}
    for kind in ("cpu", "wall"):
        rounds = {name: [getattr(spent, kind) for spent in values] for name, values in costs.items()}
        result["rounds"][kind] = rounds
        result[kind] = {name: median(values) for name, values in rounds.items()}
    return result


def text(record: Mapping[str, Any]) -> list[str]:
    """A table of what was run, and the accuracies that were reached."""
    lines = [
        "Seconds of whole commands with an empty store: `fathomlab run NAME --quick` with its report, and a script that trains",
        "the same networks for the same epochs on the same images in plain loops (two processes with one thread), evaluates",
        "the same images, and reports nothing. The first round builds the native library if this machine does not have it.",
        "`make run` is the four quick experiments; that of an earlier commit also writes all reports again.",
        "",
    ]
    names = record["cpu"]
    rows = [[name, *(f"{record[kind][name]:.1f}" for kind in ("cpu", "wall"))] for name in names]
    lines += table(["command", "CPU time", "wall time"], rows)
    for experiment, (ours, plain) in record["accuracies"].items():
        lines.append(
            f"Mean test accuracy over all networks of {experiment}: {100 * ours:.1f}%, in plain loops {100 * plain:.1f}%."
        )
    return [*lines, ""]


def targets(record: Mapping[str, Any]) -> list[Target]:
    """At least as fast as plain loops; half the time of the other commit, if there is one."""
    rows = [_target(record, f"quick {name} against plain loops", 1.0, name) for name in COMPARED]
    if record["against"]:
        rows.append(_target(record, f"make run against commit {record['against']}", 2.0, NOW))
        if SAME_FILES in record["cpu"]:
            title = f"make run with the files of commit {record['against']} against that commit"
            rows.append(_target(record, title, 2.0, SAME_FILES))
    return rows


def cloned(commit: str, folder: Path) -> Path:
    """Clone a commit of this repository, whose package is then imported in its folder.

    Packages that only the commit needs can be added with PYTHONPATH.

    Raises:
        SystemExit: If there is no such commit, or another package is imported.
    """
    _done(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(folder)], ROOT)
    _done(["git", "checkout", "--quiet", commit], folder)
    path = _done([sys.executable, "-c", "import fathomlab; print(fathomlab.__file__)"], folder).strip()
    if not Path(path).is_relative_to(folder):
        raise SystemExit(f"--against {commit}: {path} is imported instead of the package of the commit")
    return folder


def spend(commands: Sequence[Sequence[str]], folder: Path, settings: Mapping[str, str] | None = None) -> Spent:
    """Run commands at the same time in a folder, with its package.

    Raises:
        SystemExit: If one fails. Claims that are not supported are no failure.
    """
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [
        subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**_env(folder), **(settings or {})},
        )
        for words in commands
    ]
    outputs = [process.communicate() for process in running]
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    for process, words, (_, errors) in zip(running, commands, outputs, strict=True):
        if process.returncode not in (0, CLAIMS_FAILED) or TRACEBACK in errors:
            raise SystemExit(f"{' '.join(words)} ended with status {process.returncode}:\n{errors[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(wall, cpu, tuple(out for out, _ in outputs))


def _round(folder: Path, clone: Path | None) -> dict[str, Spent]:
    """One round of everything."""
    costs = {}
    total = Spent(0, 0)
    for name in EXPERIMENTS:
        spent = spend([_run(name, folder / "now")], ROOT)
        total += spent
        if name in COMPARED:
            costs[name] = spent
            shares = [[name, str(number), str(PROCESSES)] for number in range(PROCESSES)]
            script = [sys.executable, "-m", "benchmarks.peers.plain_quick"]
            costs[f"{name} in plain loops"] = spend([[*script, *share] for share in shares], ROOT, PLAIN_SETTINGS)
    costs[NOW] = total
    if clone is not None:
        costs[f"{NOW} of the commit"] = _all(EXPERIMENTS, folder / "then", clone)
        if "/fathomlab report" in (clone / "Makefile").read_text(encoding="utf-8"):
            costs[f"{NOW} of the commit"] += spend([_report(folder / "then")], clone)
        files = [str(clone / "configs" / f"config_exp{name}.yaml") for name in EXPERIMENTS]
        try:
            costs[SAME_FILES] = _all(files, folder / "same", ROOT)
        except SystemExit as stopped:  # files may have changed more than this version can read
            print(f"{SAME_FILES}: not measured: {stopped}", flush=True)
    return costs


def _all(experiments: Sequence[str], runs: Path, folder: Path) -> Spent:
    total = Spent(0, 0)
    for name in experiments:
        total += spend([_run(name, runs)], folder)
    return total


def _run(experiment: str, runs: Path) -> list[str]:
    return [sys.executable, "-m", "fathomlab", "run", experiment, "--quick", "--runs", str(runs), "--progress", "off"]


def _report(runs: Path) -> list[str]:
    return [sys.executable, "-m", "fathomlab", "report", "--runs", str(runs)]


def _env(folder: Path) -> dict[str, str]:
    paths = [str(folder / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _done(words: Sequence[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, env=_env(folder), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _accuracies(name: str, runs: Path, costs: Mapping[str, Sequence[Spent]]) -> tuple[float, float]:
    """Mean test accuracy over all networks in the first round: of the experiment, and of the plain loops."""
    ours = open_store(runs).table(name)["test/accuracy"]
    printed = costs[f"{name} in plain loops"][0].printed
    plain = [number for share in printed for numbers in json.loads(share).values() for number in numbers]
    if len(ours) != len(plain):
        raise SystemExit(f"{name}: {len(ours)} trials against {len(plain)} networks in plain loops")
    return fmean(ours), fmean(plain)


def _target(record: Mapping[str, Any], title: str, wanted: float, name: str) -> Target:
    other = f"{NOW} of the commit" if name in (NOW, SAME_FILES) else f"{name} in plain loops"
    cpu, wall = (in_rounds(record["rounds"][kind][other], record["rounds"][kind][name]) for kind in ("cpu", "wall"))
    return Target(title, wanted, cpu, wall=wall)
