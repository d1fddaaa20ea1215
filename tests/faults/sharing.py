"""B9, B10: several processes on one store."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fathomlab.store.reading import Store
from tests.faults.forks import ROOT, SURROUNDINGS, Server
from tests.faults.gate import Found
from tests.faults.kills import command, digest, unlike


def writers(root: Path, processes: int, records: int) -> Found:
    """Processes write records into trials of their own while this one reads the store over and over."""
    found = Found()
    (root / "trials").mkdir(parents=True)
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.faults.writers", "records", str(root)],
            cwd=ROOT,
            env=SURROUNDINGS | {"FATHOMLAB_RECORDS": str(records), "FATHOMLAB_WRITER": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    while any(process.poll() is None for process in started):
        store = Store(root)
        for trial in store.trials():
            record = store.trial(trial)
            found.counts["reads"] += 1
            found.check(
                record.status in ("waiting", "interrupted", "finished") or not record.content, f"{record.cause}"
            )
        time.sleep(0.01)
    slowest: list[float] = []
    for process in started:
        said, wrong = process.communicate()
        found.check(process.returncode == 0, wrong[-500:])
        slowest += [float(word) for word in said.split()]
    store = Store(root)
    rows = [row for trial in store.trials() for row in zip(*store.trial(trial).curves.values(), strict=True)]
    found.counts["rows"] = len(rows)
    found.check(len(set(rows)) == processes * records, f"{len(set(rows))} rows")
    found.check(len(rows) == processes * records, f"{len(rows)} rows")
    percentile = sorted(slowest)[-max(1, processes * records // 100)]
    found.counts["p99 ms"] = round(1000 * percentile)
    found.check(percentile < 1.0, f"99 % take at most {percentile:.3f} s")
    found.check({store.trial(trial).status for trial in store.trials()} == {"finished"}, "not all are finished")
    return found


def drivers(one: Server, two: Server, folder: Path, count: int, draw: random.Random) -> Found:
    """The same experiment is begun twice at once: the second refuses, or waits; nothing is trained twice."""
    found = Found()
    assert one.run(command(folder, folder / "golden"), report=False)[0] == 0
    golden = digest(folder / "golden")
    for number in range(count):
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        wait = ["--wait"] if number % 2 else []
        words = [*command(folder, runs), "--json", *wait]
        first = one.start(words, report=False)
        time.sleep(draw.choice((0.0, draw.uniform(0, 0.3))))
        second = two.start(words, report=False)
        results = [(own.wait(60), own) for own in (first, second)]
        trained = 0
        for status, own in results:
            said = own.said()
            if status == 0:
                trained += json.loads(said[said.index("{\n") if "{\n" in said else said.index("{") :])["trained"]
                continue
            found.counts["refused"] += 1
            named = "in use by" in said and "--wait" in said
            found.check(status == 2 and named and not wait, f"exit status {status}: {said[-300:]}")
            other = first if own is second else second
            found.check(
                f"process {other.pid} on" in said or "has just started" in said, f"names another: {said[-300:]}"
            )
        found.counts["pairs"] += 1
        found.counts["waited"] += bool(wait)
        found.check(trained == 8, f"{trained} trials trained")
        different = unlike(golden, digest(runs))
        found.check(not different, f"{different[:5]}")
    return found
