"""The binary format of CIFAR: rows of label bytes and 3,072 pixel bytes (red, green, and blue plane, row by row)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fathomlab.base.errors import UserError
from fathomlab.data.cache import VerifiedFiles
from fathomlab.data.table import DatasetArrays, FileLayout, PinnedFile, RemoteFile

if TYPE_CHECKING:
    import numpy as np

PIXELS = 3072


def cifar_layout(folder: str, archive: PinnedFile, files: Sequence[PinnedFile], *notes: str) -> FileLayout:
    """Return the layout of binary files in `folder`, which the authors publish in an archive of this folder."""
    url = f"https://www.cs.toronto.edu/~kriz/{archive.name}"
    members = tuple((f"{folder}/{file.name}", file) for file in files)
    return FileLayout((folder,), tuple((file,) for file in files), (RemoteFile(archive, (url,), members),), notes)


def decode_rows(files: Sequence[tuple[str, bytes]], label_bytes: int, classes: int) -> "tuple[np.ndarray, np.ndarray]":
    """Return images (n, 3, 32, 32) and labels (n,) of several files. The last label byte is the class.

    Raises:
        UserError: If a file does not consist of such rows, or a label is out of range.
    """
    width = label_bytes + PIXELS
    for name, data in files:
        if len(data) % width or not data:
            raise UserError(
                "invalid-data-file", f"{name}: size must be a positive multiple of {width} bytes, got {len(data):,}."
            )
    import numpy as np

    rows = [np.frombuffer(data, np.uint8).reshape(-1, width) for _, data in files]
    labels = np.concatenate([part[:, label_bytes - 1] for part in rows]).astype(np.int64)
    if labels.max() >= classes:
        raise UserError("invalid-data-file", f"{files[0][0]}: label must be below {classes}, got {labels.max()}.")
    images = np.concatenate([part[:, label_bytes:] for part in rows]).reshape(-1, 3, 32, 32)
    return images, labels


def encode_rows(labels: "Sequence[np.ndarray]", pixels: "np.ndarray") -> bytes:
    """Return the rows of label columns (each (n,)) and pixels (n, 3072)."""
    import numpy as np

    columns = [np.asarray(column, np.uint8)[:, None] for column in labels]
    return np.concatenate([*columns, pixels], axis=1).tobytes()


def read_cifar(verified: VerifiedFiles, label_bytes: int, classes: int) -> DatasetArrays:
    """Return the dataset in verified files. The last file is the test set."""
    files = [(file.path.name, file.data) for file in verified.files]
    train_images, train_labels = decode_rows(files[:-1], label_bytes, classes)
    test_images, test_labels = decode_rows(files[-1:], label_bytes, classes)
    return DatasetArrays(
        train_images, train_labels, test_images, test_labels, verified.checksums, verified.modified, verified.notes
    )
