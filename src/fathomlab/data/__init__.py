"""Datasets by name. To add one, write a frozen dataclass like those here and add a line to DATASETS."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathomlab.base.errors import ConfigError, Issue, UserError
from fathomlab.base.table import Table
from fathomlab.data.cache import data_dir, ensure_downloaded, file_state, locate
from fathomlab.data.cifar10 import Cifar10
from fathomlab.data.cifar100 import Cifar100
from fathomlab.data.fashion_mnist import FashionMnist
from fathomlab.data.folder import Folder
from fathomlab.data.mnist import Mnist
from fathomlab.data.mnist_sample import MnistSample
from fathomlab.data.shapes import Shapes
from fathomlab.data.shared import load_shared
from fathomlab.data.table import Dataset, DatasetArrays

if TYPE_CHECKING:
    from fathomlab.data.importer import ImportReport

DATASETS: Table[Dataset] = Table(
    "dataset",
    {
        "mnist": Mnist,
        "fashion-mnist": FashionMnist,
        "cifar-10": Cifar10,
        "cifar-100": Cifar100,
        "mnist-sample": MnistSample,
        "shapes": Shapes,
    },
)
# What an experiment file can name: facts about the images of a folder are known only after reading them.
NAMED_DATASETS: Table[Any] = Table("dataset", {**DATASETS, "folder": Folder})


@dataclass(frozen=True)
class DatasetStatus:
    """What the data folder contains of a dataset.

    Attributes:
        name: Key in DATASETS.
        title: Name for people.
        present: Whether all files are there and usable.
        folder: Folder of the files; empty for built-in datasets.
        bytes: Total size of the files that are there.
        state: `built in`, `official`, `unofficial`, `corrupted` or `missing`.
        remedy: Commands that provide the dataset; may be empty.
    """

    name: str
    title: str
    present: bool
    folder: str
    bytes: int
    state: str
    remedy: str


def canonical_name(text: str, names: Iterable[str] = DATASETS) -> str | None:
    """Return the name that `text` spells in any case, with or without hyphens; None if there is none.

    Example:
        >>> canonical_name("CIFAR10"), canonical_name("FashionMNIST"), canonical_name("imagenet")
        ('cifar-10', 'fashion-mnist', None)
    """
    return text if text in names else {_simplify(name): name for name in names}.get(_simplify(text))


def make(name: str, params: Mapping[str, object] | None = None) -> Dataset:
    """Return a dataset with validated options.

    Raises:
        UserError: If there is no such dataset.
        ConfigError: If options are unknown or have invalid values; lists all of them.
    """
    problems: list[Issue] = []
    dataset = DATASETS.make(_require_name(name), params, "data.params", problems)
    if dataset is None:
        raise ConfigError(f"dataset {name}", problems)
    return dataset


def load(name: str, params: Mapping[str, object] | None = None, folder: Path | None = None) -> DatasetArrays:
    """Return the examples of a dataset. Missing files are downloaded.

    Raises:
        UserError: If there is no such dataset or option, or files are missing or are not the published ones.
    """
    return make(name, params).load(folder)


def load_installed(name: str, params: Mapping[str, object] | None = None) -> DatasetArrays | None:
    """Return the examples of a dataset without a download; None if it does not exist, or files are missing or corrupted."""
    layout = DATASETS[name].layout if name in DATASETS else None
    try:
        if layout is not None and any(located.path is None for located in locate(layout, data_dir())):
            return None
        return load_shared(make(name, params))
    except (UserError, OSError):
        return None


def status(folder: Path | None = None) -> list[DatasetStatus]:
    """Return what the data folder contains of each dataset."""
    return [_status(name, component, data_dir(folder)) for name, component in DATASETS.items()]


def download_dataset(name: str, folder: Path | None = None) -> Path:
    """Download what is missing or corrupted, and return the folder of the files.

    Raises:
        UserError: If the download fails. The message contains the manual steps.
    """
    component = DATASETS[_require_name(name)]
    if component.layout is None:
        raise UserError(
            "nothing-to-download", f"{component.info.title} is built in; no download is needed. Use it with data.name."
        )
    return ensure_downloaded(component.info, component.layout, data_dir(folder))


def import_folder(source: Path, destination: Path | None = None) -> "ImportReport":
    """Verify and import the supported datasets in `source`, such as folders of torchvision or Keras.

    Raises:
        UserError: If nothing was recognized, or a file is not the published one.
    """
    from fathomlab.data import importer

    return importer.import_folder(source, data_dir(destination))


def _simplify(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _require_name(name: str) -> str:
    canonical = canonical_name(name)
    if canonical is None:
        raise UserError("unknown-dataset", DATASETS.unsupported(name))
    return canonical


def _status(name: str, component: type[Dataset], root: Path) -> DatasetStatus:
    title = component.info.title
    if component.layout is None:
        return DatasetStatus(name, title, present=True, folder="", bytes=0, state="built in", remedy="")
    files = locate(component.layout, root)
    states = {file_state(located, root) for located in files}
    state = next(state for state in ("missing", "corrupted", "unofficial", "official") if state in states)
    paths = [located.path for located in files if located.path is not None]
    remedies = {
        "missing": f"fathomlab data download {name}, or fathomlab data import FOLDER",
        "corrupted": f"fathomlab data download {name}",
    }
    return DatasetStatus(
        name,
        title,
        present=state in ("official", "unofficial"),
        folder=str(paths[0].parent if paths else root / component.layout.folders[0]),
        bytes=sum(path.stat().st_size for path in paths),
        state=state,
        remedy=remedies.get(state, ""),
    )
