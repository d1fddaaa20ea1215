"""Writes the weights of a trial to its folder."""

import torch

from fathomlab.engine.adapters import adapters, without_adapters
from fathomlab.engine.opaque import saved_tensors
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.pack.checkpointer import Replica
from fathomlab.store.weights import save_tensors


def save_weights(training: PackTrainer, slot: int, replica: Replica, module: torch.nn.Module | None) -> None:
    """Write the weights after the last epoch (the last finite ones if the replica diverged) and the best weights.

    What the loss learned in addition to the network is a file of its own, because no network needs it. Several threads call this.

    Args:
        training: The trained pack.
        slot: Slot of the replica.
        replica: The trial.
        module: A user's module, with the names of its tensors.
    """
    state = training.state
    last = (state.last_finite if replica.diverged else None) or state
    epochs = int(state.last_finite.epoch[slot]) if replica.diverged else state.epoch
    best = ("best", state.best, int(state.best.epoch[slot]))
    for name, weights, epoch in (("checkpoint", last, epochs), best):
        parts = {**without_adapters(weights.params), **weights.buffers}
        tensors = {key: tensor[slot] for key, tensor in parts.items()}
        tensors = tensors if module is None else saved_tensors(module, tensors)
        metadata = {"trial": replica.trial.hash, "epoch": epoch, "step": epoch * training.steps_per_epoch}
        folder = replica.folder
        save_tensors(folder.path / f"{name}.safetensors", tensors, metadata, folder.verify)
        learned = {key: tensor[slot] for key, tensor in adapters(weights.params).items()}
        if learned and name == "checkpoint":
            save_tensors(folder.path / "adapters.safetensors", learned, metadata, folder.verify)
