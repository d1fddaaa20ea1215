"""Makes one system call after the other fail, or kills the process at it, until a program ends without a fault."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps
from fathomlab.store.checksums import CorruptFileError, file_sha256, read_checked
from fathomlab.store.directory import TrialFolder, write_experiment
from fathomlab.store.lease_files import live_leases
from fathomlab.store.leases import LeaseHeldError
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord, Result
from tests.faults import writers
from tests.faults.forks import ENVIRONMENT, ROOT
from tests.faults.gate import GateResult
from tests.faults.writers import CONTENT, NEW, OLD, STEPS, TRIAL, WRAPPED

CALLS = ("openat", "write", "fsync", "rename", "unlink", "ftruncate")
LEASE_CALLS = ("link", "openat", "rename", "unlink", "mkdir", "rmdir")
FAULTS = ("KILL", "ENOSPC", "ENOSPC+", "EIO", "EIO+")


def strace_works() -> bool:
    """Whether strace is installed and may trace."""
    words = ["strace", "-f", "--seccomp-bpf", "-e", "trace=fsync", "-o", os.devnull, "true"]
    try:
        return subprocess.run(words, capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


def prepare(program: str, folder: Path) -> None:
    """Write what the program replaces."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if program in ("replace", "naive"):
        (folder / "file").write_bytes(OLD)
    elif program == "experiment":
        write_experiment(folder, ExperimentRecord("exp", folder, title="old"))
    else:
        (folder / "trials").mkdir()
        old = TrialFolder(folder, TRIAL)
        old.create(CONTENT)
        old.append("metrics.jsonl", {"epoch": 1, "step": 1, "val/loss": 9.0})
        old.write_provenance(Provenance())
        old.finish(Result("failed", "an old attempt"))


def run(program: str, folder: Path, call: str = "", number: int = 0, fault: str = "", traced: bool = True):
    """Run a program with one fault; return its exit status, its result, and whether the fault occurred."""
    words = [sys.executable, "-P", "-m", "tests.faults.writers", program, str(folder)]
    environment = dict(ENVIRONMENT)
    log = folder.with_suffix(".strace")
    if not traced:
        environment["FATHOMLAB_FAULT"] = f"{call}:{number}:{fault}"
    elif call:
        how = "signal=KILL" if fault == "KILL" else f"error={fault.rstrip('+')}"
        every = "+" if fault.endswith("+") else ""
        paths = [word for path in paths_of(program, folder) for word in ("-P", path)]
        quick = [] if fault == "KILL" else ["--seccomp-bpf"]  # with which strace 6.1 delivers no signals
        tracer = ["strace", "-f", *quick, "-qq", "-o", str(log), "-e", f"trace={call}", *paths]
        words = [*tracer, "-e", f"inject={call}:{how}:when={number}{every}", *words]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60, check=False)
    killed = done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    met = killed or "INJECTED" in (log.read_text(errors="replace") if traced and call else done.stderr)
    return (-signal.SIGKILL if killed else done.returncode), done, met


KNOWN: dict[tuple[str, str], list[str]] = {}


def paths_of(program: str, folder: Path) -> list[str]:
    """Return every path below the folder that the program uses without faults; the names never change."""
    key = program, str(folder)
    if key not in KNOWN:
        prepare(program, folder)
        log = folder.with_suffix(".strace")
        trace = "trace=%file,write,fsync,ftruncate"
        words = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-y", "-e", trace, "-o", str(log)]
        words += [sys.executable, "-P", "-m", "tests.faults.writers", program, str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, check=False)
        assert done.returncode == 0, done.stderr
        named = re.findall(re.escape(str(folder)) + r'[^"<>\n]*', log.read_text(errors="replace"))
        KNOWN[key] = sorted(set(named))
        prepare(program, folder)
    return KNOWN[key]


def problems(program: str, folder: Path, printed: Sequence[str], status: int) -> list[str]:
    """Return the broken promises after a fault."""
    if program in ("replace", "naive"):
        now = (folder / "file").read_bytes() if (folder / "file").exists() else b""
        intact = now == NEW or (now == OLD and "written" not in printed)
        return [] if intact else [f"{len(now)} bytes that are neither the old nor the new file"]
    if program == "experiment":
        record = Store(folder).experiment("exp")
        intact = record.cause is None and (
            record.title == "new" or (record.title == "old" and "written" not in printed)
        )
        return [] if intact else [f"experiment: {record.cause or record.title}"]
    if program == "quarantine_trial":
        places = [folder / "trials" / TRIAL, folder / "damaged" / f"{TRIAL}-1"]
        intact = sum((place / "result.json").exists() for place in places) == 1
        return [] if intact and (places[1].exists() or not printed) else ["neither in its place nor quarantined"]
    return _trial_problems(folder, printed, writers.leased if program == "leased" else writers.trial)


def _trial_problems(root: Path, printed: Sequence[str], write: Callable[[Path], None]) -> list[str]:
    result, record = [], Store(root).trial(TRIAL)
    if "finished" in printed and record.status != "finished":
        result.append(f"promised as finished, is {record.status}: {record.cause}")
    if record.status == "damaged" and any(word.startswith("state") for word in printed):
        result.append(f"damaged: {record.cause}")
    if record.status == "finished":
        result += _unfinished(root)
    else:
        promised = max((int(word.split()[1]) for word in printed if word.startswith("state")), default=0)
        if promised > max(_whole_states(root), default=0):
            result.append(f"the state of step {promised} was promised; whole are {_whole_states(root)}")
    announce, writers.announce = writers.announce, lambda word: None
    try:
        if record.status != "finished":
            write(root)
    except LeaseHeldError as error:
        return [*result, f"after going on: {error}"]
    finally:
        writers.announce = announce
    result += [f"a lease is left: {lease}" for lease, _ in live_leases(root)]
    return result + [f"after going on: {text}" for text in _unfinished(root)]


def _whole_states(root: Path) -> list[int]:
    intact, folder = [], root / "trials" / TRIAL
    for step in checkpoint_steps(folder):
        try:
            if read_checked(checkpoint_path(folder, step))[1] == writers.state_bytes(step):
                intact.append(step)
        except CorruptFileError:
            continue
    return intact


def _unfinished(root: Path) -> list[str]:
    """Return what a finished trial lacks."""
    record = Store(root).trial(TRIAL)
    if record.status != "finished":
        return [f"{record.status}: {record.cause}"]
    result = []
    expected = [writers.line(step) for step in range(1, STEPS + 1)]
    if record.curves != {name: [item[name] for item in expected] for name in expected[0]}:
        result.append(f"its log holds {record.curves}")
    for name, digest in record.files.items():
        if file_sha256(record.folder / name) != digest.sha256:
            result.append(f"{name} is not what its result says")
    return result


def points(
    program: str, folder: Path, calls: Sequence[str], faults: Sequence[str], traced: bool = True, step: int = 1
) -> GateResult:
    """Inject each fault at every `step`-th call of each kind, until the program makes no more such calls."""
    result = GateResult()
    for call in calls if traced else [call for call in calls if call in WRAPPED]:
        for fault in faults:
            number = 1
            while True:
                prepare(program, folder)
                status, done, met = run(program, folder, call, number, fault, traced)
                printed = done.stdout.split("\n")[:-1]
                where = f"{program}, {call} {number}, {fault}"
                if not met:
                    result.check(status == 0, f"{where}: undisturbed, but ends with {status}: {done.stderr[-300:]}")
                    break
                result.counts["points"] += 1
                result.counts[fault] += 1
                result.check(status in (0, 3, -signal.SIGKILL), f"{where}: status {status}: {done.stderr[-500:]}")
                litter = [path.name for path in folder.rglob(".*.tmp")]
                if fault != "KILL" and call != "unlink":
                    result.check(not litter, f"{where}: left over: {litter}")
                for problem in problems(program, folder, printed, status):
                    result.check(False, f"{where}: {problem}")
                number += step
    return result
