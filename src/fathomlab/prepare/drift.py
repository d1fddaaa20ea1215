"""What must be equal for a resumed trial to end with the bits of an uninterrupted run, and what is left of finished ones."""

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from fathomlab.base.errors import UserError
from fathomlab.engine.backends.native_library import describe_build
from fathomlab.plan import Trial
from fathomlab.prepare import machine
from fathomlab.store.checkpoints import delete_checkpoints
from fathomlab.store.inventory import Inventory
from fathomlab.store.provenance import Environment

NUMERIC_PACKAGES = ("base", "data", "models", "losses", "optim", "probes", "plan", "engine", "execute/pack")
NUMERIC_MODULES = ("prepare/cost",)
KERNEL_VARIABLES = ("ONEDNN_", "DNNL_", "MKL_", "OPENBLAS_", "NPY_DISABLE_", "NVIDIA_TF32", "TORCH_ALLOW_TF32")
HARMLESS = ("_NUM_THREADS", "_VERBOSE", "_VERBOSE_TIMESTAMP", "_DYNAMIC")
LABELS = {
    "code": "the code of fathomlab",
    "instructions": "the instruction sets of the processor",
    "kernels": "the vector kernels of PyTorch",
    "variables": "environment variables",
    "gpu": "the GPU",
    "native": "the compiler of the native backend",
}


def environment(device: str, gpu: str | None = None, kernels: str | None = None) -> Environment:
    """Describe what computes: torch build, instruction sets, kernels, device, threads, and code.

    Two hosts may report the same processor name and run different kernels. The name is therefore not part of the environment;
    what the processor can do and which kernels torch selects are.

    Args:
        device: cpu or cuda.
        gpu: Name of the CUDA device.
        kernels: The vector kernels that torch selects here, as `torch.backends.cpu.get_cpu_capability()` names them.
    """
    return {
        "torch": machine.versions()["torch"],
        "instructions": machine.instructions(),
        "kernels": kernels,
        "variables": _kernel_variables(),
        "device": device,
        "gpu": gpu,
        "threads": 1,
        "code": code_digest(),
        "native": describe_build() if device == "cpu" else None,
    }


def _kernel_variables() -> str:
    """The variables that select kernels in the libraries below torch, as `NAME=value ...`.

    The effect of `ATEN_CPU_CAPABILITY` is part of `kernels`. Numbers of threads are forced, so their variables have no effect.
    """
    names = [name for name in os.environ if name.startswith(KERNEL_VARIABLES) and not name.endswith(HARMLESS)]
    return " ".join(f"{name}={os.environ[name]}" for name in sorted(names))


def numeric_files() -> list[Path]:
    """List the files that decide a trial's numbers.

    These are all files in the packages that compute or measure, data files included. `execute/pack` loads inputs, restores
    checkpoints, and forces global settings; `prepare/cost` chooses separate replicas.
    """
    root = Path(__file__).parents[1]
    packages = [path for name in NUMERIC_PACKAGES for path in sorted((root / name).rglob("*"))]
    modules = [root / f"{name}.py" for name in NUMERIC_MODULES]
    return [path for path in (*packages, *modules) if path.is_file() and "__pycache__" not in path.parts]


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 of the names and contents of `numeric_files()`."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in numeric_files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def environment_diff(saved: Environment, current: Environment) -> list[str]:
    """Name what differs between two environments, one phrase each; empty if the bits will be equal.

    An entry that either side does not have is not compared: older checkpoints do not contain every entry.
    """
    return [
        f"{LABELS.get(key, key)}{_change(key, saved[key], value)}"
        for key, value in current.items()
        if key in saved and saved[key] != value
    ]


def _change(key: str, saved: object, current: object) -> str:
    if key == "code":
        return ""
    if key == "instructions":
        before, after = set(str(saved).split()), set(str(current).split())
        lost, gained = " ".join(sorted(before - after)), " ".join(sorted(after - before))
        return f" (only then: {lost or 'none'}; only now: {gained or 'none'})"
    return f" ({saved or 'none'} then, {current or 'none'} now)"


def check_environment(inventory: Inventory, trials: Iterable[Trial], current: Environment) -> None:
    """Check that resumed trials will end with the bits of an uninterrupted run.

    Raises:
        UserError: If a checkpoint was written by another torch, other kernels, another device, or other code.
    """
    for trial in trials:
        checkpoint = inventory.checkpoint(trial)
        changes = environment_diff(checkpoint.environment, current) if checkpoint else []
        if checkpoint and changes:
            raise UserError(
                "environment-changed",
                f"Cannot resume trial {trial.hash[:12]} at step {checkpoint.step}: the environment changed "
                f"({', '.join(changes)}). Use --allow-drift to resume anyway, or `fathomlab store prune --unfinished` to restart "
                "from scratch.",
            )


def remove_stale_checkpoints(inventory: Inventory, trials: Iterable[Trial]) -> None:
    """Remove the checkpoints of finished trials, except those that an unfinished trial of the same pack needs."""
    for trial in trials:
        checkpoint = inventory.checkpoint(trial)
        if checkpoint is not None and all(inventory.is_finished(member) for member in checkpoint.members):
            delete_checkpoints(inventory.root / "trials" / trial.hash, [])
