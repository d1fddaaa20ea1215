"""The binary format of CIFAR: rows of label bytes and 3,072 pixel bytes (red, green, and blue plane, row by row)."""

from collections.abc import Sequence

import numpy as np

from fathomlab.base.problems import UserError
from fathomlab.data.folder import Contents
from fathomlab.data.table import Split

PIXELS = 3072


def decode_rows(pieces: Sequence[tuple[str, bytes]], label_bytes: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 3, 32, 32) and labels (n,) of several files. The last label byte is the class.

    Raises:
        UserError: If a file does not consist of such rows, or a label is out of range.
    """
    width = label_bytes + PIXELS
    for name, data in pieces:
        if len(data) % width or not data:
            raise UserError(
                "invalid-data-file", f"{name}: size must be a positive multiple of {width} bytes, got {len(data):,}."
            )
    rows = [np.frombuffer(data, np.uint8).reshape(-1, width) for _, data in pieces]
    labels = np.concatenate([part[:, label_bytes - 1] for part in rows]).astype(np.int64)
    if labels.max() >= classes:
        raise UserError("invalid-data-file", f"{pieces[0][0]}: label must be below {classes}, got {labels.max()}.")
    images = np.concatenate([part[:, label_bytes:] for part in rows]).reshape(-1, 3, 32, 32)
    return images, labels


def encode_rows(labels: Sequence[np.ndarray], pixels: np.ndarray) -> bytes:
    """Return the rows of label columns (each (n,)) and pixels (n, 3072)."""
    columns = [np.asarray(column, np.uint8)[:, None] for column in labels]
    return np.concatenate([*columns, pixels], axis=1).tobytes()


def rows_split(contents: Contents, label_bytes: int, classes: int) -> Split:
    """Return the dataset in verified files. The last file is the test set."""
    pieces = [(file.path.name, file.data) for file in contents.verified]
    train_images, train_labels = decode_rows(pieces[:-1], label_bytes, classes)
    test_images, test_labels = decode_rows(pieces[-1:], label_bytes, classes)
    return Split(
        train_images, train_labels, test_images, test_labels, contents.files, contents.unofficial, contents.notes
    )
