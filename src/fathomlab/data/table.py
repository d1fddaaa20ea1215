"""The types of the data layer: facts and files of a dataset, and the arrays that loading returns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

AUGMENTATIONS = ("flip", "crop")


@dataclass(frozen=True)
class Facts:
    """Facts about a dataset that are known without reading it.

    Attributes:
        mean: Mean of the training images per channel, for pixels from 0 to 1 (published constants).
        std: Standard deviation per channel, on the same scale.
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


@dataclass(frozen=True)
class Pin:
    """A published file: name, SHA-256, and size (bytes). An empty `md5` is not checked."""

    name: str
    sha256: str
    size: int
    md5: str = ""


@dataclass(frozen=True)
class Remote:
    """A file to download.

    Attributes:
        pin: The expected file.
        urls: Mirrors in the order in which they are tried; https only.
        members: For an archive: (name of the member, the resulting file). Other members are not read.
    """

    pin: Pin
    urls: tuple[str, ...]
    members: tuple[tuple[str, Pin], ...] = ()


@dataclass(frozen=True)
class Layout:
    """The files of a dataset in the data folder.

    Attributes:
        folders: Accepted folders. Downloads and imports write to the first.
        pieces: Each needed file in its accepted spellings (compressed or not). The first is downloaded.
        remotes: The files to download.
        notes: Notes on the hashes for provenance and report.
    """

    folders: tuple[str, ...]
    pieces: tuple[tuple[Pin, ...], ...]
    remotes: tuple[Remote, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """A dataset in memory, with separate training and test examples as published.

    Attributes:
        train_images: uint8, shape (n, c, h, w).
        train_labels: int64, shape (n,).
        test_images: uint8, shape (n, c, h, w).
        test_labels: int64, shape (n,).
        files: SHA-256 of each file that was read, by its published name.
        unofficial: Files whose hash is not the published one, but is listed in a SHA256SUMS.
        notes: Notes on this copy for provenance and report.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    files: dict[str, str] = field(default_factory=dict)
    unofficial: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class DataSet(Protocol):
    """A component of the table of datasets: a frozen dataclass whose fields are its options."""

    facts: ClassVar[Facts]
    layout: ClassVar[Layout | None]
    tiny: ClassVar[dict[str, Any]]

    def load(self, folder: Path | None = None) -> Split:
        """Return the examples, from `folder` or from the user's data folder."""
        ...
