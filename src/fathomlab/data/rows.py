"""The binary format of CIFAR: rows of label bytes, then 3,072 pixel bytes (red, green, blue plane; row by row)."""

from collections.abc import Sequence

import numpy as np

from fathomlab.base.problems import UserError
from fathomlab.data.folder import Contents
from fathomlab.data.table import Split

PIXELS = 3072


def decode_rows(pieces: Sequence[tuple[str, bytes]], label_bytes: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 32, 32) and labels (n,) of several files of rows; the last label byte is the class.

    Raises:
        UserError: A file is not made of such rows, or a label is beyond the classes.
    """
    width = label_bytes + PIXELS
    for name, data in pieces:
        if len(data) % width or not data:
            raise UserError("invalid-data-file", f"{name}: not made of rows of {width} bytes ({len(data):,} bytes).")
    rows = [np.frombuffer(data, np.uint8).reshape(-1, width) for _, data in pieces]
    labels = np.concatenate([part[:, label_bytes - 1] for part in rows]).astype(np.int64)
    if labels.max() >= classes:
        raise UserError(
            "invalid-data-file", f"{pieces[0][0]}: holds the label {labels.max()}; there are {classes} classes."
        )
    images = np.concatenate([part[:, label_bytes:] for part in rows]).reshape(-1, 3, 32, 32)
    return images, labels


def encode_rows(labels: Sequence[np.ndarray], pixels: np.ndarray) -> bytes:
    """The rows of label columns (each (n,)) and pixels (n, 3072)."""
    columns = [np.asarray(column, np.uint8)[:, None] for column in labels]
    return np.concatenate([*columns, pixels], axis=1).tobytes()


def rows_split(contents: Contents, label_bytes: int, classes: int) -> Split:
    """Verified files of rows as a data set; the last file is the test set."""
    pieces = [(file.path.name, file.data) for file in contents.verified]
    train_images, train_labels = decode_rows(pieces[:-1], label_bytes, classes)
    test_images, test_labels = decode_rows(pieces[-1:], label_bytes, classes)
    return Split(
        train_images, train_labels, test_images, test_labels, contents.files, contents.unofficial, contents.notes
    )
