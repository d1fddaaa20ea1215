"""Writes trial and experiment folders: the files are the truth, and `result.json`, written last, makes a trial finished."""

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
    """The store's folder, made where it is missing.

    Raises:
        UserError: It cannot be written.
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
            "unwritable", f"{root}: results cannot be written there: {reason}. Choose another folder with --runs."
        ) from None
    return root


def check_room(root: Path, needed: int) -> None:
    """Refuse to begin what will not fit.

    Raises:
        UserError: The disk has less free space than `needed` bytes.
    """
    free = shutil.disk_usage(root).free
    if free < needed:
        raise UserError(
            "disk-full",
            f"{root}: the disk has {free / 1e6:.0f} MB free and this run needs about {needed / 1e6:.0f} MB. "
            "Make room, or choose another folder with --runs.",
        )


class TrialFolder:
    """The folder of one trial while it is trained."""

    def __init__(self, root: Path, trial: str):
        """Nothing is touched; `begin` or `go_on` comes next."""
        self.trial, self.root, self.path = trial, root, root / "trials" / trial
        self.lines: dict[str, int] = {}
        self._waiting: dict[str, str] = {}
        self._doubtful: dict[str, int] = {}

    def begin(self, content: Mapping[str, Any], logging: Mapping[str, Any] | None = None) -> None:
        """Begin anew: what an attempt that failed or stopped has left is removed, a finished but damaged one put aside.

        `logging` is kept beside the content for exporters; it is no part of what the trial is.
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
        """Whether the logs still have so many whole lines each."""
        return all(len(whole_records(self.path / name)) >= lines for name, lines in logs.items())

    def go_on(self, logs: Mapping[str, int]) -> None:
        """Cut the logs back to so many lines each, as they were at a state, so that nothing is recorded twice."""
        (self.path / "result.json").unlink(missing_ok=True)  # of an attempt that failed
        for path in self.path.glob(".*.tmp"):  # of a writer that was killed
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
        """Write one JSON document, whole or not at all."""
        atomic_write(self.path / name, json.dumps(finite(value), indent=1) + "\n")

    def write_bytes(self, name: str, value: bytes) -> None:
        """Write a file, whole or not at all."""
        atomic_write(self.path / name, value)

    def append(self, name: str, record: Mapping[str, Any]) -> bool:
        """Add one sealed line to a log; False where the disk refused, and the line waits for the next time."""
        self._waiting[name] = self._waiting.get(name, "") + sealed_line(finite(record))
        self.lines[name] = self.lines.get(name, 0) + 1
        try:
            self._flush(name)
        except OSError:
            return False
        return True

    def _flush(self, name: str, durable: bool = False) -> None:
        path, rest = self.path / name, self._waiting.get(name, "").encode()
        if name in self._doubtful:  # after an error the kernel's word on the old file counts for nothing: a new one
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
                    with contextlib.suppress(OSError):  # no half line should stay
                        os.ftruncate(file.fileno(), size)
                    raise
        self._waiting[name] = ""

    def settle(self) -> None:
        """Make all logs durable.

        Raises:
            OSError: The disk refuses; nothing that rests on these logs may be written.
        """
        for path in self.path.glob("*.jsonl"):
            self._waiting.setdefault(path.name, "")
        for name in list(self._waiting):
            self._flush(name, durable=True)

    def finish(
        self, status: str, cause: str | None, metrics: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the result, last of all files, with the SHA-256 of every other file; returns it.

        Raises:
            OSError: The disk refuses; the trial is not finished then.
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
    """Whether a file of a trial's folder is not part of its result."""
    return name in BESIDE or NAME.fullmatch(name) is not None or name.endswith(".corrupt")


def put_aside(folder: Path) -> Path:
    """Move a damaged trial's folder out of the way, to `damaged/` beside `trials/`; nothing is deleted."""
    aside = folder.parents[1] / "damaged"
    aside.mkdir(exist_ok=True)
    for number in range(1, 10_000):
        target = aside / f"{folder.name}-{number}"
        if not target.exists():
            folder.rename(target)
            sync_folder(aside)
            return target
    raise OSError(f"{aside} is full of copies of one trial")


def same_record(root: Path, name: str, record: Mapping[str, Any]) -> bool:
    """Whether an experiment's record is in the store just so."""
    try:
        about = json.loads((root / "experiments" / name / "experiment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("seal") == seal(finite({"format": FORMAT, "name": name, **record}))


def write_experiment(root: Path, name: str, record: Mapping[str, Any]) -> Path:
    """Write an experiment's record; returns its folder.

    Raises:
        UserError: The disk refuses.
    """
    folder = root / "experiments" / name
    document = finite({"format": FORMAT, "name": name, **record})
    if folder.is_symlink():
        raise UserError("unwritable", f"{folder}: is a link; nothing is written through it. Remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "experiment.json", json.dumps(document | {"seal": seal(document)}, indent=1) + "\n")
    except OSError as error:
        free = shutil.disk_usage(root).free / 1e6
        raise UserError(
            "unwritable",
            f"{folder}: the experiment's record cannot be written: {error.strerror or error} ({free:.1f} MB free).",
        ) from None
    return folder


def finite(value: Any) -> Any:
    """`value` with NaN and infinities as None, which JSON can say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
