"""The IDX format of MNIST: a header with magic number and lengths, then bytes."""

import zlib
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from fathomlab.base.errors import UserError
from fathomlab.data.cache import VerifiedFiles
from fathomlab.data.table import DatasetArrays, FileLayout, PinnedFile, RemoteFile

if TYPE_CHECKING:
    import numpy as np

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SHAPES = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))


def idx_layout(
    folders: tuple[str, ...],
    compressed: Sequence[tuple[str, int]],
    contents: Sequence[str],
    mirrors: Sequence[str],
) -> FileLayout:
    """Return the layout of four IDX files from hash and size of the gzip files and the hash of their contents."""
    files: list[tuple[PinnedFile, PinnedFile]] = []
    for name, shape, (digest, size), content in zip(NAMES, SHAPES, compressed, contents, strict=True):
        plain_size = len(header(shape)) + prod(shape)
        files.append((PinnedFile(f"{name}.gz", digest, size), PinnedFile(name, content, plain_size)))
    remotes = tuple(RemoteFile(gz, tuple(mirror + gz.name for mirror in mirrors)) for gz, _ in files)
    return FileLayout(folders, tuple(files), remotes)


def header(shape: Sequence[int]) -> bytes:
    """Return the header of an IDX file of uint8 with this shape."""
    return bytes([0, 0, 8, len(shape)]) + b"".join(int(length).to_bytes(4, "big") for length in shape)


def decode(data: bytes, shape: tuple[int, ...], name: str) -> "np.ndarray":
    """Return the array in an IDX file, compressed or not.

    Args:
        data: The bytes of the file.
        shape: The shape that it must have.
        name: Name of the file, for the message.

    Raises:
        UserError: If the bytes are something else.
    """
    start = header(shape)
    size = len(start) + prod(shape)
    if data.startswith(b"\x1f\x8b"):
        data = gunzip(data, size, name)
    if len(data) != size or data[: len(start)] != start:
        raise UserError(
            "invalid-data-file", f"{name}: not an IDX file of unsigned bytes with shape {shape}. Download it again."
        )
    import numpy as np

    return np.frombuffer(data, np.uint8, offset=len(start)).reshape(shape).copy()


def gunzip(data: bytes, size: int, name: str) -> bytes:
    """Decompress a gzip file, but never more than `size` + 1 bytes.

    Raises:
        UserError: If it is corrupted.
    """
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise UserError("invalid-data-file", f"{name}: corrupted gzip file ({error}). Download it again.") from None
    if len(plain) == size and not inflater.eof:
        raise UserError("invalid-data-file", f"{name}: truncated gzip file. Download it again.")
    return plain


def read_idx(verified: VerifiedFiles) -> DatasetArrays:
    """Return the dataset in four verified IDX files."""
    arrays = [decode(file.data, shape, file.path.name) for file, shape in zip(verified.files, SHAPES, strict=True)]
    return DatasetArrays(
        train_images=arrays[0][:, None],
        train_labels=arrays[1].astype("int64"),
        test_images=arrays[2][:, None],
        test_labels=arrays[3].astype("int64"),
        files=verified.checksums,
        modified=verified.modified,
        notes=verified.notes,
    )
