"""`python -m tests.faults [gate ...]`: full sizes; writes docs/results/reliability.json and the table in the page."""

import datetime
import json
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fathomlab.prepare import machine
from tests.faults.forks import ROOT, Servers
from tests.faults.gate import SEEDS
from tests.faults.gates import GATES

RESULTS = ROOT / "docs" / "results" / "reliability.json"
PAGE = ROOT / "docs" / "explanation" / "reliability.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def main(names: list[str]) -> int:
    """Run gates, all by default; return 1 if one has failed."""
    unknown = [name for name in names if name not in GATES]
    if unknown:
        print(f"unknown gate {', '.join(unknown)}; available: {', '.join(GATES)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    failed = 0
    for name in names or GATES:
        if reason := GATES[name].missing:
            print(f"{name}: skipped, {reason}")
            continue
        record = measure(name)
        failed += bool(record["failures"])
        print(f"{name}: {record['counts']}, {len(record['failures'])} failures, {record['seconds']} s", flush=True)
        for failure in record["failures"][:10]:
            print(f"  {failure}", flush=True)
        records: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        records[name] = record
        RESULTS.write_text(json.dumps({name: records[name] for name in GATES if name in records}, indent=1) + "\n")
        rewrite(records)
    return int(bool(failed))


def measure(name: str) -> dict[str, Any]:
    """Run a gate in full size and return its record."""
    started = time.monotonic()
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fathomlab-", dir=parent) as folder:
        servers = Servers(Path(folder) / "servers")
        try:
            result = GATES[name].measure(name, Path(folder), servers, GATES[name].full)
        finally:
            servers.close()
    return {
        "counts": dict(result.counts),
        "failures": result.failures,
        "seed": SEEDS.get(name),
        "seconds": round(time.monotonic() - started, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{machine.hardware().cpu}, {machine.cores()} cores",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def rewrite(records: dict[str, Any]) -> None:
    """Put the results into the page."""
    lines = ["| test | what was done | counts | failures | seed | seconds | date |", "|---|---|---|--:|--:|--:|---|"]
    for name, gate in GATES.items():
        if name in records:
            record = records[name]
            counts = ", ".join(f"{count:,} {key}" for key, count in record["counts"].items())
            columns = [name, gate.description, counts, len(record["failures"])]
            columns += ["" if record["seed"] is None else record["seed"], f"{record['seconds']:.0f}", record["date"]]
            lines.append(f"| {' | '.join(map(str, columns))} |")
    machines = sorted({f"{record['machine']}, torch {record['versions']['torch']}" for record in records.values()})
    table = "\n".join([*lines, "", f"Machine: {'; '.join(machines)}."])
    text = PAGE.read_text()
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
