"""Runs a training step as one CUDA graph: the host launches one graph per step instead of hundreds of kernels.

Everything that changes from step to step is in tensors at fixed addresses, which the host fills before each replay. These are
indices, epoch, dropout keys, learning rate, momentum, and the step count. A constant count would freeze Adam's bias correction.
Without a CUDA device, the same tensors are passed to the same step, launched kernel by kernel.
"""

import torch

from fathomlab.engine.step import train_step_on_device
from fathomlab.engine.training import PackTrainer, StepInputs
from fathomlab.optim.rates import Rates

WARMUP_STEPS = 3


class CudaGraphStep:
    """Steps of one pack with full batches, captured after a few eager steps."""

    def __init__(self, trainer: PackTrainer):
        """Allocate the tensors that the host fills."""
        device, replicas = trainer.device, len(trainer.recipes)
        self.trainer = trainer
        self.graph: torch.cuda.CUDAGraph | None = None
        self.eager_steps = 0
        _, momentum = trainer.rates(0, 0)
        lr_shape = () if all(recipe.lr == trainer.shared_recipe.lr for recipe in trainer.recipes) else (replicas,)
        self.inputs = StepInputs(
            torch.zeros(replicas, trainer.shared_recipe.batch_size, dtype=torch.int64, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
            torch.zeros(replicas, dtype=torch.int64, device=device),
            Rates(
                torch.zeros(lr_shape, dtype=torch.float64, device=device),
                trainer.weight_decay,
                None if momentum is None else torch.tensor(momentum, dtype=torch.float64, device=device),
            ),
            torch.zeros((), dtype=torch.int64, device=device),
        )

    def __call__(self, inputs: StepInputs) -> None:
        """Train one step."""
        self._fill(inputs)
        if self.trainer.device.type != "cuda":
            train_step_on_device(self.trainer, self.inputs)
        elif self.graph is not None:
            self.graph.replay()
        elif self.eager_steps < WARMUP_STEPS:
            self._warm_up()
        else:
            self._capture()
            assert self.graph is not None
            self.graph.replay()

    def _fill(self, inputs: StepInputs) -> None:
        """Copy the inputs of a step to the fixed tensors."""
        fixed = self.inputs
        pairs = [
            (fixed.index, inputs.index),
            (fixed.epoch, inputs.epoch),
            (fixed.dropout_keys, inputs.dropout_keys),
            (fixed.count, inputs.count),
            (fixed.rates.lr, inputs.rates.lr),
            (fixed.rates.momentum, inputs.rates.momentum),
        ]
        for tensor, value in pairs:
            if isinstance(tensor, torch.Tensor):
                _ = tensor.copy_(value) if isinstance(value, torch.Tensor) else tensor.fill_(value)

    def _warm_up(self) -> None:
        """Train one step kernel by kernel on a side stream, which a capture requires."""
        stream = torch.cuda.Stream(self.trainer.device)
        stream.wait_stream(torch.cuda.current_stream(self.trainer.device))
        with torch.cuda.stream(stream):
            train_step_on_device(self.trainer, self.inputs)
        torch.cuda.current_stream(self.trainer.device).wait_stream(stream)
        self.eager_steps += 1

    def _capture(self) -> None:
        """Record a step. Recording does not train."""
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            train_step_on_device(self.trainer, self.inputs)
