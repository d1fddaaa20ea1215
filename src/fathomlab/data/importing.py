"""Takes over data that other programs left on a disk: torchvision's folders, Keras' files, and our own layouts."""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fathomlab.base.files import atomic_write
from fathomlab.base.problems import UserError
from fathomlab.data import cifar10, cifar100, fashion_mnist, idx, mnist
from fathomlab.data.pickles import read_batch
from fathomlab.data.rows import PIXELS, encode_rows
from fathomlab.data.table import Facts, Layout, Pin
from fathomlab.data.verify import SUMS, vouch, vouched

DEEPEST = 4
MOST_FILES = 100_000
LARGEST = 256 << 20
# Published MD5 of the pickled files of CIFAR-100; of CIFAR-10 and MNIST the result's own SHA-256 is known.
CIFAR100_MD5 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}


@dataclass(frozen=True)
class Imported:
    """One file that was taken over: for which data set, its name here, from where, and whether it is as published."""

    name: str
    file: str
    source: Path
    official: bool


@dataclass(frozen=True)
class Candidate:
    """Bytes in our format that were found in a source file, and the files that they may be."""

    targets: tuple[tuple[Facts, Layout, Pin], ...]
    data: bytes
    trusted: bool = False


def import_folder(source: Path, destination: Path) -> list[Imported]:
    """Find data of known data sets in `source`, check it, and write it into the data folder `destination`.

    Known are what torchvision leaves (`MNIST/raw`, `FashionMNIST/raw`, `cifar-10-batches-py`, `cifar-100-python`), what
    Keras leaves (`mnist.npz`, `fashion-mnist`, `cifar-10-batches-py` also inside `cifar-10-batches-py-target`), and the
    layouts of fathomlab. Contents decide what a file is, not its folder.

    Raises:
        UserError: Nothing was recognised; or a file is not the published one and no SHA256SUMS in its folder, or in
            `source`, vouches for it. What was imported before that stays.
    """
    if not os.path.isdir(source):  # False too for a name that no folder can have
        raise UserError("no-such-folder", f"{source}: no such folder.")
    imported = [_placed(candidate, path, source, destination) for path, candidate in _candidates(source)]
    if not imported:
        raise UserError(
            "nothing-to-import",
            f"{source}: no data of a known data set. Looked for *-ubyte[.gz], mnist.npz, data_batch_*, test_batch and "
            f"cifar-100-python, at most {DEEPEST} folders deep.",
        )
    return imported


def _placed(candidate: Candidate, path: Path, source: Path, destination: Path) -> Imported:
    digest = hashlib.sha256(candidate.data).hexdigest()
    official = [target for target in candidate.targets if target[2].sha256 == digest]
    facts, layout, pin = (official or [_likeliest(candidate, path)])[0]
    if not official and not candidate.trusted:
        original = hashlib.sha256(path.read_bytes()).hexdigest()
        if original not in vouched(path, source):
            raise UserError(
                "checksum-mismatch",
                f"{path}: this is not the published file of {facts.title}.\n"
                f"  expected for {pin.name}: SHA-256 {pin.sha256}\n"
                f"  found                  : SHA-256 {digest}\n"
                f"  Where you trust this copy, vouch for it with this line in {path.parent / SUMS}:\n"
                f"    {original}  {path.name}",
            )
    folder = destination / layout.folders[0]
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / pin.name, candidate.data)
    if not official:
        vouch(folder, {pin.name: digest})
    return Imported(facts.name, pin.name, path, bool(official))


def _likeliest(candidate: Candidate, path: Path) -> tuple[Facts, Layout, Pin]:
    """Which data set an unknown copy belongs to: MNIST and Fashion-MNIST share their file names."""
    fashion = [target for target in candidate.targets if target[0].name.startswith("fashion")]
    return fashion[0] if fashion and "fashion" in path.parent.as_posix().lower() else candidate.targets[0]


def _candidates(source: Path) -> Iterator[tuple[Path, Candidate]]:
    """Every recognised file below `source`, links not followed, with what it holds."""
    seen = 0
    for folder, folders, files in os.walk(source):
        depth = len(Path(folder).relative_to(source).parts)
        folders[:] = sorted(folders) if depth < DEEPEST else []
        seen += len(files)
        if seen > MOST_FILES:
            raise UserError(
                "too-many-files", f"{source}: more than {MOST_FILES:,} files. Name the folder with the data itself."
            )
        for name in sorted(files):
            path = Path(folder) / name
            for pattern, inside, read in READERS:
                if re.fullmatch(pattern, name) and inside in Path(folder).name and path.stat().st_size <= LARGEST:
                    yield from ((path, candidate) for candidate in read(path))
                    break


def _same(path: Path) -> Iterator[Candidate]:
    """A file that is in our format already."""
    layouts = (
        (mnist.FACTS, mnist.LAYOUT),
        (fashion_mnist.FACTS, fashion_mnist.LAYOUT),
        (cifar10.FACTS, cifar10.LAYOUT),
        (cifar100.FACTS, cifar100.LAYOUT),
    )
    targets = tuple(
        (facts, layout, pin)
        for facts, layout in layouts
        for piece in layout.pieces
        for pin in piece
        if pin.name == path.name
    )
    yield Candidate(targets, path.read_bytes())


def _keras_mnist(path: Path) -> Iterator[Candidate]:
    """The four arrays of Keras' `mnist.npz`, written as IDX files."""
    keys = ("x_train", "y_train", "x_test", "y_test")
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise ValueError("it is larger than MNIST")
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            found = [np.asarray(arrays[key]) for key in keys]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise UserError("invalid-data-file", f"{path}: not Keras' file of MNIST ({error}).") from None
    for array, shape, (_, plain) in zip(found, idx.SHAPES, mnist.LAYOUT.pieces, strict=True):
        if array.dtype != np.uint8 or array.shape != shape:
            raise UserError(
                "invalid-data-file",
                f"{path}: not Keras' file of MNIST (an array of shape {array.shape}, {array.dtype}).",
            )
        yield Candidate(((mnist.FACTS, mnist.LAYOUT, plain),), idx.header(shape) + array.tobytes())


def _cifar10_batch(path: Path) -> Iterator[Candidate]:
    """A pickled batch of CIFAR-10, written as rows."""
    batch = read_batch(path.read_bytes(), str(path))
    pin = next(pin for pin in cifar10.BATCHES if pin.name == f"{path.name}.bin")
    yield Candidate(((cifar10.FACTS, cifar10.LAYOUT, pin),), _rows(batch, ("labels",), path))


def _cifar100_part(path: Path) -> Iterator[Candidate]:
    """The pickled training or test set of CIFAR-100, written as rows; its published MD5 is trusted."""
    data = path.read_bytes()
    trusted = hashlib.md5(data, usedforsecurity=False).hexdigest() == CIFAR100_MD5[path.name]
    pin = cifar100.TRAIN if path.name == "train" else cifar100.TEST
    rows = _rows(read_batch(data, str(path)), ("coarse_labels", "fine_labels"), path)
    yield Candidate(((cifar100.FACTS, cifar100.LAYOUT, pin),), rows, trusted)


def _rows(batch: dict[str, Any], keys: tuple[str, ...], path: Path) -> bytes:
    pixels = batch.get("data")
    labels = [batch.get(key) for key in keys]
    if not isinstance(pixels, np.ndarray) or pixels.shape[1] != PIXELS:
        raise UserError("invalid-data-file", f"{path}: holds no pixels of CIFAR.")
    for column in labels:
        if not isinstance(column, list) or len(column) != len(pixels):
            raise UserError("invalid-data-file", f"{path}: holds no labels of CIFAR.")
        if not all(type(label) is int and 0 <= label <= 255 for label in column):
            raise UserError("invalid-data-file", f"{path}: holds labels that are no bytes.")
    return encode_rows([np.array(column, np.uint8) for column in labels], pixels)


READERS: tuple[tuple[str, str, Callable[[Path], Iterator[Candidate]]], ...] = (
    (rf"({'|'.join(idx.NAMES)})(\.gz)?", "", _same),
    (r"data_batch_[1-5]\.bin|test_batch\.bin", "", _same),
    (r"(train|test)\.bin", "cifar-100", _same),
    (r"mnist\.npz", "", _keras_mnist),
    (r"data_batch_[1-5]|test_batch", "", _cifar10_batch),
    (r"train|test", "cifar-100", _cifar100_part),
)
