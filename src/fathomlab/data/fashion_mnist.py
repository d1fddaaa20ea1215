"""Fashion-MNIST: 28 x 28 grayscale images of clothes, a harder replacement for MNIST (Xiao, Rasul, Vollgraf, 2017)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from fathomlab.data.cache import read_files
from fathomlab.data.idx import idx_layout, read_idx
from fathomlab.data.table import DatasetArrays, DatasetInfo, FileLayout

INFO = DatasetInfo(
    name="fashion-mnist",
    title="Fashion-MNIST",
    channels=1,
    height=28,
    width=28,
    classes=10,
    class_names=(
        "t-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    train_examples=60000,
    test_examples=10000,
    mean=(0.2860,),
    std=(0.3530,),
    source="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, a novel image dataset for benchmarking machine learning",
    license="MIT",
)

LAYOUT = idx_layout(
    folders=("fashion-mnist", "FashionMNIST/raw"),
    compressed=(
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148),
    ),
    contents=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
)


@final
@dataclass(frozen=True)
class FashionMnist:
    """Images of clothes; 60,000 training and 10,000 test images."""

    info: ClassVar[DatasetInfo] = INFO
    layout: ClassVar[FileLayout | None] = LAYOUT
    test_options: ClassVar[Mapping[str, object]] = {}

    def load(self, folder: Path | None = None) -> DatasetArrays:
        """Return the examples. Missing files are downloaded."""
        return read_idx(read_files(INFO, LAYOUT, folder))
