"""How long a command takes before anything is trained: help, plan, a finished experiment asked for again, and the first step."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.part import Options, Target, table
from benchmarks.race import ROOT, in_subprocess

TITLE = "Start"
PLANNED = 10_000
FINISHED = 1_000
FIRST = "first step of fathomlab run 1_2 --quick"
BUILD = f"{FIRST}, native library built"
CPU = ", CPU time of all processes"
TORCH = (
    "import sys; from fathomlab.cli import app; app({words!r}, standalone_mode=False); sys.exit('torch' in sys.modules)"
)
LIMITS = {
    "fathomlab --help": 0.5,
    "fathomlab plan 1_1": 0.5,
    f"planning {PLANNED:,} trials, in process": 2.0,
    f"planning {PLANNED:,} trials, the command": 2.0,
    f"running {FINISHED:,} finished trials again, in process": 2.0,
    f"running {FINISHED:,} finished trials again, the command, report included": 2.0,
    f"report of {FINISHED:,} trials, the command": 10.0,
    FIRST: 3.0,
    BUILD: 5.0,
}


def measure(options: Options) -> dict[str, Any]:
    """Seconds of each command by round, and whether help and plan have loaded torch."""
    with machine.recorded() as about, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        many, finished, runs = root / "many.yaml", root / "finished.yaml", root / "runs"
        shape = {"layers_dim": [8, 16, 32, 64, 128], "hidden_layers_num": [1, 2]}
        many.write_text(json.dumps(tiny(PLANNED // 10, shape)), encoding="utf-8")
        finished.write_text(json.dumps(tiny(FINISHED // 10, shape)), encoding="utf-8")
        in_subprocess("benchmarks.finished:fill", str(finished), str(runs))
        empty = ["--runs", str(root / "empty")]
        timed = {
            "python, nothing else": [sys.executable, "-c", "pass"],
            "fathomlab --help": command("--help"),
            "fathomlab plan 1_1": command("plan", "1_1", *empty),
            f"planning {PLANNED:,} trials, the command": command("plan", str(many), *empty),
            f"running {FINISHED:,} finished trials again, the command, report included": command(
                "run", str(finished), "--runs", str(runs), "--progress", "off"
            ),
            f"report of {FINISHED:,} trials, the command": command("report", "--runs", str(runs)),
        }
        inside = {
            f"planning {PLANNED:,} trials, in process": ("benchmarks.finished:plan", str(many), empty[1]),
            f"running {FINISHED:,} finished trials again, in process": (
                "benchmarks.finished:again",
                str(finished),
                str(runs),
            ),
        }
        steps: dict[str, tuple[str, ...]] = {FIRST: (), BUILD: ("XDG_CACHE_HOME",)}
        first_step(root / "warm", {})  # builds the library, and reads the disk
        names = (*timed, *inside, *(f"{name}{kind}" for name in steps for kind in ("", CPU)))
        rows: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name, words in timed.items():
                rows[name].append(whole(words)[0])
            for name, words in inside.items():
                rows[name].append(in_subprocess(*words))
            for name, variables in steps.items():
                with tempfile.TemporaryDirectory(dir=root) as empty_folder:
                    wall, cpu = first_step(Path(empty_folder) / "runs", dict.fromkeys(variables, empty_folder))
                rows[name].append(wall)
                rows[f"{name}{CPU}"].append(cpu)
        torch = {" ".join(words): _loads_torch(words) for words in (["--help"], ["plan", "1_1", *empty])}
    seconds = {name: median(times) for name, times in rows.items()}
    return {"about": about, "rounds": rows, "seconds": seconds, "torch": list(torch.values())}


def text(record: Mapping[str, Any]) -> list[str]:
    """A table of all of them."""
    lines = ["Seconds of whole processes (or of the work alone, in process), median over the rounds:", ""]
    lines += table(["what", "s"], [[name, f"{seconds:.2f}"] for name, seconds in record["seconds"].items()])
    loaded = "load torch" if any(record["torch"]) else "do not load torch"
    return [*lines, f"`fathomlab --help` and `fathomlab plan` {loaded}.", ""]


def targets(record: Mapping[str, Any]) -> list[Target]:
    """Limits in seconds, and no torch."""
    made = [Target(name, most, record["seconds"][name], " s", most=True) for name, most in LIMITS.items()]
    return [*made, Target("help and plan that load torch", 0, sum(record["torch"]), "", most=True)]


def command(*words: str) -> list[str]:
    """The command line `fathomlab WORDS`."""
    return [sys.executable, "-m", "fathomlab", *words]


def whole(words: Sequence[str]) -> tuple[float, str]:
    """Seconds of a process from its start to its end, and what it printed.

    Raises:
        SystemExit: It failed.
    """
    started = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def first_step(runs: Path, variables: Mapping[str, str]) -> tuple[float, float]:
    """Seconds from the command to the gradients after the first step, and the CPU time of its processes until then.

    Raises:
        SystemExit: If the run ends before.
    """
    words = command("run", "1_2", "--quick", "--runs", str(runs), "--log", "none", "--progress", "off")
    started = time.perf_counter()
    process = subprocess.Popen(words, cwd=ROOT, env=os.environ | variables, start_new_session=True)
    try:
        while not any('"step": 1,' in log.read_text() for log in runs.glob("trials/*/gradients.jsonl")):
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(words)} ended with status {process.returncode}")
            time.sleep(0.005)
        return time.perf_counter() - started, cpu_seconds(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cpu_seconds(leader: int) -> float:
    """CPU time of a process group, and of its ended children, on Linux; 0 elsewhere."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == leader:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def tiny(seeds: int, shape: Mapping[str, Sequence[int]] | None = None) -> dict[str, Any]:
    """An experiment of small MLPs on the bundled sample: one condition, or the levels of `shape` crossed, times `seeds`."""
    levels = shape or {}
    first = next(iter(levels.items()), None)
    claim = first and {
        "name": "The widest is better",
        "factor": first[0],
        "levels": [first[1][-1], first[1][0]],
        "expect": "greater",
        "matters": 0.01,
    }
    return {
        "seed": 0,
        "data": {"name": "mnist-sample", "limit": 200, "batch_size": 32},
        "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1, "batch_norm": True}},
        "training": {"epochs": 5 if levels else 1},
        "experiment": {
            "title": "Tiny trials",
            "factors": {f"model.params.{key}": list(values) for key, values in levels.items()},
            "analyze_gradients": bool(levels),
            "seeds": seeds,
        },
        "claims": [claim] if claim else [],
    }


def _loads_torch(words: Sequence[str]) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", TORCH.format(words=list(words))], capture_output=True, cwd=ROOT, check=False
    )
    return bool(done.returncode)
