"""Several coordinators with leases on one store: each trial is trained once, whatever happens to one of them."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from fathomlab.store.checkpoints import latest_checkpoint
from fathomlab.store.reading import Store
from tests.faults.forks import Running, Server, has_ended
from tests.faults.gate import GateResult
from tests.faults.kills import command, differences, digest
from tests.faults.lease_setup import EXPIRY, NEVER
from tests.faults.stops import Real, wait_for_epochs, workers

ALONE = ("run.pack=1", "--progress", "json")
FOUR, SIX = "experiment.seeds=2", "experiment.seeds=3"  # trials
LONGER = (FOUR, "training.epochs=12", "run.checkpoint_seconds=0.02")
SECONDS = 90.0
UNDISTURBED: dict[tuple[str, ...], dict[str, Any]] = {}


def undisturbed(server: Server, folder: Path, *more: str) -> dict[str, Any]:
    """The results of one run with a lock, computed once per process of tests."""
    if more not in UNDISTURBED:
        shutil.rmtree(folder / "golden", ignore_errors=True)
        status, printed = server.run(command(folder, folder / "golden", *more), report=False)
        assert status == 0, printed
        UNDISTURBED[more] = digest(folder / "golden")
    return UNDISTURBED[more]


def starts(*running: Running) -> list[str]:
    """The trials that were started, from the events of commands, each as often as it was started."""
    trials: list[str] = []
    for item in running:
        for line in item.printed().splitlines():
            event = json.loads(line) if line.startswith('{"event": "started"') else {}
            trials += event.get("trials", ())
    return trials


def check_end(result: GateResult, runs: Path, golden: dict[str, Any], *ended: Running) -> None:
    """Every command ends well, the results have the bits of an undisturbed run, and no lease is left."""
    for item in ended:
        status = item.wait(SECONDS)
        result.check(status == 0, f"exit status {status}: {item.printed()[-800:]}")
        result.check(has_ended(item.pid), "an orphan is left")
    different = differences(golden, digest(runs))
    result.check(not different, f"differs from the undisturbed run: {different[:6]}")
    left = [str(path.relative_to(runs)) for path in (runs / "leases").rglob("*") if path.is_file()]
    result.check(not left, f"leases that are left: {left[:5]}")


def rivals(one: Server, two: Server, folder: Path, count: int, draw: random.Random) -> GateResult:
    """Two commands with the same or with overlapping experiments: each trial is started once."""
    result = GateResult()
    golden = undisturbed(one, folder, *ALONE, SIX)
    for number in range(count):
        runs, more = folder / "runs", FOUR if number % 2 else SIX
        shutil.rmtree(runs, ignore_errors=True)
        first = one.start(command(folder, runs, *ALONE, FOUR), report=False, leases={})
        time.sleep(draw.choice((0.0, draw.uniform(0, 0.5))))
        second = two.start(command(folder, runs, *ALONE, more), report=False, leases={})
        trained = {path.name[:8] for path in (runs / "trials").iterdir()} if not second.wait(SECONDS) else set[str]()
        expected = {key: value for key, value in golden.items() if more == SIX or key[:8] in trained}
        check_end(result, runs, expected, first, second)
        trials = starts(first, second)
        result.check(len(set(trials)) == len(trials), f"{len(trials)} starts of {len(set(trials))} trials")
        result.check(len(trials) == (6 if more == SIX else 4), f"{len(trials)} starts")
        result.counts["overlapping" if more == SIX else "same"] += 1
        result.counts["both trained"] += bool(starts(first)) and bool(starts(second))
    return result


def killed(one: Server, two: Server, folder: Path, count: int, draw: random.Random) -> GateResult:
    """Kill a coordinator. Another one takes over: immediately on the same machine, else when the leases have expired."""
    result, more = GateResult(), (*ALONE, *LONGER)
    golden = undisturbed(one, folder, *more)
    for number in range(count):
        runs, elsewhere = folder / "runs", number % 2 == 1
        shutil.rmtree(runs, ignore_errors=True)
        first = one.start(command(folder, runs, *more), report=False, leases={"expiry": NEVER})
        result.check(wait_for_epochs(runs, draw.choice((1, 2, 3))), f"did not begin: {first.printed()[-500:]}")
        time.sleep(draw.uniform(0, 0.1))
        first.signal(signal.SIGKILL)
        status = first.wait(SECONDS)
        result.counts["kills"] += status == -signal.SIGKILL
        leases = {"boot": "another"} if elsewhere else {"expiry": NEVER}
        second = two.start(command(folder, runs, *more), report=False, leases=leases)
        check_end(result, runs, golden, second)
        waited = "trains some of the trials" in second.printed()
        result.check(elsewhere or not waited, "waited for a process that this machine knows to be dead")
        result.counts["waited"] += waited
        result.counts["other machine" if elsewhere else "same machine"] += 1
    return result


def files(runs: Path) -> dict[str, tuple[int, int, bytes]]:
    """Inode, time, and content of each file of each trial."""
    return {
        str(path.relative_to(runs)): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in (runs / "trials").rglob("*")
        if path.is_file()
    }


def stopped(one: Server, two: Server, folder: Path, count: int, draw: random.Random) -> GateResult:
    """Stop a coordinator for longer than its leases last. When it continues, it writes nothing to what others have trained."""
    result, more = GateResult(), (*ALONE, *LONGER)
    golden = undisturbed(one, folder, *more)
    for _ in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        first = one.start(command(folder, runs, *more), report=False, leases={})
        result.check(wait_for_epochs(runs, draw.choice((1, 2))), f"did not begin: {first.printed()[-500:]}")
        time.sleep(draw.uniform(0, 0.1))
        first.signal(signal.SIGSTOP)
        second = two.start(command(folder, runs, *more), report=False, leases={})
        status = second.wait(SECONDS)
        result.check(status == 0, f"exit status {status}: {second.printed()[-800:]}")
        before = files(runs)
        first.signal(signal.SIGCONT)
        check_end(result, runs, golden, first)
        result.check(files(runs) == before, "files of finished trials have changed")
        result.counts["taken over"] += len(set(starts(first)) & set(starts(second)))
    result.check(result.counts["taken over"] > 0, "no trial was taken over")
    return result


def away(one: Server, folder: Path, count: int, draw: random.Random) -> GateResult:
    """Move the leases away and back while trials train: no trial is lost."""
    result, more = GateResult(), (*ALONE, *LONGER)
    golden = undisturbed(one, folder, *more)
    for _ in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        first = one.start(command(folder, runs, *more), report=False, leases={})
        result.check(wait_for_epochs(runs, draw.choice((1, 2))), f"did not begin: {first.printed()[-500:]}")
        time.sleep(draw.uniform(0, 0.1))
        (runs / "leases").rename(folder / "away")
        time.sleep(draw.uniform(0, EXPIRY))
        shutil.rmtree(runs / "leases", ignore_errors=True)  # new ones may have been written meanwhile
        (folder / "away").rename(runs / "leases")
        status = first.wait(SECONDS)
        result.check(status == 0, f"exit status {status}: {first.printed()[-800:]}")
        different = differences(golden, digest(runs))
        result.check(not different, f"{different[:5]}")
        result.counts["outages"] += 1
    return result


def dead_workers(one: Server, folder: Path, count: int, draw: random.Random) -> GateResult:
    """SIGKILL a worker that has leases, as the kernel does when memory runs out. Another one resumes its pack immediately."""
    result, more = GateResult(), (FOUR, "run.pack=2", "training.epochs=20", "run.checkpoint_seconds=0.05")
    golden = undisturbed(one, folder, *more)
    for _ in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        arguments = workers(command(folder, runs, *more, "--progress", "plain"), 2)
        real = Real(arguments, "tests.faults.lease_setup", json.dumps({"expiry": NEVER}))
        result.check(wait_for_epochs(runs, draw.choice((1, 2))), "did not begin")
        trials = list((runs / "trials").iterdir())
        saved = any(latest_checkpoint(trial) for trial in trials)
        pids = real.children()
        if pids:
            os.kill(draw.choice(pids), signal.SIGKILL)
        status, printed = real.end()
        result.counts["dead workers"] += bool(pids)
        result.counts["with a checkpoint"] += saved
        result.check(status == 0, f"exit status {status}: {printed[-800:]}")
        result.check(printed.count("Restarting") <= 1, printed[-800:])
        result.check({Store(runs).trial(trial.name).status for trial in trials} == {"finished"}, "not all are finished")
        different = differences(golden, digest(runs))
        result.check(not different, f"{different[:5]}")
        left = [path.name for path in (runs / "leases").rglob("*") if path.is_file()]
        result.check(not left, f"leases that are left: {left[:5]}")
    return result
