"""PyTorch Lightning: data in memory and batched by index, no logger, progress bar or checkpoints, fused Adam."""

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from benchmarks.peers.plain import EVALUATION_BATCH, data, network, trained_networks
from benchmarks.setting import BATCH, EVALUATED, RATE, Cell

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Classifier(lightning.LightningModule):
    """The cell's network as a LightningModule; `after` is called with each loss."""

    def __init__(self, net: nn.Module, after: Callable[[torch.Tensor], None]):
        super().__init__()
        self.net, self.after = net, after
        self.sums = torch.zeros(2, dtype=torch.float64)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        inputs, labels = batch
        return nn.functional.cross_entropy(self.net(inputs), labels)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.after(outputs["loss"])

    def validation_step(self, batch: Any, batch_index: int) -> None:
        inputs, labels = batch
        outputs = self.net(inputs)
        self.sums[0] += nn.functional.cross_entropy(outputs, labels, reduction="sum")
        self.sums[1] += (outputs.argmax(1) == labels).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), RATE, fused=True)


def _trainer(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **options,
    )


def curve(cell: Cell, seed: int, order: torch.Tensor) -> list[float]:
    """Losses in float64 on the images of each row of `order`."""
    inputs, labels = data(torch.float64)
    losses: list[float] = []
    batches = [(inputs[row], labels[row]) for row in order]
    model = Classifier(network(cell, seed, torch.float64), lambda loss: losses.append(float(loss)))
    _trainer(max_epochs=1).fit(model, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return losses


def prepare(cell: Cell, replicas: int) -> Callable[[int], None]:
    """Return a function that lets a running trainer take some steps; `replicas` must be 1."""
    assert replicas == 1
    dataset = TensorDataset(*data())
    loader = DataLoader(dataset, batch_size=None, sampler=BatchSampler(RandomSampler(dataset), BATCH, drop_last=False))
    wanted: Queue[int] = Queue()
    done: Queue[None] = Queue()
    left = [0]

    def after(loss: torch.Tensor) -> None:
        left[0] -= 1
        if left[0] == 0:
            done.put(None)
            left[0] = wanted.get()

    def fit() -> Iterator[None]:
        left[0] = wanted.get()
        _trainer(max_epochs=-1).fit(Classifier(network(cell, 0), after), loader)
        yield

    threading.Thread(target=lambda: next(fit()), daemon=True).start()

    def go(count: int) -> None:
        wanted.put(count)
        done.get()

    return go


def _evaluation(net: nn.Module, dtype: torch.dtype) -> Callable[[], list[float]]:
    """Return a function that computes loss and accuracy."""
    dataset = TensorDataset(*data(dtype, EVALUATED))
    batches = BatchSampler(range(EVALUATED), EVALUATION_BATCH, drop_last=False)  # type: ignore[arg-type]
    loader = DataLoader(dataset, batch_size=None, sampler=batches)
    trainer, model = _trainer(), Classifier(net, lambda loss: None)

    def evaluate() -> list[float]:
        model.sums.zero_()
        trainer.validate(model, loader, verbose=False)
        return (model.sums / EVALUATED).tolist()

    return evaluate


def metrics(cell: Cell, seed: int) -> list[float]:
    """Loss and accuracy of the network of `seed` in fathomlab's trained pack, in float64."""
    return _evaluation(trained_networks(cell, seed + 1, torch.float64)[seed], torch.float64)()


def prepare_evaluation(cell: Cell, replicas: int) -> Callable[[int], None]:
    """Return a function that evaluates one network some times; `replicas` must be 1."""
    assert replicas == 1
    evaluate = _evaluation(trained_networks(cell, 1)[0], torch.float32)

    def go(count: int) -> None:
        for _ in range(count):
            evaluate()

    return go
