"""The device that trains, what it is, and whether it computes what the trials request."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from fathomlab.base.errors import UserError
from fathomlab.engine.precision_choice import choose_precision
from fathomlab.plan import Trial
from fathomlab.prepare.drift import environment
from fathomlab.store.provenance import Environment


def choose_device(name: str) -> torch.device:
    """Return the device that `--device`, or the device of a job, selects.

    Raises:
        UserError: If PyTorch has no such device.
    """
    kind, _, index = name.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "auto":  # a worker's GPU was counted without torch, which may see fewer
        kind, index = "cuda" if count else "cpu", str(int(index) % count) if index and count else ""
    elif not count:
        raise UserError("no-cuda", f"--device {name}: no CUDA device available to PyTorch. Use --device cpu or auto.")
    elif index and int(index) >= count:
        devices = "1 CUDA device (cuda:0)" if count == 1 else f"{count} CUDA devices (cuda:0 to cuda:{count - 1})"
        raise UserError("no-cuda", f"--device {name}: PyTorch has {devices}. Use one of them, cuda, cpu, or auto.")
    return torch.device(kind, int(index)) if index else torch.device(kind)


def on_device(name: str) -> AbstractContextManager[object]:
    """Make the device of a job the current one, which some operations of CUDA use whatever device their data is on.

    Raises:
        UserError: If PyTorch has no such device.
    """
    device = choose_device(name)
    return nullcontext() if device.index is None else torch.cuda.device(device)


def current_environment(device: str) -> Environment:
    """Describe what computes on a device (cpu, cuda, or cuda:N), including the kernels that torch selects on this processor.

    The number of a GPU is not part of it: a pack may resume on any GPU of the same name.
    """
    chosen = torch.device(device)
    gpu = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else None
    return environment(chosen.type, gpu, torch.backends.cpu.get_cpu_capability())


def check_precision(trials: Sequence[Trial], device: str) -> None:
    """Check that bf16 works on this machine for every trial that requests it.

    Raises:
        UserError: If it does not.
    """
    chosen = choose_device(device)
    for trial in trials:
        recipe = trial.recipe
        choose_precision(recipe.precision, recipe.architecture, recipe.batch_size, chosen)
