"""Writes where the numbers of a pack come from."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import torch

from fathomlab.data.table import DatasetArrays
from fathomlab.engine.backends import BACKENDS
from fathomlab.execute.pack.checkpointer import Checkpointer
from fathomlab.execute.pack.settings import determinism
from fathomlab.plan.recipe import Recipe
from fathomlab.prepare import machine
from fathomlab.store.provenance import BackendBuild, DataSource, PackSlot, PluginDigest


def write_provenance(checkpointer: Checkpointer, recipe: Recipe, arrays: DatasetArrays, device: str, node: str) -> None:
    """Write the provenance of the trials without a result.

    Args:
        checkpointer: The trials, their environment, and the backend.
        recipe: What the trials share.
        arrays: Their dataset.
        device: cpu or cuda.
        node: The node of the cluster; `""` on the machine of the run.
    """
    process, environment = machine.collect_provenance(), checkpointer.environment
    gpu, backend = environment["gpu"], checkpointer.backend
    assert process.hardware is not None
    shared = replace(
        process,
        hardware=replace(process.hardware, gpu=None if gpu is None else str(gpu)),
        environment=environment,
        device=device,
        precision=recipe.precision,
        backend=BackendBuild(backend, BACKENDS[backend].build()),
        threads=torch.get_num_threads(),
        deterministic=determinism(),
        data=DataSource(
            json.loads(recipe.data)["name"], dict(arrays.files), tuple(arrays.modified), tuple(arrays.notes)
        ),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        resumed=checkpointer.resumed,
        node=node or None,
    )
    members = tuple(replica.trial.hash for replica in checkpointer.replicas)
    for slot, replica in checkpointer.active:
        plugins = tuple(PluginDigest(plugin.name, plugin.sha256) for plugin in replica.trial.plugins)
        replica.folder.write_provenance(replace(shared, pack=PackSlot(len(members), slot, members), plugins=plugins))
