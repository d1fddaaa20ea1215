"""Decoded datasets in the user's cache, so that all processes of a machine share one copy of the images, in the page cache.

`<key>.json` has the origin of a dataset: the SHA-256 of its files. `<sha256>.npz` has its arrays. The key is that of the files,
the options, and the code that reads them. Every process verifies the arrays that it maps.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_cache_path

from fathomlab.base.files import atomic_file, atomic_write
from fathomlab.base.identity import content_hash
from fathomlab.base.options import option_values
from fathomlab.data.array_files import map_arrays, write_arrays
from fathomlab.data.arrays import FIELDS, content_sha256
from fathomlab.data.cache import data_dir, locate
from fathomlab.data.checksums import sha256_of, trusted_checksums
from fathomlab.data.table import Dataset, DatasetArrays

if TYPE_CHECKING:
    import numpy as np

UNUSED_SECONDS = 60 * 24 * 3600


def load_shared(dataset: Dataset) -> DatasetArrays:
    """Return the examples of a built-in dataset from the cache; they are decoded and stored first if it does not have them.

    The arrays are verified. If the cache cannot be written, they belong to this process alone.

    Raises:
        UserError: If files are missing or are not the published ones.
    """
    folder = user_cache_path("fathomlab") / "data"
    arrays = _open(folder, dataset)
    if arrays is not None:
        return arrays
    from filelock import FileLock

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                FileLock(folder / ".lock")
            )  # two files with the same images would be two copies in memory
        arrays = _open(folder, dataset)
        if arrays is not None:
            return arrays
        arrays = dataset.load()
        with contextlib.suppress(OSError):
            _write(folder, _key(dataset, arrays.files), arrays)
        return _open(folder, dataset) or arrays


def _open(folder: Path, dataset: Dataset) -> DatasetArrays | None:
    """Map the arrays; None if the cache does not have them, or if they are corrupted."""
    try:
        key = _key(dataset, _checksums(dataset))
        facts: Any = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        files, modified, notes = dict(facts["files"]), tuple(facts["modified"]), tuple(facts["notes"])
        arrays = _map_verified(folder, facts["sha256"]) if key == _key(dataset, files) else None
        return None if arrays is None else DatasetArrays(**arrays, files=files, modified=modified, notes=notes)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _map_verified(folder: Path, sha256: str) -> "dict[str, np.ndarray] | None":
    """Map the arrays with this SHA-256; None if they are missing or corrupted."""
    path = folder / f"{sha256}.npz"
    try:
        arrays = map_arrays(path)
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be written is also used
        os.utime(path)
    return arrays if content_sha256(arrays) == sha256 else None


def _write(folder: Path, key: str, arrays: DatasetArrays) -> None:
    """Store the arrays. Those that were not opened for two months are removed."""
    old = time.time() - UNUSED_SECONDS
    for path in (*folder.glob("*.npz"), *folder.glob(".*.tmp")):  # the latter of processes that were killed
        with contextlib.suppress(OSError):  # Windows keeps files that are mapped
            if path.stat().st_mtime < old:
                path.unlink()
    contents = {name: getattr(arrays, name) for name in FIELDS}
    sha256 = content_sha256(contents)
    if _map_verified(folder, sha256) is None:  # another version of fathomlab may have written it
        with atomic_file(folder / f"{sha256}.npz") as file:
            write_arrays(file, contents)
    facts = {"sha256": sha256, "files": arrays.files, "modified": arrays.modified, "notes": arrays.notes}
    atomic_write(folder / f"{key}.json", json.dumps(facts, indent=1))


def _key(dataset: Dataset, files: Mapping[str, str]) -> str:
    """The name of a dataset in the cache. Generated datasets have no files that are known before they are loaded."""
    known = dict(files) if dataset.layout is not None else {}
    return content_hash({"name": dataset.info.name, "params": option_values(dataset), "files": known, "code": _code()})


def _checksums(dataset: Dataset) -> dict[str, str]:
    """SHA-256 of the files of a dataset by their published names, as `sha256_of` knows them.

    Raises:
        ValueError: If one is missing, or is not the published one and not trusted.
    """
    checksums: dict[str, str] = {}
    root = data_dir()
    for located in locate(dataset.layout, root) if dataset.layout is not None else ():
        if located.path is None:
            raise ValueError("a file is missing")
        sha256 = sha256_of(located.path, root)
        if sha256 != located.published.sha256 and sha256 not in trusted_checksums(located.path, root):
            raise ValueError("a file is corrupted")
        checksums[located.published.name] = sha256
    return checksums


@cache
def _code() -> str:
    """SHA-256 of the modules that read or generate datasets."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
