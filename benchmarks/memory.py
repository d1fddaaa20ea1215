"""Compares the memory that `plan` predicts with the peak of whole runs: `python -m benchmarks.memory [CASE ...]`.

Epochs and images are few, which hardly changes the memory. Measured are all processes of a run: their own pages (Anonymous), and
once the pages of files that they map. Linux only.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAUSE = 0.03
FILES_EVERY = 1.0  # s; reading all mappings of a process takes long
AREA = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ (\S+ \d+)")  # of smaps: device and inode
KB = re.compile(r"^(\w+): +(\d+) kB", re.MULTILINE)
FULL = ["training.epochs=1", "data.name=mnist-sample", "data.limit=500"]
CNN = ["data.name=shapes", "data.limit=300"]
ROLES = ["training_teacher.epochs=1", "training_student.epochs=1"]
CASES: Mapping[str, Sequence[str]] = {
    "1_1 --quick": ["training.epochs=1"],
    "1_2 --quick": ["training.epochs=1"],
    "1_3 --quick": ["training.epochs=1"],
    "2_2 --quick": ROLES,
    "1_1": FULL,
    "1_2": FULL,
    "1_3": [*CNN, "training.epochs=1", "experiment.depths=[[1,1,1,1]]"],
    "2_2": [*CNN, *ROLES, "teacher_model.params.layers=[1,1,1,1]", "distillation.alpha=0.7"],
}
WORKERS = (1, 2)


@dataclass
class Peak:
    """The largest sum over all processes of a run so far (bytes)."""

    total: int = 0
    files: int = 0
    files_at: float = 0.0

    def update(self, pids: Sequence[int]) -> None:
        """Look at the processes now."""
        if time.monotonic() - self.files_at > FILES_EVERY:
            self.files, self.files_at = mapped_bytes(pids), time.monotonic()
        self.total = max(self.total, self.files + sum(map(private_bytes, pids)))


def run_peak(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command and return the peak of its processes (bytes).

    Raises:
        subprocess.CalledProcessError: If the command cannot do its work. Undecided claims are no error.
    """
    peak = Peak()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                peak.update(list(descendants(process.pid)))
                time.sleep(PAUSE)
        finally:
            process.kill()
            process.wait()
        if process.returncode > 1:
            output.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, output.read())
    return peak.total


def descendants(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    yield pid
    try:
        files = list(Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:  # it has ended
        return
    for file in files:
        for child in _read(file).split():
            yield from descendants(int(child))


def private_bytes(pid: int) -> int:
    """Pages of a process that are not those of a file."""
    return 1024 * int(dict(KB.findall(_read(Path(f"/proc/{pid}/smaps_rollup")))).get("Anonymous", 0))


def mapped_bytes(pids: Sequence[int]) -> int:
    """Pages of files that processes map. What several map counts once, as often as the process with most of it has it."""
    largest: dict[str, int] = {}
    for pid in pids:
        sizes: dict[str, int] = {}
        file = ""
        for line in _read(Path(f"/proc/{pid}/smaps")).splitlines():
            if match := AREA.match(line):
                file = match[1]
            elif line.startswith(("Rss:", "Anonymous:")) and not file.endswith(" 0"):
                sign = 1 if line.startswith("Rss:") else -1
                sizes[file] = sizes.get(file, 0) + sign * 1024 * int(line.split()[1])
        for file, size in sizes.items():
            largest[file] = max(largest.get(file, 0), size)
    return sum(largest.values())


def compare(source: str, overrides: Sequence[str], workers: int, runs: Path) -> tuple[int, int]:
    """The predicted and the measured peak of a run (bytes)."""
    fathomlab = [sys.executable, "-m", "fathomlab"]
    options = [*source.split(), *overrides, "run.executor=local", "--workers", str(workers), "--runs", str(runs)]
    plan = subprocess.run([*fathomlab, "plan", *options, "--json"], check=True, capture_output=True)
    predicted = json.loads(plan.stdout)["memory"]["peak_bytes"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    return predicted, run_peak([*fathomlab, "run", *options], environment)


def _read(file: Path) -> str:
    """The text of a file of /proc; empty if the process has ended."""
    try:
        return file.read_text()
    except OSError:
        return ""


def main(names: Sequence[str]) -> None:
    """Print a table: predicted and measured peak (MB), and their ratio."""
    print("| run | workers | predicted (MB) | measured (MB) | ratio |\n|---|---|---|---|---|")
    for source, overrides in CASES.items():
        for workers in WORKERS if not names or source in names else ():
            with tempfile.TemporaryDirectory() as folder:
                predicted, measured = compare(source, overrides, workers, Path(folder))
            ratio = predicted / measured
            print(f"| {source} | {workers} | {predicted / 1e6:.0f} | {measured / 1e6:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
