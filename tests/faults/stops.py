"""Sends signals to commands and kills workers, as a user, a terminal, or the kernel does."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from fathomlab.store.checkpoints import latest_checkpoint
from fathomlab.store.reading import Store
from tests.faults.forks import ENVIRONMENT, ROOT, Server, has_ended
from tests.faults.gate import GateResult
from tests.faults.kills import command, differences, digest

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
LONG = "training.epochs=100000"
ONCE, TWICE = 5.0, 1.0


def wait_for_epochs(runs: Path, trials: int = 1, seconds: float = 60.0) -> bool:
    """Wait until this number of trials have been trained for an epoch."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        logs = list(runs.glob("trials/*/metrics.jsonl"))
        if sum(path.stat().st_size > 0 for path in logs) >= trials:
            return True
        time.sleep(0.005)
    return False


def signals(
    server: Server, folder: Path, count: int, draw: random.Random, timed: bool = True, *more: str
) -> GateResult:
    """Send one or two signals to a training process. `timed` also checks deadlines, on an idle machine. `more`: overrides."""
    result = GateResult()
    for number in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        which, twice = draw.choice(list(STATUS)), number % 2 == 1
        every = draw.choice(("0", "0.05", "30"))
        running = server.start(command(folder, runs, LONG, *more, f"run.checkpoint_seconds={every}"), report=False)
        result.check(wait_for_epochs(runs), f"did not begin: {running.printed()[-500:]}")
        time.sleep(draw.uniform(0, 0.3))
        running.signal(which)
        started = time.monotonic()
        if twice:
            time.sleep(draw.choice((0.0, draw.uniform(0, 0.05))))
            running.wait(0)
            running.signal(draw.choice(list(STATUS)))
            started = time.monotonic()
        status = running.wait(30)
        taken, most = time.monotonic() - started, TWICE if twice else ONCE
        result.counts["twice" if twice else "once"] += 1
        what = f"{which.name}{' twice' if twice else ''}"
        result.check(not timed or taken <= most, f"{what}: {taken:.2f} s")
        allowed = set(STATUS.values()) if twice else {STATUS[which]}
        if (
            twice and status is not None and status < 0
        ):  # the second signal came after the regular end; a shell reports the same status
            status = 128 - status
        result.check(status in allowed, f"{what}: exit status {status}: {running.printed()[-300:]}")
        result.check(has_ended(running.pid), f"{what}: an orphan is left")
        store = Store(runs)
        states = {store.trial(trial).status for trial in store.trials()}
        result.check(states == {"interrupted"}, f"{what}: {states}")
        if not twice:
            saved = all(latest_checkpoint(runs / "trials" / trial) for trial in store.trials())
            result.check(saved, f"{what}: no checkpoint")
    return result


class Real:
    """A `fathomlab run` with workers in its own process group."""

    def __init__(self, arguments: list[str], *module: str):
        """Start it, optionally with another module and its arguments."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", *(module or ("fathomlab",)), *arguments],
            cwd=ROOT,
            env=ENVIRONMENT,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def children(self) -> list[int]:
        """Process IDs of its workers."""
        try:
            return [
                int(word)
                for word in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            ]
        except OSError:
            return []

    def end(self, seconds: float = 90.0) -> tuple[int, str]:
        """Its exit status and output."""
        printed = self.process.communicate(timeout=seconds)[0]
        return self.process.returncode, printed


def workers(arguments: list[str], count: int) -> list[str]:
    """The same command with this number of workers."""
    place = arguments.index("--workers")
    return [*arguments[:place], "--workers", str(count), *arguments[place + 2 :]]


def signals_to_workers(folder: Path, count: int, draw: random.Random, timed: bool = True) -> GateResult:
    """Send a signal to a command with two workers."""
    result = GateResult()
    for _ in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        real = Real(workers(command(folder, runs, LONG, "run.pack=4"), 2))
        result.check(wait_for_epochs(runs, 8), "did not begin")
        pids = real.children()
        result.check(len(pids) == 2, f"{len(pids)} workers")
        which = draw.choice(list(STATUS))
        os.killpg(real.process.pid, which)
        started = time.monotonic()
        status, printed = real.end()
        result.counts["with two workers"] += 1
        result.check(
            not timed or time.monotonic() - started <= ONCE, f"{which.name}: {time.monotonic() - started:.2f} s"
        )
        result.check(status == STATUS[which], f"{which.name}: exit status {status}: {printed[-500:]}")
        result.check(has_ended(real.process.pid), "an orphan is left")
        store = Store(runs)
        saved = [bool(latest_checkpoint(runs / "trials" / trial)) for trial in store.trials()]
        result.check(saved == [True] * 8, f"{which.name}: checkpoints of {sum(saved)} of 8")
    return result


def dead_workers(server: Server, folder: Path, count: int, draw: random.Random, *more: str) -> GateResult:
    """Kill a random worker; another one must resume its pack, to the bits of the undisturbed run. `more`: overrides."""
    result = GateResult()
    item = ("run.pack=2", "training.epochs=40", "run.checkpoint_seconds=0.05", *more)
    status, printed = server.run(command(folder, folder / "golden", *item), report=False)
    assert status == 0, printed
    golden = digest(folder / "golden")
    for _ in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        real = Real(workers(command(folder, runs, *item, "--progress", "plain"), 2))
        result.check(wait_for_epochs(runs, draw.choice((1, 3, 5))), "did not begin")
        time.sleep(draw.uniform(0, 0.2))
        pids, which = real.children(), draw.choice((signal.SIGKILL, signal.SIGTERM))
        if pids:
            os.kill(draw.choice(pids), which)
        status, printed = real.end()
        result.counts["dead workers"] += bool(pids)
        result.check(status == 0, f"{which.name}: exit status {status}: {printed[-800:]}")
        result.check(has_ended(real.process.pid), "an orphan is left")
        different = differences(golden, digest(runs))
        result.check(not different, f"{which.name}: {different[:5]}")
    return result
