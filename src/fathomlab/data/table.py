"""The types of the data layer: what is known of a data set, what its files hash to, and what loading one returns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

AUGMENTATIONS = ("flip", "crop")


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before a byte of it is read.

    Attributes:
        mean: Per channel, of the training images on the scale 0..1 (published constants).
        std: Per channel, on the same scale.
        source: Who made it, and where it is from.
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
    licence: str


@dataclass(frozen=True)
class Pin:
    """One file as it was published: its name, SHA-256 and size; an empty `md5` is not checked."""

    name: str
    sha256: str
    size: int
    md5: str = ""


@dataclass(frozen=True)
class Remote:
    """A file to download.

    Attributes:
        pin: What must arrive.
        urls: Mirrors, tried in this order; https only.
        members: For an archive: (member's name, the file it becomes). Nothing else in it is read.
    """

    pin: Pin
    urls: tuple[str, ...]
    members: tuple[tuple[str, Pin], ...] = ()


@dataclass(frozen=True)
class Layout:
    """Where the files of a data set lie inside the data folder.

    Attributes:
        folders: Accepted folders; the first is the one that downloads and imports write.
        pieces: Each needed file in its accepted spellings (compressed or not); the first is the one to download.
        remotes: What a download fetches.
        notes: What a user should know of the pins.
    """

    folders: tuple[str, ...]
    pieces: tuple[tuple[Pin, ...], ...]
    remotes: tuple[Remote, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """A data set in memory: published training and test examples, apart.

    Attributes:
        train_images: uint8, shape (n, c, h, w).
        train_labels: int64, shape (n,).
        test_images: uint8, shape (n, c, h, w).
        test_labels: int64, shape (n,).
        files: SHA-256 of every file that was read, by name.
        unofficial: Files whose hash is not the published one, used because a SHA256SUMS vouches for them.
        notes: What a report should say of this copy.
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
    """A part of the table of data sets: a frozen dataclass whose fields are its options."""

    facts: ClassVar[Facts]
    layout: ClassVar[Layout | None]
    tiny: ClassVar[dict[str, Any]]

    def load(self, folder: Path | None = None) -> Split:
        """The examples, from `folder` or from the user's data folder."""
        ...
