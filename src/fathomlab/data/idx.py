"""The IDX format of MNIST and its kin: a header of magic number and lengths, then bytes."""

import gzip
import zlib
from collections.abc import Sequence

import numpy as np

from fathomlab.base.problems import UserError
from fathomlab.data.folder import Contents
from fathomlab.data.table import Layout, Pin, Remote, Split

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SHAPES = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))


def idx_layout(
    folders: tuple[str, ...],
    compressed: Sequence[tuple[str, int]],
    contents: Sequence[str],
    mirrors: Sequence[str],
) -> Layout:
    """The layout of four IDX files from (SHA-256, size) of the gzip files and the SHA-256 of what they hold."""
    pieces: list[tuple[Pin, ...]] = []
    for name, shape, (digest, size), content in zip(NAMES, SHAPES, compressed, contents, strict=True):
        plain_size = int(np.prod(shape)) + 4 + 4 * len(shape)
        pieces.append((Pin(f"{name}.gz", digest, size), Pin(name, content, plain_size)))
    remotes = tuple(Remote(gz, tuple(mirror + gz.name for mirror in mirrors)) for gz, _ in pieces)
    return Layout(folders, tuple(pieces), remotes)


def header(shape: Sequence[int]) -> bytes:
    """The first bytes of an IDX file of uint8 with this shape."""
    return bytes([0, 0, 8, len(shape)]) + b"".join(int(length).to_bytes(4, "big") for length in shape)


def decode(data: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The array of an IDX file, compressed or not, which must have `shape`.

    Raises:
        UserError: The bytes are something else.
    """
    start = header(shape)
    size = len(start) + int(np.prod(shape))
    if name.endswith(".gz"):
        data = gunzip(data, size, name)
    if len(data) != size or data[: len(start)] != start:
        raise UserError("invalid-data-file", f"{name}: not an IDX file of unsigned bytes with shape {shape}.")
    return np.frombuffer(data, np.uint8, offset=len(start)).reshape(shape).copy()


def gunzip(data: bytes, size: int, name: str) -> bytes:
    """What a gzip file holds, never more than `size` + 1 bytes of it.

    Raises:
        UserError: It is damaged.
    """
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise UserError("invalid-data-file", f"{name}: damaged gzip file ({error}).") from None
    if len(plain) == size and not inflater.eof:
        raise UserError("invalid-data-file", f"{name}: damaged gzip file (cut short).")
    return plain


def compress(data: bytes) -> bytes:
    """A gzip file that is the same on every machine and at every time."""
    return gzip.compress(data, 6, mtime=0)


def idx_split(contents: Contents) -> Split:
    """The four verified IDX files as a data set."""
    arrays = [decode(file.data, shape, file.path.name) for file, shape in zip(contents.verified, SHAPES, strict=True)]
    return Split(
        train_images=arrays[0][:, None],
        train_labels=arrays[1].astype(np.int64),
        test_images=arrays[2][:, None],
        test_labels=arrays[3].astype(np.int64),
        files=contents.files,
        unofficial=contents.unofficial,
        notes=contents.notes,
    )
