"""What every system trains: the BN MLP of experiment 1.1, Adam 1e-3, batch 128, 48,000 images of 784 pixels."""

from dataclasses import dataclass

import numpy as np
import torch

from fathomlab.models.architecture import Architecture
from fathomlab.models.mlp import MLP

BATCH = 128
IMAGES = 48_000
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

    def architecture(self) -> Architecture:
        """The network as fathomlab describes it."""
        return MLP(layers_dim=self.width, hidden_layers_num=self.depth, batch_norm=True).build((1, 28, 28))

    @property
    def step_flops(self) -> float:
        """Products of one training step of one network: 6 x multiply-accumulates, no gradient for the input."""
        return BATCH * (6.0 * self.architecture().macs - 2.0 * 784 * self.width)


GRID = tuple(Cell(width, depth) for width in (32, 64, 128) for depth in (10, 20, 40))
CORNERS = tuple(cell for cell in GRID if cell.width != 64 and cell.depth != 20)


def images() -> tuple[np.ndarray, np.ndarray]:
    """The bundled MNIST sample, repeated to 48,000 images: uint8 (n, 1, 28, 28) and labels (n,)."""
    from fathomlab.data import load

    split = load("mnist-sample")
    places = np.arange(IMAGES) % len(split.train_labels)
    return split.train_images[places], split.train_labels[places]


def normalised(pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(n, 784), as every system normalises."""
    return ((pixels.to(dtype) - 255 * MEAN) / (255 * DEVIATION)).flatten(1)
