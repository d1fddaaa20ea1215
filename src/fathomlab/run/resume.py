"""What interrupted trials need to resume: their packs and their environment. Imports torch only to describe the latter."""

from collections.abc import Iterable, Sequence

from fathomlab.base.errors import UserError
from fathomlab.plan import Trial
from fathomlab.run.environment import drift, environment
from fathomlab.store.checkpoints import delete_checkpoints
from fathomlab.store.inventory import Inventory


def resumable_packs(inventory: Inventory, trials: Sequence[Trial]) -> tuple[list[list[Trial]], list[Trial]]:
    """Return the complete packs of the trials that have a checkpoint, and the trials that have none.

    A pack may contain trials that have finished since. They keep their slots, so that the results of the others stay the same.
    """
    packs: list[list[Trial]] = []
    new, packed = list[Trial](), set[str]()
    for trial in trials:
        if trial.hash in packed:
            continue
        checkpoint = inventory.checkpoint(trial)
        members = checkpoint.members if checkpoint else ()  # none in a checkpoint of another schema
        entries = [inventory.trials.get(member) for member in members]
        pack = [entry.trial for entry in entries if entry is not None and entry.trial is not None]
        if not pack or len(pack) < len(members) or packed & set(members):
            new.append(trial)
            continue
        packs.append(pack)
        packed |= set(members)
    return packs, new


def remove_stale_checkpoints(inventory: Inventory, trials: Iterable[Trial]) -> None:
    """Remove the checkpoints of finished trials, except those that an unfinished trial of the same pack needs."""
    for trial in trials:
        checkpoint = inventory.checkpoint(trial)
        if checkpoint is not None and all(inventory.is_finished(member) for member in checkpoint.members):
            delete_checkpoints(inventory.root / "trials" / trial.hash, [])


def check_environment(inventory: Inventory, trials: Iterable[Trial], device: str) -> None:
    """Check that resumed trials will end with the bits of an uninterrupted run.

    Raises:
        UserError: If a checkpoint was written by another torch, other kernels, another device, or other code.
    """
    resumable = [(trial, checkpoint) for trial in trials if (checkpoint := inventory.checkpoint(trial))]
    if not resumable:
        return
    now = environment(device, gpu_name() if device == "cuda" else None, kernels())
    for trial, checkpoint in resumable:
        changes = drift(checkpoint.environment, now)
        if changes:
            raise UserError(
                "environment-changed",
                f"Cannot resume trial {trial.hash[:12]} at step {checkpoint.step}: the environment changed "
                f"({', '.join(changes)}). Use --allow-drift to resume anyway, or `fathomlab store prune --unfinished` to restart "
                "from scratch.",
            )


def gpu_name() -> str:
    """The name of the CUDA device. Imports torch."""
    import torch

    return torch.cuda.get_device_name()


def kernels() -> str:
    """The vector kernels that torch selects on this processor. Imports torch."""
    import torch

    return torch.backends.cpu.get_cpu_capability()
