"""Users' datasets in a store, so that workers and reports need neither a plugin nor the original files. No torch.

`data/<digest>.json` has the facts about a dataset, `data/<sha256>.npz` its images and labels. The digest is that of the dataset's
identity, which also names the file with its test labels.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fathomlab.base.codec import JsonObject, to_plain
from fathomlab.base.files import atomic_file, atomic_write, is_special
from fathomlab.base.identity import content_hash
from fathomlab.data import DATASETS, load_installed
from fathomlab.data.array_files import map_arrays, write_arrays
from fathomlab.data.arrays import Arrays, content_sha256
from fathomlab.data.table import DatasetArrays, DatasetInfo
from fathomlab.data.users import DIGEST, UserDataset
from fathomlab.store.checksums import CorruptFileError, seal
from fathomlab.store.validation import FolderValidator

if TYPE_CHECKING:
    import numpy as np

FOLDER = "data"


def facts_path(root: Path, digest: str) -> Path:
    """The file with the facts about the dataset with this digest."""
    return root / FOLDER / f"{digest}.json"


def arrays_path(root: Path, sha256: str) -> Path:
    """The file with the images and labels of this SHA-256."""
    return root / FOLDER / f"{sha256}.npz"


def find_dataset(root: Path, content: JsonObject) -> UserDataset | None:
    """The user's dataset of a trial with this content; None if it has another dataset, or its facts are missing or corrupted."""
    data, plugins = content.get("data"), content.get("plugins")
    if not isinstance(data, Mapping) or "name" not in data:
        return None
    data = cast(Mapping[str, Any], data)
    base = {"name": data["name"], "params": data.get("params", {})}
    if "sha256" in data:
        return read_facts(root, {**base, "sha256": data["sha256"]})
    digests = cast(Mapping[str, Any], plugins).values() if isinstance(plugins, Mapping) else ()
    candidates = (read_facts(root, {**base, "plugin": digest}) for digest in digests)
    return next((dataset for dataset in candidates if dataset is not None), None)


def dataset_info(root: Path, content: JsonObject) -> DatasetInfo | None:
    """Facts about the dataset of a trial with this content: a user's, or a built-in one; None if they are unknown."""
    dataset = find_dataset(root, content)
    if dataset is not None:
        return dataset.info
    data = content.get("data")
    name = cast(Mapping[str, Any], data).get("name") if isinstance(data, Mapping) else None
    return DATASETS[name].info if isinstance(name, str) and name in DATASETS else None


def read_facts(root: Path, identity: Mapping[str, Any]) -> UserDataset | None:
    """The facts about the dataset with this identity; None if they are missing or corrupted."""
    try:
        digest = content_hash(identity)
    except (ValueError, RecursionError):  # what is never written: 1e999, endless nesting
        return None
    return _facts(facts_path(root, digest))


def _facts(path: Path) -> UserDataset | None:
    """The facts in a file, whose name is the digest of the dataset's identity."""
    files = FolderValidator(path.parent)
    dataset = files.value(path.name, UserDataset, required=False)
    return dataset if files.first_error is None and dataset is not None and dataset.digest == path.stem else None


def write_dataset(root: Path, dataset: UserDataset, arrays: Arrays) -> None:
    """Store a dataset, unless it is there. A corrupted file is replaced.

    Raises:
        OSError: If writing fails.
    """
    path = arrays_path(root, dataset.sha256)
    path.parent.mkdir(exist_ok=True)
    if not is_intact(path):
        with atomic_file(path) as file:
            write_arrays(file, arrays.by_name)
    if read_facts(root, dataset.identity) != dataset:
        text = json.dumps(seal({"data": dataset.digest, **to_plain(dataset)}), indent=1)
        atomic_write(facts_path(root, dataset.digest), text + "\n")


def read_arrays(root: Path, dataset: UserDataset) -> DatasetArrays:
    """Images and labels of a user's dataset, verified.

    Raises:
        CorruptFileError: If the file is missing or corrupted.
    """
    path = arrays_path(root, dataset.sha256)
    arrays = _read(path)
    images, labels = (arrays["train_images"], arrays["test_images"]), (arrays["train_labels"], arrays["test_labels"])
    return DatasetArrays(images[0], labels[0], images[1], labels[1], {path.name: dataset.sha256})


def installed_arrays(root: Path, content: JsonObject) -> DatasetArrays | None:
    """Images and labels of the dataset of a trial with this content, without a download; None if they are not on this machine."""
    dataset = find_dataset(root, content)
    if dataset is not None:
        try:
            return read_arrays(root, dataset)
        except CorruptFileError:
            return None
    data = content.get("data")
    options: JsonObject = cast(JsonObject, data) if isinstance(data, dict) else {}
    name, params = options.get("name"), options.get("params")
    return load_installed(name, cast(Any, params)) if isinstance(name, str) else None


def _read(path: Path) -> "dict[str, np.ndarray]":
    """The four arrays of a file, whose SHA-256 is the name of the file, mapped into memory."""
    try:
        if is_special(path):
            raise ValueError("not a file")
        arrays = map_arrays(path)
    except FileNotFoundError:
        raise CorruptFileError(f"{path}: missing. Run the experiment again to write it.") from None
    except (OSError, ValueError) as error:
        raise CorruptFileError(f"{path}: corrupted ({error}). Run `fathomlab store repair`, then run again.") from None
    if content_sha256(arrays) != path.stem:
        raise CorruptFileError(f"{path}: corrupted (checksum mismatch). Run `fathomlab store repair`, then run again.")
    return arrays


def dataset_files(root: Path) -> list[Path]:
    """The files of users' datasets, sorted by name, without temporary files and corrupted ones that were renamed."""
    return sorted(path for path in (root / FOLDER).glob("[0-9a-f]*") if path.suffix in (".json", ".npz"))


def is_intact(path: Path) -> bool:
    """Whether a file of `dataset_files` has what its name says."""
    if path.suffix == ".json":
        return _facts(path) is not None
    try:
        _read(path)
    except CorruptFileError:
        return False
    return True


def needed_files(root: Path, content: JsonObject) -> list[Path]:
    """The files of the dataset of a trial with this content; without the facts, those that its content names."""
    dataset = find_dataset(root, content)
    if dataset is not None:
        return [facts_path(root, dataset.digest), arrays_path(root, dataset.sha256)]
    data = content.get("data")
    sha256 = cast(Mapping[str, Any], data).get("sha256") if isinstance(data, Mapping) else None
    return [arrays_path(root, sha256)] if isinstance(sha256, str) and DIGEST.fullmatch(sha256) else []


def change_of(root: Path, dataset: UserDataset) -> str:
    """What is wrong if a function returns other arrays than those that trials of the store were trained with; or `""`."""
    stored = read_facts(root, dataset.identity)
    if stored is None or stored.sha256 == dataset.sha256:
        return ""
    return (
        f"data.name: {dataset.info.name} returns other images or labels than in an earlier run with the same code and options "
        f"(SHA-256 {dataset.sha256[:12]}, before {stored.sha256[:12]}). Seed its random generators. If it reads a file that has "
        "changed on purpose, change the plugin, for example a comment: these are new trials. Stored results are unchanged."
    )
