"""`python -m tests.faults [gate ...]`: the full numbers; writes docs/results/reliability.json and the table in the page."""

import datetime
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.prepare import machine
from tests.faults.chance import USED, chance
from tests.faults.damage import cut, damages, flipped, make
from tests.faults.forks import ROOT, server
from tests.faults.gate import Found
from tests.faults.injection import CALLS, FAULTS, points, strace_works
from tests.faults.kills import kill_loop
from tests.faults.matrix import ALL, combinations
from tests.faults.sharing import drivers, writers
from tests.faults.stops import dead_workers, signals, signals_to_workers

RESULTS = ROOT / "docs" / "results" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
Gate = Callable[[Path, ExitStack, str], Found]


def _kills(*more: str) -> Gate:
    return lambda folder, stack, name: kill_loop(
        stack.enter_context(server(folder / "server")), folder, 100, chance(name, True), *more
    )


def _points(program: str) -> Gate:
    return lambda folder, stack, name: points(program, folder / "w", CALLS, FAULTS)


def _naive(folder: Path, stack: ExitStack, name: str) -> Found:
    """The control: here failures are what must be found."""
    broken = points("naive", folder / "w", CALLS, FAULTS)
    found = Found(broken.counts)
    found.counts["expected failures"] = len(broken.failures)
    found.check(bool(broken.failures), "the naive writer was not found broken")
    return found


def _resume(folder: Path, stack: ExitStack, name: str) -> Found:
    with deterministic_mode():
        return combinations(list(ALL), folder)


def _damage(folder: Path, stack: ExitStack, name: str) -> Found:
    store, draw = make(folder / "runs"), chance(name, True)
    return damages(store, 1005, draw, (flipped,)).add(damages(store, 210, draw, (cut,)))


def _signals(folder: Path, stack: ExitStack, name: str) -> Found:
    return signals(stack.enter_context(server(folder / "server")), folder, 100, chance(name, True))


def _worker_signals(folder: Path, stack: ExitStack, name: str) -> Found:
    return signals_to_workers(folder, 10, chance(name, True))


def _dead_workers(folder: Path, stack: ExitStack, name: str) -> Found:
    return dead_workers(stack.enter_context(server(folder / "server")), folder, 20, chance(name, True))


def _writers(folder: Path, stack: ExitStack, name: str) -> Found:
    return writers(folder / "runs", 8, 1000)


def _drivers(folder: Path, stack: ExitStack, name: str) -> Found:
    one, two = (stack.enter_context(server(folder / own)) for own in ("one", "two"))
    return drivers(one, two, folder, 50, chance(name, True))


GATES: dict[str, tuple[str, Gate]] = {
    "kills-packed": ("SIGKILL at random instants, eight trials in packs", _kills()),
    "kills-alone": ("SIGKILL at random instants, eight trials one by one", _kills("run.pack=1")),
    "calls-replace": ("each system call of replacing a file x 5 faults", _points("replace")),
    "calls-trial": ("each system call of a trial's folder x 5 faults", _points("trial")),
    "calls-aside": ("each system call of quarantining a trial x 5 faults", _points("aside")),
    "calls-experiment": ("each system call of an experiment's record x 5 faults", _points("experiment")),
    "calls-naive": ("each system call of a non-atomic writer x 5 faults (control)", _naive),
    "resume": ("stopped and resumed: optimizer x schedule x augmentation x step x kind of stop", _resume),
    "damage": ("flipped bits and truncated files", _damage),
    "signals": ("SIGINT, SIGTERM, SIGHUP, once (5 s) and twice (1 s)", _signals),
    "signals-workers": ("SIGINT, SIGTERM, SIGHUP to a run with two workers", _worker_signals),
    "dead-workers": ("a worker killed, its trials resumed", _dead_workers),
    "writers": ("8 processes x 1,000 records, with concurrent readers", _writers),
    "drivers": ("the same experiment started twice concurrently", _drivers),
}


def main(names: list[str]) -> int:
    """Run gates, all by default; the exit status is 1 where one has failed."""
    unknown = [name for name in names if name not in GATES]
    if unknown:
        print(f"no gate {', '.join(unknown)}; there are: {', '.join(GATES)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    failed = 0
    for name in names or GATES:
        if name.startswith("calls") and not strace_works():
            print(f"{name}: left out, strace is not here or may not trace")
            continue
        started = time.monotonic()
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="fathomlab-", dir=place) as folder, ExitStack() as stack:
            found = GATES[name][1](Path(folder), stack, name)
        failed += bool(found.failures)
        known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known[name] = {
            "counts": dict(found.counts),
            "failures": found.failures,
            "seed": USED.get(name),
            "seconds": round(time.monotonic() - started, 1),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": f"{machine.hardware().cpu}, {machine.cores()} cores",
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        print(f"{name}: {dict(found.counts)}, {len(found.failures)} failures, {known[name]['seconds']} s", flush=True)
        for failure in found.failures[:10]:
            print(f"  {failure}", flush=True)
        RESULTS.write_text(json.dumps({name: known[name] for name in GATES if name in known}, indent=1) + "\n")
        rewrite(known)
    return int(bool(failed))


def rewrite(known: dict[str, Any]) -> None:
    """Put the results into the page."""
    lines = ["| test | what was done | counts | failures | seed | seconds | date |", "|---|---|---|--:|--:|--:|---|"]
    for name, (what, _) in GATES.items():
        if name in known:
            own = known[name]
            counts = ", ".join(f"{count:,} {key}" for key, count in own["counts"].items())
            seed = "" if own["seed"] is None else own["seed"]
            lines.append(
                f"| {name} | {what} | {counts} | {len(own['failures'])} | {seed} | {own['seconds']:.0f} | {own['date']} |"
            )
    machines = sorted({f"{own['machine']}, torch {own['versions']['torch']}" for own in known.values()})
    table = "\n".join([*lines, "", f"Machine: {'; '.join(machines)}."])
    text = PAGE.read_text()
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
