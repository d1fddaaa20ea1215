"""The graph backend: a step is one CUDA graph, so the host launches one graph per step instead of hundreds of kernels.

Everything that changes from step to step is in tensors at fixed addresses, which the host fills before each replay. These are
indices, epoch, dropout keys, learning rate, momentum, and the step count. A constant count would freeze Adam's bias correction.
Without a CUDA device, the same tensors are passed to the same step, launched kernel by kernel. Tests use this, and runs that were
started on a CUDA device and are resumed elsewhere with `--allow-drift`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from fathomlab.optim.rates import Rates

if TYPE_CHECKING:
    import torch

    from fathomlab.engine.backends import Machine
    from fathomlab.engine.step_inputs import StepFunction, StepInputs
    from fathomlab.engine.training import PackTrainer
    from fathomlab.plan.recipe import Recipe

WARMUP_STEPS = 3


@final
@dataclass(frozen=True)
class Graph:
    """Captures a step as a CUDA graph after a few steps, and replays it."""

    def refuses(self, recipes: "Sequence[Recipe]", machine: "Machine") -> str:
        """Other devices than CUDA devices, steps in evaluation mode, and the code of plugins, which may wait for the device."""
        if machine.device != "cuda":
            return "it needs a CUDA device"
        if recipes[0].frozen:
            return "it does not support frozen parameters"
        if "student_eval" in recipes[0].emulate:
            return "it captures steps in training mode only"
        if recipes[0].needs_features:
            return "it does not support losses of features"
        return "it cannot capture the code of a plugin" if recipes[0].runs_plugins else ""

    def build(self) -> str:
        """The versions of torch and CUDA."""
        import torch

        return f"torch {torch.__version__}, CUDA {torch.version.cuda}"

    def prepare(self, pack: "PackTrainer") -> "StepFunction":
        """Allocate the tensors that the host fills. The first steps run kernel by kernel, which a capture requires."""
        from fathomlab.engine.step import for_full_batches

        return for_full_batches(pack, GraphStep(pack))


class GraphStep:
    """Steps of one pack with full batches, captured after a few eager steps."""

    def __init__(self, trainer: "PackTrainer"):
        """Allocate the tensors that the host fills."""
        self.trainer = trainer
        self.graph: torch.cuda.CUDAGraph | None = None
        self.eager_steps = 0
        self.inputs = _fixed_inputs(trainer)

    def __call__(self, inputs: "StepInputs") -> None:
        """Train one step."""
        from fathomlab.engine.step import train_step_on_device

        _fill(self.inputs, inputs)
        if self.trainer.device.type != "cuda":
            train_step_on_device(self.trainer, self.inputs)
        elif self.graph is not None:
            self.graph.replay()
        elif self.eager_steps < WARMUP_STEPS:
            self._warm_up()
        else:
            self._capture().replay()

    def _warm_up(self) -> None:
        """Train one step kernel by kernel on a side stream, which a capture requires."""
        import torch

        from fathomlab.engine.step import train_step_on_device

        stream = torch.cuda.Stream(self.trainer.device)
        stream.wait_stream(torch.cuda.current_stream(self.trainer.device))
        with torch.cuda.stream(stream):
            train_step_on_device(self.trainer, self.inputs)
        torch.cuda.current_stream(self.trainer.device).wait_stream(stream)
        self.eager_steps += 1

    def _capture(self) -> "torch.cuda.CUDAGraph":
        """Record a step. Recording does not train."""
        import torch

        from fathomlab.engine.step import train_step_on_device

        self.graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(
            self.trainer.device
        )  # torch's default is on the device of the first graph of the process
        with torch.cuda.graph(self.graph, stream=stream):
            train_step_on_device(self.trainer, self.inputs)
        return self.graph


def _fixed_inputs(trainer: "PackTrainer") -> "StepInputs":
    """Allocate the tensors that the host fills before each step."""
    import torch

    from fathomlab.engine.step_inputs import StepInputs

    device, replicas = trainer.device, len(trainer.recipes)
    _, momentum = trainer.rates(0, 0)
    lr_shape = () if all(recipe.lr == trainer.shared_recipe.lr for recipe in trainer.recipes) else (replicas,)
    index = torch.zeros(replicas, trainer.shared_recipe.batch_size, dtype=torch.int64, device=device)
    return StepInputs(
        index,
        torch.zeros((), dtype=torch.int64, device=device),
        torch.zeros(replicas, dtype=torch.int64, device=device),
        Rates(
            torch.zeros(lr_shape, dtype=torch.float64, device=device),
            trainer.weight_decay,
            None if momentum is None else torch.tensor(momentum, dtype=torch.float64, device=device),
        ),
        torch.zeros((), dtype=torch.int64, device=device),
        index.clone() if "shuffled_cache" in trainer.shared_recipe.emulate else None,
    )


def _fill(fixed: "StepInputs", inputs: "StepInputs") -> None:
    """Copy the inputs of a step to the fixed tensors."""
    import torch

    pairs = [
        (fixed.index, inputs.index),
        (fixed.teacher_index, inputs.teacher_index),
        (fixed.epoch, inputs.epoch),
        (fixed.dropout_keys, inputs.dropout_keys),
        (fixed.count, inputs.count),
        (fixed.rates.lr, inputs.rates.lr),
        (fixed.rates.momentum, inputs.rates.momentum),
    ]
    for tensor, value in pairs:
        if isinstance(tensor, torch.Tensor):
            _ = tensor.copy_(value) if isinstance(value, torch.Tensor) else tensor.fill_(value)
