"""CIFAR-100: 32 x 32 color photographs of 100 classes, the fine labels (Krizhevsky, 2009)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from fathomlab.data.cache import read_files
from fathomlab.data.cifar_binary import cifar_layout, read_cifar
from fathomlab.data.table import DatasetArrays, DatasetInfo, FileLayout, PinnedFile

FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""

INFO = DatasetInfo(
    name="cifar-100",
    title="CIFAR-100",
    channels=3,
    height=32,
    width=32,
    classes=100,
    class_names=tuple(FINE.split()),
    train_examples=50000,
    test_examples=10000,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    source="A. Krizhevsky: Learning multiple layers of features from tiny images, 2009",
    license="none stated; the authors ask for the citation",
)

TRAIN = PinnedFile("train.bin", "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29", 153700000)
TEST = PinnedFile("test.bin", "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a", 30740000)

LAYOUT = cifar_layout(
    "cifar-100-binary",
    # The authors publish the MD5 of this archive: 03b5dce01913d631647c71ecec9e9cb8
    PinnedFile(
        "cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168513733
    ),
    (TRAIN, TEST),
    "CIFAR-100: its authors publish only an MD5 of the archive. The SHA-256 hashes are from other public sources.",
)


@final
@dataclass(frozen=True)
class Cifar100:
    """Color photographs of 100 classes; 50,000 training and 10,000 test images."""

    info: ClassVar[DatasetInfo] = INFO
    layout: ClassVar[FileLayout | None] = LAYOUT
    test_options: ClassVar[Mapping[str, object]] = {}

    def load(self, folder: Path | None = None) -> DatasetArrays:
        """Return the examples. Missing files are downloaded."""
        return read_cifar(read_files(INFO, LAYOUT, folder), label_bytes=2, classes=100)
