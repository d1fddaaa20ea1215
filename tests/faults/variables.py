"""The same experiment in processes with different environments."""

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

from tests.faults.experiments import run, small
from tests.faults.forks import ENVIRONMENT
from tests.faults.gate import GateResult
from tests.faults.kills import digest

SCRIPT = """\
import hashlib, json, sys
from pathlib import Path
from tests.faults.experiments import run, small
from tests.faults.kills import digest
root = Path(sys.argv[1])
plan = run(small(), root)
print(hashlib.sha256(json.dumps([plan.hash, digest(root)], sort_keys=True, default=str).encode()).hexdigest())
"""


def start_in_environments(folder: Path, count: int, draw: random.Random) -> GateResult:
    """Start processes, each with another hash seed, locale, time zone, and directory; all must have the digest of this one."""
    plan = run(small(), folder / "here")
    text = json.dumps([plan.hash, digest(folder / "here")], sort_keys=True, default=str)
    result, digests = GateResult(), {hashlib.sha256(text.encode()).hexdigest()}
    for number in range(count):
        directory = folder / f"directory-{number}"
        directory.mkdir(parents=True)
        variables = {
            "PYTHONHASHSEED": str(draw.randrange(2**32)),
            "LC_ALL": draw.choice(("C", "C.UTF-8", "POSIX", "de_DE.UTF-8")),
            "TMPDIR": str(directory),
            "TZ": draw.choice(("UTC", "Asia/Kathmandu", "America/St_Johns")),
            f"X{draw.randrange(10**9)}": "1",
        }
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(directory / "runs")],
            env=ENVIRONMENT | variables,
            cwd=draw.choice((directory, folder, Path("/"))),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        result.counts["starts"] += 1
        result.check(process.returncode == 0, process.stderr[-2000:])
        digests.add(process.stdout.strip())
    result.check(len(digests) == 1, f"{len(digests)} different results")
    return result
