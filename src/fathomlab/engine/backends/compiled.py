"""The compiled backend: forward pass, loss, and gradients of an MLP are compiled once per pack, on a CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from fathomlab.base.errors import UserError
from fathomlab.models.architecture import walk
from fathomlab.models.layers import Dropout

if TYPE_CHECKING:
    from fathomlab.engine.backends import Machine
    from fathomlab.engine.step_inputs import StepFunction
    from fathomlab.engine.training import PackTrainer
    from fathomlab.plan.recipe import Recipe


@final
@dataclass(frozen=True)
class Compiled:
    """Compiles forward pass and loss with `torch.compile`. The optimizer's step is that of the reference."""

    def refuses(self, recipes: "Sequence[Recipe]", machine: "Machine") -> str:
        """Other devices than a CPU, no C++ compiler, code of plugins, convolutions, dropout, and steps in evaluation mode."""
        architecture = recipes[0].architecture
        if machine.device != "cpu":
            return "it needs a CPU"
        if not machine.compiler:
            return "no C++ compiler is installed"
        if recipes[0].frozen:
            return "it does not support frozen parameters"
        if "student_eval" in recipes[0].emulate:
            return "it compiles steps in training mode only"
        if recipes[0].needs_features:
            return "it does not support losses of features"
        if recipes[0].runs_plugins:
            return "it does not compile the code of plugins"
        if architecture.convolutional:
            return "it does not speed up convolutional networks"
        if any(isinstance(layer, Dropout) and layer.p for layer in walk(architecture.layers)):
            return "it does not support dropout"  # compiled 64-bit integer code crashes (torch 2.13.0)
        return ""

    def build(self) -> str:
        """The version of torch, and the instruction set that code is generated for."""
        import torch

        return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"

    def prepare(self, pack: "PackTrainer") -> "StepFunction":
        """Compile for the shapes of this pack. This takes seconds.

        Raises:
            UserError: If torch cannot compile, for example because headers of the compiler are missing.
        """
        import torch
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import, and few packs compile

        from fathomlab.engine.step import for_full_batches, forward_and_loss, train_step_on_device

        torch.compiler.reset()  # torch limits the shapes per function, and each pack is a new shape
        # Otherwise torch reuses code that was compiled for a wider instruction set, and gets NaN.
        torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
        forward = torch.compile(forward_and_loss, dynamic=False)
        try:
            _run_once(pack, forward)
        except TorchDynamoException as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UserError("backend-failed", f"torch cannot compile ({type(error).__name__}: {reason})") from error
        return for_full_batches(pack, lambda inputs: train_step_on_device(pack, inputs, forward))


def _run_once(pack: "PackTrainer", forward: Callable[..., Any]) -> None:
    """Compute the gradients of a full batch, because torch compiles at the first call. Running statistics are restored."""
    import torch

    batch_size, buffers = pack.shared_recipe.batch_size, pack.state.buffers
    if pack.train_index.shape[1] < batch_size:  # no step has a full batch
        return
    before = {name: tensor.clone() for name, tensor in buffers.items()}
    index = pack.train_index[:, :batch_size]
    try:
        images = pack.batch(index, 0)
        labels, teacher_logits = pack.data.labels[index], pack.teacher_logits(index, images, 0)
        _, losses = forward(pack, images, labels, teacher_logits, pack.keys("dropout", 0), "train")
        torch.autograd.grad(losses.mean(1).sum(), list(pack.state.params.values()))
    finally:
        for name, tensor in before.items():
            buffers[name].copy_(tensor)
