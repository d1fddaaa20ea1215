"""Several processes that use one store."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fathomlab.store.reading import Store
from tests.faults.forks import ENVIRONMENT, ROOT, Server
from tests.faults.gate import GateResult
from tests.faults.kills import command, differences, digest


def writers(root: Path, processes: int, records: int) -> GateResult:
    """Processes write records, each into its own trial, while this one reads the store repeatedly."""
    result = GateResult()
    (root / "trials").mkdir(parents=True)
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.faults.writers", "records", str(root)],
            cwd=ROOT,
            env=ENVIRONMENT | {"FATHOMLAB_RECORDS": str(records), "FATHOMLAB_WRITER": str(number)},
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
            result.counts["reads"] += 1
            result.check(
                record.status in ("waiting", "interrupted", "finished") or not record.content, f"{record.cause}"
            )
        time.sleep(0.01)
    slowest: list[float] = []
    for process in started:
        printed, wrong = process.communicate()
        result.check(process.returncode == 0, wrong[-500:])
        slowest += [float(word) for word in printed.split()]
    store = Store(root)
    rows = [row for trial in store.trials() for row in zip(*store.trial(trial).curves.values(), strict=True)]
    result.counts["rows"] = len(rows)
    result.check(len(set(rows)) == processes * records, f"{len(set(rows))} rows")
    result.check(len(rows) == processes * records, f"{len(rows)} rows")
    percentile = sorted(slowest)[-max(1, processes * records // 100)]
    result.counts["p99 ms"] = round(1000 * percentile)
    result.check(percentile < 1.0, f"99 % take at most {percentile:.3f} s")
    result.check({store.trial(trial).status for trial in store.trials()} == {"finished"}, "not all are finished")
    return result


def drivers(one: Server, two: Server, folder: Path, count: int, draw: random.Random) -> GateResult:
    """Start the same experiment twice: the second run is refused or waits, and nothing is trained twice."""
    result = GateResult()
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
        results = [(item.wait(60), item) for item in (first, second)]
        trained = 0
        for status, item in results:
            printed = item.printed()
            if status == 0:
                trained += json.loads(printed[printed.index("{\n") if "{\n" in printed else printed.index("{") :])[
                    "trained"
                ]
                continue
            result.counts["refused"] += 1
            named = "in use by" in printed and "--wait" in printed
            result.check(status == 2 and named and not wait, f"exit status {status}: {printed[-300:]}")
            other = first if item is second else second
            result.check(
                f"process {other.pid} on" in printed or "has just started" in printed,
                f"names another: {printed[-300:]}",
            )
        result.counts["pairs"] += 1
        result.counts["waited"] += bool(wait)
        result.check(trained == 8, f"{trained} trials trained")
        different = differences(golden, digest(runs))
        result.check(not different, f"{different[:5]}")
    return result
