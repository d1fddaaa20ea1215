"""Writes trial and experiment directories. A trial is finished when `result.json`, which is written last, exists."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fathomlab.base.files import atomic_write, sync_folder
from fathomlab.base.problems import UserError
from fathomlab.store.reading import Store
from fathomlab.store.sealed import file_sha256, seal, sealed_line, whole_records
from fathomlab.store.states import NAME

FORMAT = 2
BESIDE = ("result.json", "logits.sealed")


def open_store(root: Path) -> Path:
    """The store's directory, created if it is missing.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        (root / "trials").mkdir(parents=True, exist_ok=True)
        (root / "experiments").mkdir(exist_ok=True)
        probe = root / ".writable"
        atomic_write(probe, b"")
        probe.unlink(missing_ok=True)  # another process may be asking the same
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            "unwritable", f"{root}: cannot write results: {reason}. Choose another directory with --runs."
        ) from None
    return root


def check_room(root: Path, needed: int) -> None:
    """Check that enough disk space is free.

    Raises:
        UserError: If fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(root).free
    if free < needed:
        raise UserError(
            "disk-full",
            f"{root}: not enough disk space: {free / 1e6:.0f} MB free, about {needed / 1e6:.0f} MB needed. "
            "Free some space, or choose another directory with --runs.",
        )


class TrialFolder:
    """The directory of one trial during training."""

    def __init__(self, root: Path, trial: str):
        """Change nothing; call `begin` or `go_on` next."""
        self.trial, self.root, self.path = trial, root, root / "trials" / trial
        self.lines: dict[str, int] = {}
        self._waiting: dict[str, str] = {}
        self._doubtful: dict[str, int] = {}

    def begin(self, content: Mapping[str, Any], logging: Mapping[str, Any] | None = None) -> None:
        """Start from scratch: remove an earlier attempt, or quarantine a finished but corrupted trial.

        `logging` is stored next to the content for exporters; it is not part of the trial's identity.
        """
        if (self.path / "result.json").exists() and Store(self.root).trial(self.trial).status == "damaged":
            put_aside(self.path)
        elif self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        sync_folder(self.path.parent)
        about = finite({"format": FORMAT, "trial": self.trial, "content": content, "logging": logging or {}})
        self.write("trial.json", about | {"seal": seal(about)})

    def holds(self, logs: Mapping[str, int]) -> bool:
        """Whether each log still has this number of valid lines."""
        return all(len(whole_records(self.path / name)) >= lines for name, lines in logs.items())

    def go_on(self, logs: Mapping[str, int]) -> None:
        """Truncate the logs to these numbers of lines, as they were at a checkpoint, so that nothing is recorded twice."""
        (self.path / "result.json").unlink(missing_ok=True)  # of a failed attempt
        for path in self.path.glob(".*.tmp"):  # of a killed writer
            path.unlink(missing_ok=True)
        for path in self.path.glob("*.jsonl"):
            if path.name not in logs:
                path.unlink()
        for name, lines in logs.items():
            path = self.path / name
            whole = "".join(sealed_line(record) for record in whole_records(path)[:lines]).encode()
            if path.read_bytes() != whole:
                atomic_write(path, whole)
        self.lines = dict(logs)

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one JSON document atomically."""
        atomic_write(self.path / name, json.dumps(finite(value), indent=1) + "\n")

    def write_bytes(self, name: str, value: bytes) -> None:
        """Write a file atomically."""
        atomic_write(self.path / name, value)

    def append(self, name: str, record: Mapping[str, Any]) -> bool:
        """Add one line to a log; False if writing failed. The line is then buffered until the next call."""
        self._waiting[name] = self._waiting.get(name, "") + sealed_line(finite(record))
        self.lines[name] = self.lines.get(name, 0) + 1
        try:
            self._flush(name)
        except OSError:
            return False
        return True

    def _flush(self, name: str, durable: bool = False) -> None:
        path, rest = self.path / name, self._waiting.get(name, "").encode()
        if name in self._doubtful:  # after an error the old file cannot be trusted, so write a new one
            atomic_write(path, path.read_bytes()[: self._doubtful[name]] + rest)
            del self._doubtful[name]
        else:
            with open(path, "ab", buffering=0) as file:
                size = file.tell()
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                    if durable:
                        os.fsync(file.fileno())
                except OSError:
                    self._doubtful[name] = size
                    with contextlib.suppress(OSError):  # remove the incomplete line
                        os.ftruncate(file.fileno(), size)
                    raise
        self._waiting[name] = ""

    def settle(self) -> None:
        """Make all logs durable.

        Raises:
            OSError: If writing fails. A checkpoint that refers to these logs must not be written then.
        """
        for path in self.path.glob("*.jsonl"):
            self._waiting.setdefault(path.name, "")
        for name in list(self._waiting):
            self._flush(name, durable=True)

    def finish(
        self, status: str, cause: str | None, metrics: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the result, the last of all files, with the SHA-256 of every other file; returns it.

        Raises:
            OSError: If writing fails. The trial is not finished then.
        """
        self.settle()
        result = finite(
            {
                "format": FORMAT,
                "trial": self.trial,
                "status": status,
                "cause": cause,
                **facts,
                "metrics": dict(metrics),
                "files": {
                    path.name: {"sha256": file_sha256(path), "size": path.stat().st_size}
                    for path in sorted(self.path.iterdir())
                    if path.is_file() and not path.name.startswith(".") and not _passing(path.name)
                },
            }
        )
        self.write("result.json", result | {"seal": seal(result)})
        return result


def _passing(name: str) -> bool:
    """Whether a file is temporary, so not part of the result."""
    return name in BESIDE or NAME.fullmatch(name) is not None or name.endswith(".corrupt")


def put_aside(folder: Path) -> Path:
    """Quarantine a corrupted trial: move its directory to `damaged/` next to `trials/`. Nothing is deleted."""
    aside = folder.parents[1] / "damaged"
    aside.mkdir(exist_ok=True)
    for number in range(1, 10_000):
        target = aside / f"{folder.name}-{number}"
        if not target.exists():
            folder.rename(target)
            sync_folder(aside)
            return target
    raise OSError(f"{aside} already holds 9,999 copies of this trial")


def same_record(root: Path, name: str, record: Mapping[str, Any]) -> bool:
    """Whether the store holds exactly this record of an experiment."""
    try:
        about = json.loads((root / "experiments" / name / "experiment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("seal") == seal(finite({"format": FORMAT, "name": name, **record}))


def write_experiment(root: Path, name: str, record: Mapping[str, Any]) -> Path:
    """Write an experiment's record; returns its directory.

    Raises:
        UserError: If writing fails.
    """
    folder = root / "experiments" / name
    document = finite({"format": FORMAT, "name": name, **record})
    if folder.is_symlink():
        raise UserError("unwritable", f"{folder}: is a symbolic link, which could lead out of the store. Remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "experiment.json", json.dumps(document | {"seal": seal(document)}, indent=1) + "\n")
    except OSError as error:
        free = shutil.disk_usage(root).free / 1e6
        raise UserError(
            "unwritable",
            f"{folder}: cannot write the experiment's record: {error.strerror or error} ({free:.1f} MB free).",
        ) from None
    return folder


def finite(value: Any) -> Any:
    """`value` with NaN and infinities replaced by None, which JSON can represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
