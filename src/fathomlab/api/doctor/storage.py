"""Datasets, the results directory, and optional packages."""

import importlib.metadata
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fathomlab.api.doctor.checks import Check
from fathomlab.base.labels import count

DATA, RESULTS, EXTRAS = "Data", "Results", "Optional packages"
REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:[^;]*>=\s*(?P<least>[0-9.]+))?[^;]*(?:;.*extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"])?"
)
LITTLE_SPACE, TOO_LITTLE_SPACE = 1e9, 5e7  # a trial of a bundled experiment needs up to 170 MB


def datasets() -> Iterator[Check]:
    """The data folder and each dataset."""
    from fathomlab import data
    from fathomlab.data.cache import data_dir
    from fathomlab.data.download import is_offline

    folder = data_dir()
    if os.path.lexists(folder) and not folder.is_dir():
        yield Check(DATA, "data folder", f"{folder} is not a folder", "problem", "Set FATHOMLAB_DATA to a folder.")
    else:
        yield Check(DATA, "data folder", f"{folder}{'' if folder.is_dir() else ' (does not exist yet)'}")
    for row in data.status():
        if row.present:
            value = f"{row.state}, {row.folder} ({row.bytes / 1e6:.0f} MB)" if row.folder else row.state
            yield Check(DATA, row.name, value)
        else:
            how = "FATHOMLAB_OFFLINE disables downloads" if is_offline() else "the first run downloads it"
            value = f"not installed; {how}" if row.state == "missing" else row.state
            yield Check(DATA, row.name, value, "note", f"Or: {row.remedy}" if row.state == "missing" else row.remedy)


def results_directory(root: Path) -> Iterator[Check]:
    """Whether results can be written, what is there, and what kind of disk it is on."""
    from fathomlab.store.lock import CLOUD_DRIVES, fs_type, is_locked, lock_failure, network_fs_type

    path = root.absolute()
    existing = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    other = "Choose another directory with --runs or FATHOMLAB_RUNS."
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"fathomlab")
    except OSError as error:
        yield Check(RESULTS, "directory", f"{path} is not writable ({error.strerror or error})", "problem", other)
        return
    yield Check(RESULTS, "directory", f"{path}, writable{'' if existing == path else ' (does not exist yet)'}")
    if (path / "trials").is_dir():
        from fathomlab.store.reading import Store

        store = Store(path)
        content = f"{count(len(store.trials()), 'trial')}, {count(len(store.experiment_names()), 'experiment')}"
        yield Check(RESULTS, "content", f"{content}{', in use by a running fathomlab' if is_locked(path) else ''}")
    kind, network = fs_type(existing), network_fs_type(existing)
    alone = "Run one fathomlab at a time in this directory, or choose a local one with --runs."
    if network.startswith(CLOUD_DRIVES):
        yield Check(RESULTS, "file system", f"{network}: other computers see files late", "note", alone)
    elif network:
        yield Check(RESULTS, "file system", f"{network} (network): several computers may train here, with leases")
    elif kind:
        yield Check(RESULTS, "file system", f"{kind} (local)")
    failure = lock_failure(existing)
    if failure.startswith("no locks"):
        yield Check(RESULTS, "locks", f"{failure}; runs use leases instead")
    else:
        yield Check(RESULTS, "locks", failure or "work", "note" if failure else "ok", alone if failure else "")
    free = shutil.disk_usage(existing).free
    status = "problem" if free < TOO_LITTLE_SPACE else "note" if free < LITTLE_SPACE else "ok"
    remedy = "" if status == "ok" else f"Free some space: fathomlab store prune. {other}"
    yield Check(RESULTS, "free space", f"{free / 1e9:.1f} GB", status, remedy)


def required_packages(requirements: Sequence[str]) -> Iterator[Check]:
    """Whether all packages that fathomlab needs are installed, and new enough."""
    needed = [match for text in requirements if ";" not in text and (match := REQUIREMENT.match(text))]
    missing = [match["name"] for match in needed if _version(match["name"]) is None]
    old = [match for match in needed if _is_older(_version(match["name"]), match["least"])]
    if missing:
        text, remedy = f"missing: {', '.join(missing)}", f"Install them: pip install {' '.join(missing)}"
        yield Check("System", "packages", text, "problem", remedy)
    for match in old:
        text = f"{match['name']} {_version(match['name'])} is older than {match['least']}"
        yield Check("System", "packages", text, "problem", f'Run: pip install "{match["name"]}>={match["least"]}"')
    if not missing and not old:
        yield Check("System", "packages", f"all {len(needed)} required packages are installed")


def _is_older(version: str | None, least: str | None) -> bool:
    """Whether a version is older than the least one; False if one of them is not known. Only numbers are compared."""
    if version is None or least is None:
        return False
    installed, needed = (
        [int(number) for number in re.findall(r"\d+", re.split(r"[+a-z]", text)[0])] for text in (version, least)
    )
    return installed < needed


def extras(requirements: Sequence[str]) -> Iterator[Check]:
    """Each optional package with its version, or how to install it."""
    for text in requirements:
        match = REQUIREMENT.match(text)
        if match is None or match["extra"] is None:
            continue
        name, extra, version = match["name"], match["extra"], _version(match["name"])
        remedy = "" if version else f'Optional: pip install "fathomlab[{extra}]"'
        yield Check(EXTRAS, name, version or "not installed", "ok" if version else "note", remedy)


def requirements() -> list[str]:
    """What the installed fathomlab requires."""
    return importlib.metadata.requires("fathomlab") or []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
