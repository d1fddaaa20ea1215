"""CIFAR-10: 32 x 32 color photographs of ten classes (Krizhevsky, 2009)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from fathomlab.data.cache import read_files
from fathomlab.data.cifar_binary import cifar_layout, read_cifar
from fathomlab.data.table import DatasetArrays, DatasetInfo, FileLayout, PinnedFile

INFO = DatasetInfo(
    name="cifar-10",
    title="CIFAR-10",
    channels=3,
    height=32,
    width=32,
    classes=10,
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    train_examples=50000,
    test_examples=10000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    source="A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
    license="none stated; the authors ask for the citation",
)

BATCHES = (
    PinnedFile("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5", 30730000),
    PinnedFile("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed", 30730000),
    PinnedFile("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67", 30730000),
    PinnedFile("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48", 30730000),
    PinnedFile("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add", 30730000),
    PinnedFile("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b", 30730000),
)

LAYOUT = cifar_layout(
    "cifar-10-batches-bin",
    # The authors publish the MD5 of this archive: c32a1d4ab5d03f1284b67883e8d87530
    PinnedFile("cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170052171),
    BATCHES,
)


@final
@dataclass(frozen=True)
class Cifar10:
    """Color photographs of ten classes; 50,000 training and 10,000 test images."""

    info: ClassVar[DatasetInfo] = INFO
    layout: ClassVar[FileLayout | None] = LAYOUT
    test_options: ClassVar[Mapping[str, object]] = {}

    def load(self, folder: Path | None = None) -> DatasetArrays:
        """Return the examples. Missing files are downloaded."""
        return read_cifar(read_files(INFO, LAYOUT, folder), label_bytes=1, classes=10)
