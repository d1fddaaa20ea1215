"""Measures snapshots with probes. Users' probes measure copies of one replica at a time, and can change nothing."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fathomlab.base.generators import seeded
from fathomlab.base.identity import derive_seed
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.probes import Probe
from fathomlab.probes.user import UserProbe

Record = Mapping[str, Any]  # columns of one replica as lists and numbers, and the names of their entries


def measure_replicas(probe: Probe, training: PackTrainer, slots: list[int]) -> dict[int, Record]:
    """Measure the replicas in `slots`.

    Raises:
        UserError: If a user's probe returns something else than numbers, or changes a parameter.
    """
    if isinstance(probe, UserProbe):
        return {slot: replica_row(measure_copy(probe, training, slot), 0) for slot in slots}
    columns = _measured(probe, training)
    return {slot: replica_row(columns, slot) for slot in slots}


def measure_copy(probe: UserProbe, training: PackTrainer, slot: int) -> Mapping[str, Any]:
    """Measure a copy of one replica, with random numbers that depend on its seed, the probe, and the step only.

    Global generators and settings are restored.

    Raises:
        UserError: As `UserProbe.measure`, or if the probe changes the copy.
    """
    original = training.replica(slot)
    copied = original.copied()
    seed = derive_seed(training.recipes[slot].seed, "user probe", type(probe).__name__, training.state.step)
    devices = [training.device] * (training.device.type == "cuda")
    with deterministic_mode(), seeded(seed, devices):
        columns = probe.measure(Snapshot(copied))
    before, after = (state.params | state.buffers for state in (original.state, copied.state))
    changed = [name for name, tensor in after.items() if not _equal(tensor, before[name])]
    if changed:
        raise probe.defect(f"must not change parameters, got a change of {changed[0]}; change a clone instead")
    return columns


def _equal(left: Tensor, right: Tensor) -> bool:
    """Whether all numbers are equal; NaN equals NaN."""
    return left.shape == right.shape and bool(((left == right) | ((left != left) & (right != right))).all())


def replica_row(columns: Mapping[str, Any], slot: int) -> Record:
    """Return the numbers of one replica, as its log contains them."""
    return {key: value[slot].tolist() if isinstance(value, Tensor) else value for key, value in columns.items()}


def _measured(probe: Probe, training: PackTrainer) -> Mapping[str, Any]:
    """Measure each replica; separate networks and users' modules are measured one by one."""
    opaque = training.shared_recipe.architecture.opaque is not None
    if not training.replica_trainers and not (opaque and len(training.recipes) > 1):
        return probe.measure(Snapshot(training))
    replicas = [training.replica(slot) for slot in range(len(training.recipes))]
    parts: list[Mapping[str, Any]] = [probe.measure(Snapshot(replica)) for replica in replicas]
    return {
        name: torch.cat([columns[name] for columns in parts]) if isinstance(first, Tensor) else first
        for name, first in parts[0].items()
    }
