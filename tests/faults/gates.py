"""The matrix of fault gates: what each does, and how often in the default suite and in full."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fathomlab.engine.backends.native_library import missing_compiler
from fathomlab.execute.pack.settings import deterministic_mode
from tests.faults import takeovers
from tests.faults.corruption import corrupt_files, create_target, flip_bits, truncate
from tests.faults.forks import Servers
from tests.faults.gate import GateResult, make_random
from tests.faults.injection import CALLS, FAULTS, LEASE_CALLS, points, strace_works
from tests.faults.kills import kill_loop
from tests.faults.matrix import ALL, SUPERVISED, combinations, covering
from tests.faults.redo import count_redone_steps
from tests.faults.sharing import drivers, writers
from tests.faults.stops import dead_workers, signals, signals_to_workers
from tests.faults.variables import start_in_environments

Run = Callable[[Path, Servers, int, random.Random], GateResult]


@dataclass(frozen=True)
class Gate:
    """One row.

    Attributes:
        description: What is done.
        run: Does it, in an empty folder, as often as the size says.
        small: Size in the default suite.
        full: Size in `make test-all` and in `python -m tests.faults`.
        needs_strace: Whether system calls are injected.
        needs_compiler: Whether it trains with the native backend.
    """

    description: str
    run: Run
    small: int
    full: int
    needs_strace: bool = False
    needs_compiler: bool = False

    @property
    def missing(self) -> str:
        """What this computer lacks for it; `""` if nothing."""
        if self.needs_strace and not strace_works():
            return "strace is not installed or may not trace"
        return missing_compiler() if self.needs_compiler else ""

    def measure(self, name: str, folder: Path, servers: Servers, size: int) -> GateResult:
        """Run the gate. Full sizes draw new random numbers each time."""
        return self.run(folder, servers, size, make_random(name, size == self.full))


def calls(program: str, small_step: int = 4, names: tuple[str, ...] = CALLS) -> Run:
    """Every system call with all faults in full size; every `small_step`-th with the first faults in a small one."""

    def run(folder: Path, servers: Servers, size: int, draw: random.Random) -> GateResult:
        return points(program, folder / "w", names, FAULTS[:size], step=1 if size == len(FAULTS) else small_step)

    return run


def naive_writer(folder: Path, servers: Servers, size: int, draw: random.Random) -> GateResult:
    """The control: each fault must break a writer that is not atomic."""
    broken = points("naive", folder / "w", CALLS if size == len(FAULTS) else ("write",), FAULTS[:size])
    result = GateResult(broken.counts)
    result.counts["expected failures"] = len(broken.failures)
    for fault in FAULTS[:size]:
        expected = any(fault in failure for failure in broken.failures)
        result.check(expected or fault not in ("KILL", "ENOSPC"), f"{fault} did not break the naive writer")
    return result


def resume(folder: Path, servers: Servers, size: int, draw: random.Random) -> GateResult:
    """Combinations in which every level of every axis occurs, or all."""
    with deterministic_mode():
        return combinations(list(ALL) if size == len(ALL) else covering(size), folder)


def resume_native(folder: Path, servers: Servers, size: int, draw: random.Random) -> GateResult:
    """The combinations without distillation, which the native backend does not train."""
    with deterministic_mode():
        return combinations(
            list(SUPERVISED) if size == len(SUPERVISED) else covering(size, SUPERVISED), folder, "native"
        )


def corruption(folder: Path, servers: Servers, size: int, draw: random.Random) -> GateResult:
    """Five of six are flipped bits."""
    target = create_target(folder / "runs")
    flips = corrupt_files(target, size * 5 // 6, draw, (flip_bits,))
    return flips.add(corrupt_files(target, size - size * 5 // 6, draw, (truncate,)))


NATIVE = ("model.params.dropout=0", "run.backend=native")  # which does not train networks with dropout

GATES: dict[str, Gate] = {
    "kills-packed": Gate(
        "SIGKILL at random instants, eight trials in packs",
        lambda folder, servers, size, draw: kill_loop(servers.first, folder, size, draw),
        3,
        100,
    ),
    "kills-alone": Gate(
        "SIGKILL at random instants, eight trials one by one",
        lambda folder, servers, size, draw: kill_loop(servers.first, folder, size, draw, "run.pack=1"),
        1,
        100,
    ),
    "steps-redone": Gate(
        "deaths with a checkpoint at each step: at most one step is computed again",
        lambda folder, servers, size, draw: count_redone_steps(folder, size, draw),
        20,
        200,
    ),
    "calls-replace": Gate("each system call of replacing a file x 5 faults", calls("replace"), 2, 5, True),
    "calls-trial": Gate("each system call of a trial's folder x 5 faults", calls("trial", 12), 1, 5, True),
    "calls-quarantine": Gate(
        "each system call of quarantining a trial x 5 faults", calls("quarantine_trial"), 1, 5, True
    ),
    "calls-experiment": Gate("each system call of an experiment's record x 5 faults", calls("experiment"), 1, 5, True),
    "calls-naive": Gate("each system call of a non-atomic writer x 5 faults (control)", naive_writer, 2, 5, True),
    "resume": Gate(
        "stopped and resumed: optimizer x schedule x augmentation x step x kind of stop", resume, 7, len(ALL)
    ),
    "corruption": Gate("flipped bits and truncated files", corruption, 60, 1215),
    "signals": Gate(
        "SIGINT, SIGTERM, SIGHUP, once (5 s) and twice (1 s)",
        lambda folder, servers, size, draw: signals(servers.first, folder, size, draw, timed=size == 100),
        2,
        100,
    ),
    "signals-workers": Gate(
        "SIGINT, SIGTERM, SIGHUP to a run with two workers",
        lambda folder, servers, size, draw: signals_to_workers(folder, size, draw, timed=size == 10),
        1,
        10,
    ),
    "dead-workers": Gate(
        "a worker killed, its trials resumed",
        lambda folder, servers, size, draw: dead_workers(servers.first, folder, size, draw),
        1,
        20,
    ),
    "environment": Gate(
        "starts with another hash seed, locale, time zone, and directory",
        lambda folder, servers, size, draw: start_in_environments(folder, size, draw),
        1,
        20,
    ),
    "writers": Gate(
        "8 processes x 1,000 records, with concurrent readers",
        lambda folder, servers, size, draw: writers(folder / "runs", size, 1000 if size == 8 else 100),
        3,
        8,
    ),
    "drivers": Gate(
        "the same experiment started twice concurrently",
        lambda folder, servers, size, draw: drivers(servers.first, servers.second, folder, size, draw),
        2,
        50,
    ),
    "calls-lease": Gate(
        "each system call of a trial with a lease x 5 faults", calls("leased", 20, LEASE_CALLS), 1, 5, True
    ),
    "lease-rivals": Gate(
        "the same or overlapping experiments in two commands with leases: each trial is started once",
        lambda folder, servers, size, draw: takeovers.rivals(servers.first, servers.second, folder, size, draw),
        1,
        20,
    ),
    "lease-kills": Gate(
        "a command with leases killed; another one takes over",
        lambda folder, servers, size, draw: takeovers.killed(servers.first, servers.second, folder, size, draw),
        2,
        20,
    ),
    "lease-stops": Gate(
        "a command stopped for longer than its leases last, then continued",
        lambda folder, servers, size, draw: takeovers.stopped(servers.first, servers.second, folder, size, draw),
        1,
        20,
    ),
    "lease-outages": Gate(
        "leases that are gone for a while",
        lambda folder, servers, size, draw: takeovers.away(servers.first, folder, size, draw),
        1,
        20,
    ),
    "lease-workers": Gate(
        "a worker with leases killed, its pack resumed",
        lambda folder, servers, size, draw: takeovers.dead_workers(servers.first, folder, size, draw),
        1,
        10,
    ),
    "kills-native": Gate(
        "native backend: SIGKILL at random instants, eight trials in packs",
        lambda folder, servers, size, draw: kill_loop(servers.first, folder, size, draw, *NATIVE),
        1,
        50,
        needs_compiler=True,
    ),
    "steps-redone-native": Gate(
        "native backend: deaths with a checkpoint at each step: at most one step is computed again",
        lambda folder, servers, size, draw: count_redone_steps(folder, size, draw, *NATIVE),
        20,
        100,
        needs_compiler=True,
    ),
    "resume-native": Gate(
        "native backend: stopped and resumed: optimizer x schedule x augmentation x step",
        resume_native,
        6,
        len(SUPERVISED),
        needs_compiler=True,
    ),
    "signals-native": Gate(
        "native backend: SIGINT, SIGTERM, SIGHUP, once (5 s) and twice (1 s)",
        lambda folder, servers, size, draw: signals(servers.first, folder, size, draw, size == 50, *NATIVE),
        1,
        50,
        needs_compiler=True,
    ),
    "dead-workers-native": Gate(
        "native backend: a worker killed, its trials resumed",
        lambda folder, servers, size, draw: dead_workers(servers.first, folder, size, draw, *NATIVE),
        1,
        10,
        needs_compiler=True,
    ),
}
