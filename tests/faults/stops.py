"""A3-A6: signals and dead workers, sent to commands as a user, a terminal or the kernel would."""

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
from tests.faults.forks import ROOT, SURROUNDINGS, Server, gone
from tests.faults.gate import Found
from tests.faults.kills import command, digest, unlike

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
LONG = "training.epochs=100000"
ONCE, TWICE = 5.0, 1.0


def begun(runs: Path, trials: int = 1, seconds: float = 60.0) -> bool:
    """Wait until so many trials have been trained for an epoch."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        logs = list(runs.glob("trials/*/metrics.jsonl"))
        if sum(path.stat().st_size > 0 for path in logs) >= trials:
            return True
        time.sleep(0.005)
    return False


def signals(server: Server, folder: Path, count: int, draw: random.Random, timed: bool = True) -> Found:
    """One process that trains receives a signal, half of the times two. `timed`: on an idle machine, also in time."""
    found = Found()
    for number in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        which, twice = draw.choice(list(STATUS)), number % 2 == 1
        every = draw.choice(("0", "0.05", "30"))
        running = server.start(command(folder, runs, LONG, f"run.checkpoint_seconds={every}"), report=False)
        found.check(begun(runs), f"did not begin: {running.said()[-500:]}")
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
        found.counts["twice" if twice else "once"] += 1
        what = f"{which.name}{' twice' if twice else ''}"
        found.check(not timed or taken <= most, f"{what}: {taken:.2f} s")
        allowed = set(STATUS.values()) if twice else {STATUS[which]}
        if twice and status is not None and status < 0:  # the second came after the orderly end: a shell says the same
            status = 128 - status
        found.check(status in allowed, f"{what}: exit status {status}: {running.said()[-300:]}")
        found.check(gone(running.pid), f"{what}: an orphan is left")
        store = Store(runs)
        states = {store.trial(trial).status for trial in store.trials()}
        found.check(states == {"interrupted"}, f"{what}: {states}")
        if not twice:
            kept = all(latest_checkpoint(runs / "trials" / trial) for trial in store.trials())
            found.check(kept, f"{what}: no checkpoint")
    return found


class Real:
    """A real `fathomlab run` in a process group of its own."""

    def __init__(self, arguments: list[str]):
        """Begin it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fathomlab", *arguments],
            cwd=ROOT,
            env=SURROUNDINGS,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def children(self) -> list[int]:
        """Its workers."""
        try:
            return [
                int(word)
                for word in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            ]
        except OSError:
            return []

    def end(self, seconds: float = 90.0) -> tuple[int, str]:
        """Its exit status and what it said."""
        said = self.process.communicate(timeout=seconds)[0]
        return self.process.returncode, said


def workers(arguments: list[str], count: int) -> list[str]:
    """The same command with so many workers."""
    place = arguments.index("--workers")
    return [*arguments[:place], "--workers", str(count), *arguments[place + 2 :]]


def signals_to_workers(folder: Path, count: int, draw: random.Random, timed: bool = True) -> Found:
    """A command with two workers is told to stop."""
    found = Found()
    for _ in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        real = Real(workers(command(folder, runs, LONG, "run.pack=4"), 2))
        found.check(begun(runs, 8), "did not begin")
        pids = real.children()
        found.check(len(pids) == 2, f"{len(pids)} workers")
        which = draw.choice(list(STATUS))
        os.killpg(real.process.pid, which)
        started = time.monotonic()
        status, said = real.end()
        found.counts["with two workers"] += 1
        found.check(
            not timed or time.monotonic() - started <= ONCE, f"{which.name}: {time.monotonic() - started:.2f} s"
        )
        found.check(status == STATUS[which], f"{which.name}: exit status {status}: {said[-500:]}")
        found.check(gone(real.process.pid), "an orphan is left")
        store = Store(runs)
        kept = [bool(latest_checkpoint(runs / "trials" / trial)) for trial in store.trials()]
        found.check(kept == [True] * 8, f"{which.name}: checkpoints of {sum(kept)} of 8")
    return found


def dead_workers(server: Server, folder: Path, count: int, draw: random.Random) -> Found:
    """A random worker dies, of SIGKILL or SIGTERM; another goes on with its pack, to the bits of the undisturbed run."""
    found = Found()
    own = ("run.pack=2", "training.epochs=40", "run.checkpoint_seconds=0.05")
    status, said = server.run(command(folder, folder / "golden", *own), report=False)
    assert status == 0, said
    golden = digest(folder / "golden")
    for _ in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        real = Real(workers(command(folder, runs, *own, "--progress", "plain"), 2))
        found.check(begun(runs, draw.choice((1, 3, 5))), "did not begin")
        time.sleep(draw.uniform(0, 0.2))
        pids, which = real.children(), draw.choice((signal.SIGKILL, signal.SIGTERM))
        if pids:
            os.kill(draw.choice(pids), which)
        status, said = real.end()
        found.counts["dead workers"] += bool(pids)
        found.check(status == 0, f"{which.name}: exit status {status}: {said[-800:]}")
        found.check(gone(real.process.pid), "an orphan is left")
        different = unlike(golden, digest(runs))
        found.check(not different, f"{which.name}: {different[:5]}")
    return found
