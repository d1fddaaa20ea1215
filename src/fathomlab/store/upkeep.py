"""Maintenance of a store: verify every file, repair, and remove what is not needed. No torch."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fathomlab.base.files import atomic_write
from fathomlab.store.reading import Store
from fathomlab.store.sealed import Damaged, file_sha256, read_sealed, sealed_line, whole_records
from fathomlab.store.states import state_path, state_steps, verified_steps
from fathomlab.store.writing import put_aside

TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")
DONE = ("finished", "diverged")
YOUNG_SECONDS = 3600
Did = dict[str, Any]


def check_store(root: Path) -> dict[str, Any]:
    """Compare every file with its checksum.

    Returns:
        `trials` and `files`, the numbers checked; `faults`, each with `path` and `problem`.
    """
    store, faults, files = Store(root), list[dict[str, str]](), 0
    trials = store.trials()
    for trial in trials:
        record = store.trial(trial)
        if record.status == "damaged":
            faults.append({"path": str(record.folder), "problem": str(record.cause)})
        for name, about in record.files.items():
            files += 1
            if name.endswith((".safetensors", ".bin")) and (problem := _problem(record.folder / name, about)):
                faults.append({"path": str(record.folder / name), "problem": problem})
        for path in [
            *(state_path(record.folder, step) for step in state_steps(record.folder)),
            *record.folder.glob("logits.sealed"),
        ]:
            files += 1
            try:
                read_sealed(path)
            except Damaged as error:
                faults.append({"path": str(path), "problem": str(error).partition(": ")[2]})
    for experiment in store.experiments():
        files += 1
        if experiment.cause is not None:
            faults.append({"path": str(experiment.folder), "problem": experiment.cause})
    return {"trials": len(trials), "files": files, "faults": faults}


def rebuild_store(root: Path) -> list[Did]:
    """Remove stale temporary files, truncate incomplete logs, and quarantine corrupted checkpoints and trials."""
    store, done = Store(root), list[Did]()
    for path in _temporaries(root):
        done.append(_remove(path, "stale temporary file"))
    for trial in store.trials():
        record = store.trial(trial)
        if record.status not in DONE and not (record.folder / "result.json").exists():
            done += [_did(path, "incomplete last line removed") for path in _cut(record.folder)]
        _, corrupt = verified_steps(record.folder)
        done += [_did(record.folder / name, f"corrupted; renamed to {name}.corrupt") for name in corrupt]
        record = store.trial(trial)
        if record.status == "damaged":
            done.append(_did(record.folder, f"{record.cause}; moved to {put_aside(record.folder)}"))
    return done


def prune_store(root: Path, unfinished: bool, orphans: bool, damaged: bool, dry_run: bool) -> list[Did]:
    """Remove checkpoints of finished trials and stale files; optionally also trials and quarantined files."""
    store, done = Store(root), list[Did]()
    needed = {trial for record in store.experiments() for own in record.conditions for _, trial in own.trials}
    for path in _temporaries(root):
        done.append(_remove(path, "stale temporary file", dry_run))
    for trial in store.trials():
        record = store.trial(trial)
        if orphans and trial not in needed:
            done.append(_remove(record.folder, "belongs to no experiment", dry_run))
        elif unfinished and record.status not in DONE:
            done.append(_remove(record.folder, f"is {record.status}", dry_run))
        else:
            for path in record.folder.glob("*.corrupt"):
                done.append(_remove(path, "corrupted", dry_run))
            if record.status in DONE:
                for step in state_steps(record.folder):
                    done.append(_remove(state_path(record.folder, step), "the trial is finished", dry_run))
    if damaged and (root / "damaged").is_dir():
        done += [_remove(path, "quarantined", dry_run) for path in sorted((root / "damaged").iterdir())]
    return done


def _problem(path: Path, about: Any) -> str:
    try:
        return "" if file_sha256(path) == about.get("sha256") else "is corrupted (checksum mismatch)"
    except (OSError, AttributeError):
        return "is missing"


def _temporaries(root: Path) -> Iterator[Path]:
    """Temporary files whose writers have ended."""
    for folder in [root, *(root / "trials").glob("*/"), *(root / "experiments").glob("*/")]:
        for path in folder.glob(".*.tmp"):
            found = TEMPORARY.fullmatch(path.name)
            if found and not _writing(path, int(found[1])):
                yield path


def _writing(path: Path, pid: int) -> bool:
    """Whether the writer of a temporary file may be at work: by its process on Linux, by the file's age elsewhere."""
    if os.path.isdir("/proc/self"):
        return os.path.exists(f"/proc/{pid}")
    return time.time() - path.stat().st_mtime < YOUNG_SECONDS


def _cut(folder: Path) -> Iterator[Path]:
    for path in folder.glob("*.jsonl"):
        records = whole_records(path)
        whole = "".join(sealed_line(record) for record in records).encode()
        if path.read_bytes() != whole:
            atomic_write(path, whole)
            yield path


def _remove(path: Path, why: str, dry_run: bool = False) -> Did:
    size = (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )
    if not dry_run:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return _did(path, f"{why}; {'would be removed' if dry_run else 'removed'}") | {"bytes": size}


def _did(path: Path, did: str) -> Did:
    return {"path": str(path), "did": did}
