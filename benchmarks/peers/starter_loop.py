"""The loop of the starter files: DataLoader with 4 workers, transforms per image, two reads of the device per step."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.plain import curve as curve
from benchmarks.peers.plain import network, runner
from benchmarks.setting import BATCH, DEVIATION, MEAN, RATE, Cell, images


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """MNIST as torchvision returns it: an image object, converted to a tensor and normalized, one by one."""

    def __init__(self) -> None:
        pixels, labels = images()
        self.pixels, self.labels = torch.from_numpy(pixels[:, 0]), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = Image.fromarray(self.pixels[index].numpy())
        tensor = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(28, 28, 1)
        tensor = tensor.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return tensor.clone().sub_(MEAN).div_(DEVIATION), int(self.labels[index])


def prepare(cell: Cell, replicas: int) -> Callable[[int], None]:
    """Return a function that trains one network for some steps; `replicas` must be 1."""
    assert replicas == 1
    loader = DataLoader(Pictures(), BATCH, shuffle=True, num_workers=4, persistent_workers=True)
    net = nn.Sequential(nn.Flatten(), *network(cell, 0))
    optimizer = torch.optim.Adam(net.parameters(), RATE)

    def running() -> Iterator[None]:
        total, correct = 0.0, 0
        while True:
            for inputs, labels in loader:
                optimizer.zero_grad()
                outputs = net(inputs)
                loss = nn.functional.cross_entropy(outputs, labels)
                loss.backward()
                optimizer.step()
                total += loss.item()
                correct += (outputs.argmax(1) == labels).sum().item()
                yield

    return runner(running())
