"""The networks of the quick experiments 1.1 and 1.2 in plain PyTorch loops, one after another, without a report.

python -m benchmarks.peers.plain_quick EXPERIMENT NUMBER COUNT trains every COUNT-th network from NUMBER with one thread, and
prints the test accuracies by condition as JSON. Each epoch ends with an evaluation of the validation images. The last and the
best weights are evaluated on the test images, as fathomlab does.
"""

import copy
import json
import sys
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.peers.plain import evaluate
from benchmarks.setting import BATCH, RATE, normalized
from fathomlab.data import load

SEEDS = 7
VALIDATION = 0.2


@dataclass(frozen=True)
class Condition:
    """A kind of network, and how long it is trained."""

    width: int
    depth: int
    batch_norm: bool
    residual: bool
    epochs: int

    @property
    def name(self) -> str:
        """The key of the result."""
        return f"w{self.width} d{self.depth}{' residual' if self.residual else ''}"


EXPERIMENTS = {
    "1_1": [Condition(width, depth, True, False, 8) for width in (32, 128) for depth in (10, 20, 40)],
    "1_2": [Condition(128, depth, False, residual, 6) for depth in (5, 10, 20, 40) for residual in (False, True)],
}


class Shortcut(nn.Module):
    """Adds its input to the output of a branch."""

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + self.branch(inputs)


def network(condition: Condition) -> nn.Sequential:
    """Build a network with torch's default initialization."""
    width, layers, inputs = condition.width, [], 784
    for index in range(condition.depth + 1):
        norm = [nn.BatchNorm1d(width)] if condition.batch_norm else []
        layer = nn.Sequential(nn.Linear(inputs, width), *norm, nn.ReLU())
        layers.append(Shortcut(layer) if condition.residual and index else layer)
        inputs = width
    return nn.Sequential(*layers, nn.Linear(width, 10))


def train(condition: Condition, seed: int) -> float:
    """Train one network; returns its test accuracy."""
    torch.manual_seed(seed)
    split = load("mnist-sample")
    inputs, test_inputs = (normalized(torch.from_numpy(p)) for p in (split.train_images, split.test_images))
    labels, test_labels = (torch.from_numpy(y) for y in (split.train_labels, split.test_labels))
    order = torch.randperm(len(labels))
    held_out = int(VALIDATION * len(labels))
    validation, training = order[:held_out], order[held_out:]
    net = network(condition)
    optimizer = torch.optim.Adam(net.parameters(), RATE, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, condition.epochs)
    best, best_accuracy = net.state_dict(), -1.0
    for _ in range(condition.epochs):
        net.train()
        for rows in training[torch.randperm(len(training))].split(BATCH):
            loss = nn.functional.cross_entropy(net(inputs[rows]), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        scheduler.step()
        _, accuracy = evaluate(net.eval(), inputs[validation], labels[validation])
        if accuracy > best_accuracy:
            best, best_accuracy = copy.deepcopy(net.state_dict()), accuracy
    _, accuracy = evaluate(net, test_inputs, test_labels)
    net.load_state_dict(best)
    evaluate(net, test_inputs, test_labels)
    return accuracy


def main() -> None:
    """Train a share of the networks."""
    experiment, number, count = sys.argv[1], *map(int, sys.argv[2:4])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    jobs = [(condition, seed) for condition in EXPERIMENTS[experiment] for seed in range(SEEDS)]
    accuracies: dict[str, list[float]] = {}
    for condition, seed in jobs[number::count]:
        accuracies.setdefault(condition.name, []).append(train(condition, seed))
    print(json.dumps(accuracies))


if __name__ == "__main__":
    main()
