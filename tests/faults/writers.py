"""Programs that write files while system calls are made to fail. They do not load torch.

Each prints a word as soon as data must be durable; whatever happens afterwards, the data must be there. Usage:
`python -m tests.faults.writers <program> <folder>`. FATHOMLAB_FAULT=<call>:<number>:<fault> injects without strace.
"""

import errno
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fathomlab.base import files
from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write
from fathomlab.base.identity import content_hash
from fathomlab.store.checkpoints import MAX_TO_KEEP, checkpoint_path, checkpoint_steps, delete_checkpoints
from fathomlab.store.checksums import CorruptFileError, read_checked, write_checked
from fathomlab.store.directory import TrialFolder, quarantine, write_experiment
from fathomlab.store.leases import Lease
from fathomlab.store.provenance import Provenance
from fathomlab.store.records import ExperimentRecord, Result

OLD, NEW = b"old" * 3000, b"new" * 4000
CONTENT = {"seed": 3}
TRIAL = content_hash(CONTENT)
STEPS, EPOCH = 6, 2
PAYLOAD = bytes(range(256)) * 20


def announce(word: str) -> None:
    """Print a promise: what was written must now be durable."""
    os.write(1, word.encode() + b"\n")


def replace(folder: Path) -> None:
    """Replace a file."""
    atomic_write(folder / "file", NEW)
    announce("written")


def naive(folder: Path) -> None:
    """Replace a file without care: this must be detected as broken."""
    with open(folder / "file", "wb") as file:
        file.write(NEW[:6000])
        file.flush()
        file.write(NEW[6000:])
    announce("written")


def state_bytes(step: int) -> bytes:
    """Return the payload of the checkpoint of a step."""
    return PAYLOAD + str(step).encode()


def line(step: int) -> dict[str, Any]:
    """Return the log line of a step."""
    return {"epoch": step, "step": step, "val/loss": step / 3}


def trial(root: Path, lease: Lease | None = None) -> None:
    """Write a trial from its first file to its result, over an earlier attempt, as a run does."""
    folder = TrialFolder(root, TRIAL, lease)
    (root / "trials").mkdir(exist_ok=True)
    first = 0
    for step in checkpoint_steps(folder.path):
        try:
            metadata, payload = read_checked(checkpoint_path(folder.path, step))
        except CorruptFileError:
            continue
        if payload == state_bytes(step) and folder.has_lines(metadata["logs"]):
            folder.resume(metadata["logs"])
            first = step
            break
    if not first:
        folder.create(CONTENT)
    for step in range(first + 1, STEPS + 1):
        folder.append("metrics.jsonl", line(step))
        if step % EPOCH:
            continue
        try:
            folder.flush()
            write_checked(
                checkpoint_path(folder.path, step), {"logs": folder.lines}, [state_bytes(step)], folder.verify
            )
        except (OSError, CorruptFileError):
            continue
        announce(f"state {step}")
        delete_checkpoints(folder.path, checkpoint_steps(folder.path)[:MAX_TO_KEEP])
    folder.write_bytes("checkpoint.safetensors", PAYLOAD)
    folder.write_provenance(Provenance(threads=1))
    folder.finish(Result("finished", epochs=STEPS, steps=STEPS, seconds=1, metrics={"test/loss": 0.5}))
    announce("finished")
    delete_checkpoints(folder.path, [])


def leased(root: Path) -> None:
    """The same with a lease."""
    with Lease(root, [TRIAL]) as lease:
        trial(root, lease)


def quarantine_trial(root: Path) -> None:
    """Quarantine a corrupted trial."""
    announce(f"quarantined {quarantine(root / 'trials' / TRIAL).name}")


def experiment(root: Path) -> None:
    """Overwrite an experiment's record."""
    write_experiment(root, ExperimentRecord("exp", root, title="new", yaml="x" * 9000))
    announce("written")


def records(root: Path) -> None:
    """Write many records into a trial; print the longest CPU times of one record (s)."""
    count, seed = (int(os.environ[name]) for name in ("FATHOMLAB_RECORDS", "FATHOMLAB_WRITER"))
    content = {"seed": seed}
    folder, taken = TrialFolder(root, content_hash(content)), []
    folder.create(content)
    for number in range(1, count + 1):
        started = time.process_time()
        if not folder.append("metrics.jsonl", {"epoch": number, "step": number, "writer": seed}):
            raise OSError("a record was refused")
        if number % 100 == 0:
            folder.flush()
        taken.append(time.process_time() - started)
    folder.write_provenance(Provenance())
    folder.finish(Result("finished", epochs=count, steps=count, seconds=1))
    announce(" ".join(f"{item:.6f}" for item in sorted(taken)[-max(1, count // 50) :]))


PROGRAMS: dict[str, Callable[[Path], None]] = {
    own.__name__: own for own in (replace, naive, trial, leased, quarantine_trial, experiment, records)
}
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
WRAPPED = {"fsync": ("fsync",), "rename": ("rename", "replace"), "unlink": ("unlink",), "ftruncate": ("ftruncate",)}


def _inject(wanted: str) -> None:
    """Make call N of a function of `os` fail, or kill this process before it; with `+` also all later calls."""
    call, number, fault = wanted.split(":")
    count = [0]

    def wrapped(real: Callable[..., Any], *given: Any, **more: Any) -> Any:
        count[0] += 1
        if count[0] == int(number) or (fault.endswith("+") and count[0] > int(number)):
            print("INJECTED", file=sys.stderr, flush=True)
            if fault == "KILL":
                os.kill(os.getpid(), signal.SIGKILL)
            code = ERRORS[fault.rstrip("+")]
            raise OSError(code, os.strerror(code))
        return real(*given, **more)

    for name in WRAPPED[call]:
        setattr(os, name, partial(wrapped, getattr(os, name)))


if __name__ == "__main__":
    fault = os.environ.get("FATHOMLAB_FAULT")
    if fault is None and sys.argv[1] != "records":
        os.getpid = lambda: 4_000_000  # so that names of temporary files are known to the tracer
        files.PROCESS = "0"
        uuid.uuid4 = lambda: uuid.UUID(int=7)  # and those of leases
    elif fault is not None:
        _inject(fault)
    try:
        PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
    except (OSError, UserError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(3) from None
