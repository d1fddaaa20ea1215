"""What every system trains: the BN MLP of experiment 1.1, or the convolutional net 1-1-1-1; Adam 1e-3, batch 128."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fathomlab.base.identity import make_rng
from fathomlab.models.architecture import Architecture
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

BATCH = 128
IMAGES = 48_000
EVALUATED = 10_000
COLOR_IMAGES = 12_800
RATE = 1e-3
MEAN, DEVIATION = 0.1307, 0.3081


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: width, hidden layers, and the seeds that are wanted."""

    width: int
    depth: int
    seeds: int = 16

    @property
    def name(self) -> str:
        """As tables print it."""
        return f"w{self.width} d{self.depth}"

    @property
    def words(self) -> list[str]:
        """As a command line names it."""
        return ["mlp", str(self.width), str(self.depth)]

    @property
    def data(self) -> str:
        """The dataset whose constants normalize the images."""
        return "mnist"

    def architecture(self) -> Architecture:
        """The network as fathomlab describes it."""
        return MLP(layers_dim=self.width, hidden_layers_num=self.depth, batch_norm=True).build((1, 28, 28))

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Training images and labels."""
        return images()

    @property
    def step_flops(self) -> float:
        """Products of one training step of one network: 6 x multiply-accumulates, no gradient for the input."""
        return BATCH * (6.0 * self.architecture().macs - 2.0 * 784 * self.width)

    @property
    def step_bytes(self) -> float:
        """Bytes that one training step of one network moves, if no tensor stays in a cache (`moved_bytes`)."""
        return moved_bytes(self.architecture().num_params, (self.depth + 1) * self.width, 784)


@dataclass(frozen=True)
class ConvCell:
    """1-1-1-1 without shortcuts on images of 3 x 32 x 32, the stem with its max-pool."""

    width: int = 64

    @property
    def name(self) -> str:
        """As tables print it."""
        return f"1-1-1-1 w{self.width}"

    @property
    def words(self) -> list[str]:
        """As a command line names it."""
        return ["cnn", str(self.width)]

    @property
    def data(self) -> str:
        """The dataset whose constants normalize the images."""
        return "cifar-10"

    def architecture(self) -> Architecture:
        """The network as fathomlab describes it."""
        return CNN(layers=(1, 1, 1, 1), residual=False, width=self.width, stem="pool").build((3, 32, 32))

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Random images and labels: no speed depends on what they show."""
        draws = make_rng(0, "benchmark")
        pixels = draws.integers(0, 256, (COLOR_IMAGES, 3, 32, 32), dtype=np.uint8)
        return pixels, draws.integers(0, 10, COLOR_IMAGES)

    @property
    def step_flops(self) -> float:
        """Products of one training step, counted directly: 6 x multiply-accumulates, no gradient for the input."""
        stem = 3 * self.width * 9 * 32 * 32
        return BATCH * (6.0 * self.architecture().macs - 2.0 * stem)

    @property
    def step_bytes(self) -> float:
        """Bytes that one training step in fp32 moves, if no tensor stays in a cache (`moved_bytes`)."""
        maps = 32**2 + 2 * sum(2**stage * (16 // 2**stage) ** 2 for stage in range(4))
        return moved_bytes(self.architecture().num_params, self.width * maps, 3 * 32 * 32)


Setting = Cell | ConvCell

GRID = tuple(Cell(width, depth) for width in (32, 64, 128) for depth in (10, 20, 40))
CORNERS = tuple(cell for cell in GRID if cell.width != 64 and cell.depth != 20)


def moved_bytes(params: int, units: int, pixels: int) -> float:
    """Bytes of one fp32 step with Adam, if each pass over a tensor reads or writes memory.

    Per parameter: its gradient is written and read, and the weight and both moments are read and written (32 bytes). Per unit
    and image: the outputs before and after normalization and activation are written and read, and so is the gradient (24
    bytes). Per pixel and image: it is read as uint8, written normalized, and read twice, in the forward pass and for the
    gradient of the weights (13 bytes).

    Args:
        params: Parameters of the network.
        units: Outputs of all normalized layers per image.
        pixels: Values of an image.
    """
    return 32.0 * params + BATCH * (24.0 * units + 13.0 * pixels)


def from_words(words: Sequence[str]) -> Setting:
    """The setting that `words` of a command line name."""
    kind, *sizes = words
    return (Cell if kind == "mlp" else ConvCell)(*map(int, sizes))


def images(count: int = IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """The bundled MNIST sample, repeated to `count` images: uint8 (n, 1, 28, 28) and labels (n,)."""
    from fathomlab.data import load

    split = load("mnist-sample")
    places = np.arange(count) % len(split.train_labels)
    return split.train_images[places], split.train_labels[places]


def normalized(pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(n, 784), as every system normalizes."""
    return ((pixels.to(dtype) - 255 * MEAN) / (255 * DEVIATION)).flatten(1)
