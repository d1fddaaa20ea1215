"""The device that trains, what it is, and whether it computes what the trials request."""

from collections.abc import Sequence

import torch

from fathomlab.base.errors import UserError
from fathomlab.engine.precision import choose_precision
from fathomlab.plan import Trial
from fathomlab.prepare.drift import environment
from fathomlab.store.provenance import Environment


def choose_device(name: str) -> torch.device:
    """Return the device that `--device` selects.

    Raises:
        UserError: If PyTorch has no such device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no-cuda", "--device cuda: no CUDA device available to PyTorch. Use --device cpu or auto.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def current_environment(device: str) -> Environment:
    """Describe what computes on a device (cpu or cuda), including the vector kernels that torch selects on this processor."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return environment(device, gpu, torch.backends.cpu.get_cpu_capability())


def check_precision(trials: Sequence[Trial], device: str) -> None:
    """Check that bf16 works on this machine for every trial that requests it.

    Raises:
        UserError: If it does not.
    """
    chosen = choose_device(device)
    for trial in trials:
        recipe = trial.recipe
        choose_precision(recipe.precision, recipe.architecture, recipe.batch_size, chosen)
