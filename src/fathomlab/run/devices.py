"""The device that trains, and whether it computes what the trials request."""

from collections.abc import Sequence

import torch

from fathomlab.base.errors import UserError
from fathomlab.engine.precision import choose_precision
from fathomlab.plan import Trial


def choose_device(name: str) -> torch.device:
    """Return the device that `--device` selects.

    Raises:
        UserError: If PyTorch has no such device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no-cuda", "--device cuda: no CUDA device available to PyTorch. Use --device cpu or auto.")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def check_precision(trials: Sequence[Trial], device: str) -> None:
    """Check that bf16 works on this machine for every trial that requests it.

    Raises:
        UserError: If it does not.
    """
    chosen = choose_device(device)
    for trial in trials:
        config = trial.recipe
        choose_precision(config.precision, config.architecture, config.batch_size, chosen)
