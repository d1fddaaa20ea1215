"""MNIST: 28 x 28 grayscale images of handwritten digits (LeCun, Cortes, Burges, 1998)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from fathomlab.data.cache import read_files
from fathomlab.data.idx import idx_layout, read_idx
from fathomlab.data.table import DatasetArrays, DatasetInfo, FileLayout

INFO = DatasetInfo(
    name="mnist",
    title="MNIST",
    channels=1,
    height=28,
    width=28,
    classes=10,
    class_names=tuple("0123456789"),
    train_examples=60000,
    test_examples=10000,
    mean=(0.1307,),
    std=(0.3081,),
    source="Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits",
    license="CC BY-SA 3.0",
)

LAYOUT = idx_layout(
    folders=("mnist", "MNIST/raw"),
    compressed=(
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542),
    ),
    contents=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
)


@final
@dataclass(frozen=True)
class Mnist:
    """Images of handwritten digits; 60,000 training and 10,000 test images."""

    info: ClassVar[DatasetInfo] = INFO
    layout: ClassVar[FileLayout | None] = LAYOUT
    test_options: ClassVar[Mapping[str, object]] = {}

    def load(self, folder: Path | None = None) -> DatasetArrays:
        """Return the examples. Missing files are downloaded."""
        return read_idx(read_files(INFO, LAYOUT, folder))
