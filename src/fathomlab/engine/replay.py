"""Runs a training step as one CUDA graph: the host launches one graph per step instead of hundreds of kernels.

Everything that changes from step to step is in tensors at fixed addresses, which the host fills before each replay: indices,
epoch, dropout keys, learning rate, momentum, and the step count (a constant count would freeze Adam's bias correction).
Without a CUDA device, the same tensors go through the same step, launched kernel by kernel.
"""

import torch

from fathomlab.engine.step import advance
from fathomlab.engine.training import Feed, Training
from fathomlab.optim.rates import Rates

WARM_UP = 3


class Replay:
    """Steps of one pack with full batches, captured after a few eager steps."""

    def __init__(self, training: Training):
        """Allocate the tensors that the host fills."""
        device, replicas = training.device, len(training.recipes)
        self.training = training
        self.graph: torch.cuda.CUDAGraph | None = None
        self.eager = 0
        _, momentum = training.rates(0, 0)
        shape = () if all(rate.lr == training.common.lr for rate in training.recipes) else (replicas,)
        cycled = None if momentum is None else torch.tensor(momentum, dtype=torch.float64, device=device)
        self.feed = Feed(
            torch.zeros(replicas, training.common.batch_size, dtype=torch.int64, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
            torch.zeros(replicas, dtype=torch.int64, device=device),
            Rates(torch.zeros(shape, dtype=torch.float64, device=device), training.weight_decay, cycled),
            torch.zeros((), dtype=torch.int64, device=device),
        )

    def __call__(self, feed: Feed) -> None:
        """Train one step."""
        self._fill(feed)
        if self.training.device.type != "cuda":
            advance(self.training, self.feed)
        elif self.graph is not None:
            self.graph.replay()
        elif self.eager < WARM_UP:
            self._warm()
        else:
            self._capture()
            assert self.graph is not None
            self.graph.replay()

    def _fill(self, feed: Feed) -> None:
        own, rates = self.feed, self.feed.rates
        pairs = [(own.index, feed.index), (own.epoch, feed.epoch), (own.dropout, feed.dropout), (own.count, feed.count)]
        for tensor, value in [*pairs, (rates.lr, feed.rates.lr), (rates.momentum, feed.rates.momentum)]:
            if isinstance(tensor, torch.Tensor):
                _ = tensor.copy_(value) if isinstance(value, torch.Tensor) else tensor.fill_(value)

    def _warm(self) -> None:
        """Train one step kernel by kernel on a side stream, which a capture requires."""
        stream = torch.cuda.Stream(self.training.device)
        stream.wait_stream(torch.cuda.current_stream(self.training.device))
        with torch.cuda.stream(stream):
            advance(self.training, self.feed)
        torch.cuda.current_stream(self.training.device).wait_stream(stream)
        self.eager += 1

    def _capture(self) -> None:
        """Record a step. Recording does not train."""
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            advance(self.training, self.feed)
