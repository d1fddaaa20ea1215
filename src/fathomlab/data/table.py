"""The types of the data layer: what is known about a dataset, its files, and the arrays that loading returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

AUGMENTATIONS = ("flip", "crop")
# Views of an image that an augmentation can produce, if they can be counted: mirrored or not, and 9 x 9 offsets.
VIEWS: Mapping[str, int] = {"flip": 2, "crop": 81}


def num_views(names: tuple[str, ...]) -> int:
    """Number of views of an image under augmentations that are all in `VIEWS`; 1 without augmentation."""
    return prod(VIEWS[name] for name in names)


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a dataset without reading it.

    Attributes:
        name: As in `data.name`.
        title: Name for people.
        mean: Mean of the training images per channel, for pixels from 0 to 1 (published constants). 0 for float32 images.
        std: Standard deviation per channel, on the same scale. 1 for float32 images.
        source: Authors and publication.
        license: License of the images.
    """

    name: str
    title: str
    channels: int
    height: int
    width: int
    classes: int
    class_names: tuple[str, ...]
    train_examples: int
    test_examples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    license: str

    @property
    def is_normalized(self) -> bool:
        """Whether images are normalized. A mean of 0 and a standard deviation of 1 leave float32 images as they are."""
        return any(self.mean) or any(value != 1 for value in self.std)


@dataclass(frozen=True)
class PinnedFile:
    """A published file: name, SHA-256, and size (bytes)."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        file: The expected file.
        urls: Mirrors in the order in which they are tried; https only.
        members: For an archive: (name of the member, the resulting file). Other members are not read.
    """

    file: PinnedFile
    urls: tuple[str, ...]
    members: tuple[tuple[str, PinnedFile], ...] = ()

    @property
    def provides(self) -> frozenset[str]:
        """Names of the resulting files: the members of an archive, else the file itself."""
        return frozenset(file.name for _, file in self.members) or frozenset({self.file.name})


@dataclass(frozen=True)
class FileLayout:
    """The files of a dataset in the data folder.

    Attributes:
        folders: Accepted folders. Downloads and imports write to the first.
        files: Each needed file in its accepted spellings (compressed or not). The first is downloaded.
        remotes: The files to download.
        notes: Notes on the hashes for provenance and report.
    """

    folders: tuple[str, ...]
    files: tuple[tuple[PinnedFile, ...], ...]
    remotes: tuple[RemoteFile, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetArrays:
    """A dataset in memory, with separate training and test examples as published.

    Attributes:
        train_images: uint8, or float32 that is used as given, shape (n, c, h, w).
        train_labels: int64, shape (n,).
        test_images: As `train_images`.
        test_labels: int64, shape (n,).
        files: SHA-256 of each file that was read, by its published name.
        modified: Files whose hash is not the published one, but is listed in a SHA256SUMS.
        notes: Notes on this copy for provenance and report.
    """

    train_images: "np.ndarray"
    train_labels: "np.ndarray"
    test_images: "np.ndarray"
    test_labels: "np.ndarray"
    files: dict[str, str] = field(default_factory=dict)
    modified: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class Dataset(Protocol):
    """A component of the table of datasets: a frozen dataclass whose fields are its options."""

    info: ClassVar[DatasetInfo]
    layout: ClassVar[FileLayout | None]
    test_options: ClassVar[Mapping[str, object]]

    def load(self, folder: Path | None = None) -> DatasetArrays:
        """Return the examples, from `folder` or from the user's data folder."""
        ...
