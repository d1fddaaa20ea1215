"""The upkeep of a store: verify every file, repair what can be derived, remove what is not needed. No torch."""

import os
import re
import shutil
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
Did = dict[str, Any]


def check_store(root: Path) -> dict[str, Any]:
    """Every file against its hash.

    Returns:
        `trials` and `files`, how many were looked at; `faults`, each with `path` and `problem`.
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
    """Repair what can be: leavings of dead writers go, torn logs are cut, damaged states and trials are set aside."""
    store, done = Store(root), list[Did]()
    for path in _temporaries(root):
        done.append(_remove(path, "left by a writer that died; removed"))
    for trial in store.trials():
        record = store.trial(trial)
        if record.status not in DONE and not (record.folder / "result.json").exists():
            done += [_did(path, "its torn end was cut off") for path in _cut(record.folder)]
        _, corrupt = verified_steps(record.folder)
        done += [_did(record.folder / name, f"is damaged; set aside as {name}.corrupt") for name in corrupt]
        record = store.trial(trial)
        if record.status == "damaged":
            done.append(_did(record.folder, f"{record.cause}; set aside as {put_aside(record.folder)}"))
    return done


def prune_store(root: Path, unfinished: bool, orphans: bool, damaged: bool, dry_run: bool) -> list[Did]:
    """Remove checkpoints of finished trials and leavings; with the options also whole trials and what was set aside."""
    store, done = Store(root), list[Did]()
    needed = {trial for record in store.experiments() for own in record.conditions for _, trial in own.trials}
    for path in _temporaries(root):
        done.append(_remove(path, "left by a writer that died", dry_run))
    for trial in store.trials():
        record = store.trial(trial)
        if orphans and trial not in needed:
            done.append(_remove(record.folder, "belongs to no experiment", dry_run))
        elif unfinished and record.status not in DONE:
            done.append(_remove(record.folder, f"is {record.status}", dry_run))
        else:
            for path in record.folder.glob("*.corrupt"):
                done.append(_remove(path, "was damaged", dry_run))
            if record.status in DONE:
                for step in state_steps(record.folder):
                    done.append(_remove(state_path(record.folder, step), "its trial is finished", dry_run))
    if damaged and (root / "damaged").is_dir():
        done += [_remove(path, "was set aside as damaged", dry_run) for path in sorted((root / "damaged").iterdir())]
    return done


def _problem(path: Path, about: Any) -> str:
    try:
        return "" if file_sha256(path) == about.get("sha256") else "is not what was written (its SHA-256 differs)"
    except (OSError, AttributeError):
        return "is missing"


def _temporaries(root: Path) -> Iterator[Path]:
    """Temporary files whose writers are dead."""
    for folder in [root, *(root / "trials").glob("*/"), *(root / "experiments").glob("*/")]:
        for path in folder.glob(".*.tmp"):
            found = TEMPORARY.fullmatch(path.name)
            if found and not os.path.exists(f"/proc/{found[1]}"):
                yield path


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
