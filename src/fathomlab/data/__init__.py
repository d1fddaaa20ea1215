"""Data sets by name. To add one: a file with a frozen dataclass like those here, and a line in DATASETS."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fathomlab.base.catalogue import check_options
from fathomlab.base.problems import ConfigError, Problem, UserError, suggestion
from fathomlab.data.cifar10 import Cifar10
from fathomlab.data.cifar100 import Cifar100
from fathomlab.data.fashion_mnist import FashionMnist
from fathomlab.data.folder import data_folder, locate, obtain, usable
from fathomlab.data.importing import Imported
from fathomlab.data.importing import import_folder as _import_folder
from fathomlab.data.mnist import Mnist
from fathomlab.data.mnist_sample import MnistSample
from fathomlab.data.shapes import Shapes
from fathomlab.data.table import DataSet, Split

DATASETS: dict[str, type[DataSet]] = {
    "mnist": Mnist,
    "fashion-mnist": FashionMnist,
    "cifar-10": Cifar10,
    "cifar-100": Cifar100,
    "mnist-sample": MnistSample,
    "shapes": Shapes,
}


def canonical_name(text: str) -> str | None:
    """The name in DATASETS that `text` spells, whatever its case, hyphens and underscores; None where there is none.

    Example:
        >>> canonical_name("CIFAR10"), canonical_name("FashionMNIST"), canonical_name("imagenet")
        ('cifar-10', 'fashion-mnist', None)
    """
    return {_bare(name): name for name in DATASETS}.get(_bare(text))


def make(name: str, params: Mapping[str, Any] | None = None) -> DataSet:
    """The data set with its options checked.

    Raises:
        UserError: There is no such data set.
        ConfigError: Options that it does not have, or values that they cannot take; all of them at once.
    """
    problems: list[Problem] = []
    made = check_options(DATASETS[_known(name)], params, "data.params", problems)
    if problems:
        raise ConfigError(f"data set {name}", problems)
    return made


def load(name: str, params: Mapping[str, Any] | None = None, folder: Path | None = None) -> Split:
    """The examples of a data set, downloaded where they are missing and there is a network.

    Raises:
        UserError: No such data set or option; files that are missing or are not the published ones.
    """
    return make(name, params).load(folder)


def status(folder: Path | None = None) -> list[dict[str, Any]]:
    """What is there of each data set, for people: a row a data set.

    Returns:
        Rows of `name`, `title`, `present` (all files there and usable), `folder`, `bytes` (of the files that are
        there), `state` (`built in`, `official`, `unofficial`, `damaged` or `missing`) and `remedy` (what to do; may
        be empty).
    """
    return [_row(name, part, data_folder(folder)) for name, part in DATASETS.items()]


def download(name: str, folder: Path | None = None) -> Path:
    """Fetch what is missing or damaged; the folder in which the files are.

    Raises:
        UserError: It could not be had; the message holds the manual steps.
    """
    part = DATASETS[_known(name)]
    if part.layout is None:
        raise UserError("nothing-to-download", f"{part.facts.title} needs no download: it comes with fathomlab.")
    return obtain(part.facts, part.layout, data_folder(folder))


def import_folder(source: Path, destination: Path | None = None) -> list[Imported]:
    """Take over what torchvision or Keras has left in `source`, after checking it.

    Raises:
        UserError: Nothing was recognised, or a file is not the published one.
    """
    return _import_folder(source, data_folder(destination))


def _bare(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _known(name: str) -> str:
    known = canonical_name(name)
    if known is None:
        near = suggestion(name, tuple(DATASETS))
        raise UserError("unknown-dataset", f"no data set {name!r}.{near} There are: {', '.join(DATASETS)}.")
    return known


def _row(name: str, part: type[Any], root: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "title": part.facts.title}
    if part.layout is None:
        return row | {"present": True, "folder": "", "bytes": 0, "state": "built in", "remedy": ""}
    found = locate(part.layout, root)
    states = {usable(located, root) for located in found}
    state = next(state for state in ("missing", "damaged", "unofficial", "official") if state in states)
    paths = [located.path for located in found if located.path is not None]
    remedies = {
        "missing": f"fathomlab data download {name}, or fathomlab data import FOLDER",
        "damaged": f"fathomlab data download {name}",
    }
    return row | {
        "present": state in ("official", "unofficial"),
        "folder": str(paths[0].parent if paths else root / part.layout.folders[0]),
        "bytes": sum(path.stat().st_size for path in paths),
        "state": state,
        "remedy": remedies.get(state, ""),
    }
