"""Jobs: packs of trials, with all that a worker must know to train them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fathomlab import data as datasets
from fathomlab.base.codec import Encoded
from fathomlab.base.errors import UserError
from fathomlab.config.components import Components
from fathomlab.config.plugins import Plugin
from fathomlab.config.schema import LoggingOptions
from fathomlab.data.arrays import Arrays, content_sha256
from fathomlab.data.table import Dataset
from fathomlab.data.users import UserDataset
from fathomlab.plan import Plan, Trial, decode_trial, encode_trial
from fathomlab.prepare import cost
from fathomlab.prepare.backends import choose_backend, requested_backend, supports_native
from fathomlab.prepare.machine import describe_machine, guess_device
from fathomlab.prepare.packing import form_packs, generation
from fathomlab.store.datasets import arrays_path, change_of, write_dataset
from fathomlab.store.directory import check_disk_space
from fathomlab.store.inventory import Inventory
from fathomlab.store.leases import Observation

TrialWithParents = Annotated[Trial, Encoded(encode_trial, decode_trial)]
# A directory's name is bytes, which need not be valid text.
Directory = Annotated[
    Path,
    Encoded(lambda path: os.fsencode(path).decode("latin-1"), lambda text: Path(os.fsdecode(text.encode("latin-1")))),
]


@dataclass(frozen=True)
class Job:
    """A pack of trials to train as one tensor program, and all that a worker must know to do so.

    Attributes:
        trials: Trials of one signature.
        root: The store.
        device: auto, cpu, cuda, or cuda:N; auto:N is GPU N, or the CPU if PyTorch cannot use a GPU.
        logging: Stored with each trial for exporters.
        checkpoint_seconds: Time between two checkpoints (s); None spends at most 1% of the time on them.
        backend: Computes the steps; a name of `engine.backends.BACKENDS`. A checkpoint of the pack takes precedence.
        may_fall_back: Whether to use the reference if the backend fails before the first step.
        may_drift: Whether to resume a checkpoint of another environment.
        leases: Whether to train only with a lease for each trial, because other hosts may train into the store.
        expired: Leases of processes that count as dead.
        seconds: Predicted time on one core (s).
    """

    trials: tuple[TrialWithParents, ...]
    root: Directory
    device: str = "auto"
    logging: LoggingOptions = field(default_factory=LoggingOptions)
    checkpoint_seconds: float | None = None
    backend: str = "reference"
    may_fall_back: bool = False
    may_drift: bool = True
    leases: bool = False
    expired: tuple[Observation, ...] = ()
    seconds: float = 0.0

    @property
    def hashes(self) -> tuple[str, ...]:
        """The hash of each trial."""
        return tuple(trial.hash for trial in self.trials)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins of its trials and their parents, with their source: a worker loads no others."""
        lineage = (member for trial in self.trials for member in (trial, *trial.ancestors))
        return tuple(dict.fromkeys(plugin for member in lineage for plugin in member.plugins))


def prepare_jobs(
    plan: Plan,
    pending: Sequence[Trial],
    inventory: Inventory,
    device: str,
    workers: int,
    queued: Sequence[tuple[str, ...]] = (),
) -> tuple[Job, ...]:
    """Pack the trials to train and choose their backends, after checking that the disk has space for them.

    With several workers, the jobs of each generation are ordered by their predicted time, the longest first, so that no worker
    starts a long job when the others have nothing left. With one worker, they have the order of the plan.

    Args:
        plan: The plan.
        pending: Its trials to train.
        inventory: What the store has.
        device: The value of `--device`.
        workers: Number of workers that share the memory.
        queued: Packs, as hashes of their trials, for which a cluster has jobs already.

    Raises:
        UserError: If the disk has too little free space, if a table of teachers' outputs does not fit into the memory, or if
            `run.backend` cannot train one of the packs.
    """
    jobs = form_jobs(plan, pending, inventory, device, workers, queued)
    cost.check_memory(pending)
    check_disk_space(inventory.root, cost.disk_bytes([list(job.trials) for job in jobs], workers))
    return jobs


def form_jobs(
    plan: Plan,
    pending: Sequence[Trial],
    inventory: Inventory,
    device: str,
    workers: int,
    queued: Sequence[tuple[str, ...]] = (),
) -> tuple[Job, ...]:
    """As `prepare_jobs`, without looking at memory and disk.

    Raises:
        UserError: If `run.backend` cannot train one of the packs.
    """
    machine, requested = describe_machine(guess_device(device)), requested_backend(plan)
    packs = form_packs(plan, pending, inventory, device, workers, queued)
    logging, every = plan.loaded.file.logging, plan.loaded.run.checkpoint_seconds
    native = supports_native(plan, machine)
    backends = [choose_backend(pack, inventory, requested, machine, native) for pack in packs]
    expected, _ = cost.expected_seconds(plan.trials, inventory)
    jobs = [
        Job(
            tuple(pack),
            inventory.root,
            device,
            logging,
            every,
            backend,
            may_fall_back=requested == "auto",
            seconds=sum(_remaining_share(trial, inventory) * expected.get(trial.hash, 0.0) for trial in pack),
        )
        for pack, backend in zip(packs, backends, strict=True)
    ]
    if workers > 1:
        jobs.sort(key=lambda job: (max(map(generation, job.trials)), -job.seconds))
    return tuple(jobs)


def _remaining_share(trial: Trial, inventory: Inventory) -> float:
    """The part of a trial that is not trained yet."""
    checkpoint = inventory.checkpoint(trial)
    return 1.0 - (checkpoint.epoch / trial.recipe.epochs if checkpoint else 0.0)


def provide_datasets(plan: Plan, pending: Sequence[Trial], root: Path) -> None:
    """Download the datasets of the trials to train that are not on the disk, and write users' datasets to the store.

    Raises:
        UserError: If a dataset cannot be downloaded or written, or a function returns other images than in an earlier run.
    """
    for dataset in dict.fromkeys(trial.data.component for trial in plan.trials):
        if isinstance(dataset, UserDataset) and (text := change_of(root, dataset)):
            raise UserError("data-changed", text)
    for dataset in dict.fromkeys(trial.data.component for trial in pending):
        provide_dataset(dataset, root, plan.loaded.components)


def provide_dataset(dataset: Dataset | UserDataset, root: Path, components: Components) -> None:
    """Download a dataset that is not on the disk, or write a user's dataset to the store.

    Raises:
        UserError: If it cannot be downloaded or written.
    """
    if isinstance(dataset, UserDataset):
        _store_dataset(root, dataset, components.user_data.arrays[dataset.sha256])
    elif dataset.layout is not None:
        datasets.download_dataset(dataset.info.name)


def _store_dataset(root: Path, dataset: UserDataset, arrays: Arrays) -> None:
    if content_sha256(arrays.by_name) != dataset.sha256:
        text = (
            f"data.name: the arrays of {dataset.info.title} were changed after they had been returned; return copies."
        )
        raise UserError("data-changed", text)
    if not arrays_path(root, dataset.sha256).exists():
        check_disk_space(root, sum(array.nbytes for array in arrays.by_name.values()))
    try:
        write_dataset(root, dataset, arrays)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError("unwritable", f"{root}: cannot write the dataset {dataset.info.title}: {reason}.") from None
