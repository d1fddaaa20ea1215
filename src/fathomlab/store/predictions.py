"""Predicted classes of trials, and test labels once per dataset, so that reports need no dataset. No torch.

Both are little-endian uint16, one number per test image in the test set's order.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fathomlab.base.files import atomic_write, is_special

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PREDICTIONS = "predictions.bin"
CLASS_FORMAT = "<u2"
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredLabels:
    """The test labels that a trial was compared with.

    Attributes:
        data: SHA-256 of name and options of the dataset as canonical JSON; the name of the file in `labels/`.
        sha256: SHA-256 of the file.
    """

    data: str
    sha256: str

    def __post_init__(self) -> None:
        """Reject what could lead out of the store."""
        if not DIGEST.fullmatch(self.data):
            raise ValueError("must be a SHA-256")

    def path(self, root: Path) -> Path:
        """The file below the store `root`."""
        return root / "labels" / f"{self.data}.bin"


def encode_classes(classes: "npt.NDArray[np.integer]") -> bytes:
    """Classes as they are stored.

    Raises:
        ValueError: If a class is not between 0 and 65,535.
    """
    if classes.size and not (classes.min() >= 0 and classes.max() < 2**16):
        raise ValueError("classes must be between 0 and 65,535")
    return classes.astype(CLASS_FORMAT).tobytes()


def write_labels(root: Path, data: str, labels: "npt.NDArray[np.integer]") -> StoredLabels:
    """Store the test labels of a dataset, unless they are there; returns what a result records about them.

    A corrupted file is replaced.

    Args:
        root: The store.
        data: Name and options of the dataset as canonical JSON, which is `Recipe.data`.
        labels: The classes of the test images, (n,).

    Raises:
        OSError: If writing fails.
    """
    content = encode_classes(labels)
    reference = StoredLabels(hashlib.sha256(data.encode()).hexdigest(), hashlib.sha256(content).hexdigest())
    path = reference.path(root)
    if read_verified(path, reference.sha256) is None:
        path.parent.mkdir(exist_ok=True)
        atomic_write(path, content)
    return reference


def read_classes(path: Path, sha256: str) -> "npt.NDArray[np.uint16] | None":
    """The classes in a file; None if the file is missing or corrupted."""
    import numpy as np

    content = read_verified(path, sha256)
    return None if content is None or len(content) % 2 else np.frombuffer(content, CLASS_FORMAT).astype(np.uint16)


def read_verified(path: Path, sha256: str) -> bytes | None:
    """The bytes of a file; None if it is missing, a link, or has another SHA-256."""
    try:
        content = b"" if is_special(path) else path.read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None
