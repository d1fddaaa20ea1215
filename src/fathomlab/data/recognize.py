"""Recognizes published datasets by content: sizes, headers, and hashes decide. Names are only a fallback."""

import gzip
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fathomlab.base.errors import UserError
from fathomlab.data import cifar10, cifar100, fashion_mnist, idx, mnist
from fathomlab.data.archive import read_members
from fathomlab.data.cache import published_name
from fathomlab.data.cifar_binary import PIXELS, encode_rows
from fathomlab.data.pickles import read_batch
from fathomlab.data.table import DatasetInfo, FileLayout, PinnedFile

MAX_BYTES = 256 << 20
HEAD_BYTES = 4096
# Published MD5 of the pickled files of CIFAR-100. For CIFAR-10 and MNIST the SHA-256 of the result is known.
CIFAR100_MD5 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
KERAS_KEYS = ("x_train", "y_train", "x_test", "y_test")
OTHER, UNPUBLISHED = "not in the format of a supported dataset", "format of a supported dataset, other contents"
ZIP, TAR = "zip archive (unpack it first)", "tar archive (unpack it first)"


@dataclass(frozen=True)
class Target:
    """A file of a dataset that contents may become."""

    info: DatasetInfo
    layout: FileLayout
    file: PinnedFile

    @property
    def key(self) -> tuple[str, str]:
        """Equal for the spellings (compressed or not) of one needed file."""
        spellings = next(spellings for spellings in self.layout.files if self.file in spellings)
        return self.info.name, spellings[0].name


@dataclass(frozen=True)
class Content:
    """Bytes in the format of our data folder.

    Attributes:
        targets: The files that the bytes may be.
        data: The bytes.
        trusted: Whether a published hash of the source file confirms them.
    """

    targets: tuple[Target, ...]
    data: bytes
    trusted: bool = False

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def published(self) -> Target | None:
        """The target whose published hash the bytes have."""
        digest = self.sha256
        return next((target for target in self.targets if target.file.sha256 == digest), None)


def layouts() -> tuple[tuple[DatasetInfo, FileLayout], ...]:
    """Information and layout of each dataset that can be imported."""
    return tuple((module.INFO, module.LAYOUT) for module in (mnist, fashion_mnist, cifar10, cifar100))


def all_targets(size: int | None = None) -> Iterator[Target]:
    """Every published file in every accepted spelling, or only those with this size (bytes)."""
    for info, layout in layouts():
        files = (file for spellings in layout.files for file in spellings)
        yield from (Target(info, layout, file) for file in files if size is None or file.size == size)


def read_at_most(path: Path, size: int) -> bytes:
    """Read a file, and stop one byte after `size`: a file may grow meanwhile."""
    with open(path, "rb") as file:
        return file.read(size + 1)


def recognize(path: Path, size: int) -> tuple[tuple[Content, ...], str]:
    """Read what a file contains, if its size and first bytes are those of a known format.

    Args:
        path: A regular file.
        size: Its size (bytes); if it has grown since, the rest is not read.

    Returns:
        The contents, and a reason if there are none that are published.
    """
    if not 0 < size <= MAX_BYTES:
        return (), OTHER if size else "empty file"
    targets = tuple(all_targets(size))
    if targets:
        content = Content(targets, read_at_most(path, size))
        if content.published:
            return (content,), ""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if members := _archive_members(path, size):
        return members, ""
    if head.startswith(b"PK\x03\x04"):
        return _zip_contents(path, size)
    if head.startswith(b"\x1f\x8b"):
        return _gzip_contents(path, size, head)
    if head[257:262] == b"ustar":
        return (), TAR
    if idx_targets := _idx_targets(head, size):
        return (Content(idx_targets, read_at_most(path, size)),), UNPUBLISHED
    if contents := _batch_contents(path, size, head):
        return contents, UNPUBLISHED
    has_rows = any(target.file.name.endswith(".bin") for target in targets)  # without a header, only the size tells
    return (), UNPUBLISHED if has_rows else OTHER


def expected_contents(path: Path) -> tuple[tuple[Target, ...], Callable[[Path, bytes], tuple[Content, ...]]]:
    """Return what the name of a file promises: the files that it may be (none for other names), and how to read it."""
    name = published_name(path.name)
    folder = f"{path.parent.name}/{path.name}".replace("\\", "/").lower().split("/")[-2]
    is_cifar100 = re.search(r"cifar[-_ ]?100", folder)  # its files have the common names train and test
    targets = [target for target in all_targets() if target.info.name != "cifar-100" or is_cifar100]
    if same := [target for target in targets if target.file.name == name]:
        likely = same[-1 if "fashion" in str(path).lower() else 0]  # MNIST and Fashion-MNIST share their names
        return (likely,), lambda _, data: (Content((likely,), data),)
    if name == "mnist.npz":
        return tuple(target for target in targets if target.info.name == "mnist"), keras_contents
    pickled = tuple(target for target in targets if target.file.name == f"{name}.bin")
    return pickled, lambda path, data: tuple(Content(pickled, content.data) for content in pickle_contents(path, data))


def keras_contents(path: Path, data: bytes) -> tuple[Content, ...]:
    """Return the four arrays of Keras' `mnist.npz` as IDX files.

    Args:
        path: Name of the file, for the message.
        data: Its bytes.

    Raises:
        UserError: If the file contains anything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError("it is larger than MNIST")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            columns = [np.asarray(arrays[key]) for key in KERAS_KEYS]
        for array, shape in zip(columns, idx.SHAPES, strict=True):
            if array.dtype != np.uint8 or array.shape != shape:
                raise ValueError(f"array of shape {array.shape}, {array.dtype}; expected {shape}, uint8")
    except Exception as error:  # a hostile archive may raise anything
        raise UserError("invalid-data-file", f"{path}: not the MNIST file of Keras ({error}).") from None
    starts = [idx.header(shape) for shape in idx.SHAPES]
    return tuple(
        Content(_idx_targets(start), start + array.tobytes()) for start, array in zip(starts, columns, strict=True)
    )


def pickle_contents(path: Path, data: bytes) -> tuple[Content, ...]:
    """Return a pickled batch of CIFAR-10, or a pickled half of CIFAR-100, as rows.

    Args:
        path: Name of the file, for the message.
        data: Its bytes.

    Raises:
        UserError: If the file contains anything else. Nothing in it is executed.
    """
    batch = read_batch(data, str(path))
    pixels = batch.get("data")
    is_fine = "fine_labels" in batch
    labels = [batch.get(key) for key in (("coarse_labels", "fine_labels") if is_fine else ("labels",))]
    if not isinstance(pixels, np.ndarray) or pixels.shape[1] != PIXELS:
        raise UserError("invalid-data-file", f"{path}: no CIFAR pixels: expected `data` with {PIXELS:,} columns.")
    for column in labels:
        if not isinstance(column, list) or len(column) != len(pixels):
            raise UserError("invalid-data-file", f"{path}: no CIFAR labels: expected one per image.")
        if not all(type(label) is int and 0 <= label <= 255 for label in column):
            raise UserError("invalid-data-file", f"{path}: CIFAR labels must be integers from 0 to 255.")
    rows = encode_rows([np.array(column, np.uint8) for column in labels], pixels)
    name = cifar100.INFO.name if is_fine else cifar10.INFO.name
    targets = tuple(target for target in all_targets() if target.info.name == name)
    if is_fine:
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        names = [f"{half}.bin" for half, md5 in CIFAR100_MD5.items() if md5 == digest]
        if trusted := tuple(target for target in targets if target.file.name in names):
            return (Content(trusted, rows, trusted=True),)
    return (Content(targets, rows),)


def _idx_targets(head: bytes, size: int | None = None) -> tuple[Target, ...]:
    """The files with the header of these bytes, of MNIST and its drop-in replacements."""
    for index, shape in enumerate(idx.SHAPES):
        start = idx.header(shape)
        if head.startswith(start) and size in (None, len(start) + int(np.prod(shape))):
            return tuple(
                Target(module.INFO, module.LAYOUT, module.LAYOUT.files[index][-1]) for module in (mnist, fashion_mnist)
            )
    return ()


def _archive_members(path: Path, size: int) -> tuple[Content, ...]:
    """The members of a published archive."""
    for info, layout in layouts():
        for remote in layout.remotes:
            if not remote.members or remote.file.size != size:
                continue
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != remote.file.sha256:
                    continue
            data = read_members(path, remote.members)
            return tuple(
                Content((Target(info, layout, file),), data[name], trusted=True) for name, file in remote.members
            )
    return ()


def _zip_contents(path: Path, size: int) -> tuple[tuple[Content, ...], str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return (), ZIP
    if not {f"{key}.npy" for key in KERAS_KEYS} <= names:
        return (), ZIP
    try:
        return keras_contents(path, read_at_most(path, size)), UNPUBLISHED
    except UserError:
        return (), OTHER


def _gzip_contents(path: Path, size: int, head: bytes) -> tuple[tuple[Content, ...], str]:
    """An IDX file that somebody has compressed again."""
    try:
        start = zlib.decompressobj(wbits=31).decompress(head, 512)
    except zlib.error:
        return (), OTHER
    targets = _idx_targets(start)
    if not targets:
        return (), TAR if start[257:262] == b"ustar" else OTHER
    expected_size = targets[0].file.size
    try:
        with gzip.open(io.BytesIO(read_at_most(path, size))) as file:
            data = file.read(expected_size + 1)
    except (OSError, EOFError, zlib.error):
        return (), "corrupted gzip file"
    return ((Content(targets, data),), UNPUBLISHED) if len(data) == expected_size else ((), UNPUBLISHED)


def _batch_contents(path: Path, size: int, head: bytes) -> tuple[Content, ...]:
    """A pickled batch of CIFAR under any name; `()` for other pickles. Nothing in the file is executed."""
    after = 2 if head[:1] == b"\x80" else 0
    after += 9 if head[after : after + 1] == b"\x95" else 0
    if head[after : after + 1] not in (b"}", b"("):
        return ()
    sizes = [target.file.size for target in all_targets() if target.info.name in ("cifar-10", "cifar-100")]
    if not any(0.9 * published <= size <= 4 * published for published in sizes):  # old protocols escape some bytes
        return ()
    try:
        return pickle_contents(path, read_at_most(path, size))
    except UserError:
        return ()
