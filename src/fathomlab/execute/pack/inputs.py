"""What a pack learns from: the dataset on its device, teachers with their logits, and weights to start from.

Datasets are cached between packs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from fathomlab import data as datasets
from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError
from fathomlab.data.shared import load_shared
from fathomlab.data.split import stratified_subset
from fathomlab.data.table import Dataset, DatasetArrays
from fathomlab.data.users import UserDataset
from fathomlab.engine.device_data import DeviceDataset, to_device
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.opaque import restored_tensors
from fathomlab.engine.state import load_start_weights
from fathomlab.engine.teachers import Teacher, TeacherPack, ViewTable, mean_logits
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.pack.tables import LoadedTeacher, StoredViews, TeacherTables
from fathomlab.models.functional import to_format
from fathomlab.plan import Trial
from fathomlab.plan.recipe import Recipe
from fathomlab.store.checksums import file_sha256
from fathomlab.store.datasets import find_dataset, read_arrays
from fathomlab.store.reading import Store
from fathomlab.store.records import TERMINAL_STATUSES
from fathomlab.store.trial_files import trial_status
from fathomlab.store.weights import load_tensors


@lru_cache(maxsize=2)
def load_dataset(
    dataset: Dataset | UserDataset, root: Path, device: str, dtype: torch.dtype
) -> tuple[DatasetArrays, DeviceDataset]:
    """Load a dataset to the device. The last two are cached. On a CPU, the images are those that other processes map, too.

    Args:
        dataset: The component of a trial, `trial.data.component`.
        root: The store, which has the images of users' datasets.
        device: cpu, cuda, or cuda:N.
        dtype: Format of normalized images.

    Raises:
        UserError: If files are missing or corrupted.
    """
    arrays = read_arrays(root, dataset) if isinstance(dataset, UserDataset) else load_shared(dataset)
    return arrays, to_device(arrays, dataset.info, torch.device(device), dtype)


def load_dataset_of(
    content: JsonObject, root: Path, device: str, dtype: torch.dtype
) -> tuple[DatasetArrays, DeviceDataset]:
    """Load the dataset of a trial in the store, from its content. No plugin is needed.

    Raises:
        UserError: If the dataset is unknown, or files are missing or corrupted.
    """
    dataset = find_dataset(root, content)
    if dataset is None:
        dataset = datasets.make(str(content["data"]["name"]), content["data"]["params"])
    return load_dataset(dataset, root, device, dtype)


def load_teachers(
    trials: Sequence[Trial],
    recipes: Sequence[Recipe],
    images: DeviceDataset,
    root: Path,
    device: torch.device,
    stop: Callable[[], int | None] = lambda: None,
) -> TeacherPack | None:
    """Load the teachers of a pack of students, with their outputs for every training image; None without teachers.

    The outputs are computed and stored in the format of the students' precision. Students of one ensemble share a table.
    `stop` returns a signal number to request the end while outputs are computed.

    Raises:
        UserError: If weights are missing, or if stored outputs do not belong to the teacher and the images.
        RunInterrupted: If `stop` requested it.
    """
    common = recipes[0]
    if not trials[0].teachers:
        return None
    rows = torch.arange(len(images.labels), device=device)
    if common.limit is not None:
        rows = torch.from_numpy(stratified_subset(images.labels.cpu().numpy(), common.limit)).to(device)
    teachers = {teacher.hash: teacher for trial in trials for teacher in trial.teachers}
    loaded = {name: _load_teacher(teacher, images, root) for name, teacher in teachers.items()}
    members = tuple(  # one entry per member of the ensemble
        _member([loaded[teacher.hash] for teacher in each], device)
        for each in zip(*(trial.teachers for trial in trials), strict=True)
    )
    tables = TeacherTables(images, rows, common, stop)

    def outputs(trial: Trial, views: StoredViews) -> Tensor:
        """The mean outputs of a trial's teachers, (views, images, classes). The mean is computed view by view."""
        names = [teacher.hash for teacher in trial.teachers]
        each = [tables.load(loaded[name], views, _computed_for(trials, name, root)) for name in names]
        if len(each) == 1:
            return each[0]
        exact = images.mean.dtype  # a mean in half precision would be rounded twice
        means = (mean_logits([table.to(exact) for table in view]) for view in zip(*each, strict=True))
        return torch.stack([mean.to(views.dtype) for mean in means])

    ensembles = [tuple(teacher.hash for teacher in trial.teachers) for trial in trials]
    clean, slots = _shared(ensembles, lambda slot: outputs(trials[slot], tables.clean()))
    logits = torch.full((len(clean), len(images.images), clean.shape[-1]), torch.nan, device=device, dtype=clean.dtype)
    logits[:, rows] = clean[:, 0]
    pack = TeacherPack(logits, members, torch.tensor(slots, device=device))
    if not common.table_views:
        return pack
    if common.targets == "consistent":
        views, slots = _shared(ensembles, lambda slot: outputs(trials[slot], tables.all()))
    else:
        seeded = [(*ensemble, str(recipe.seed)) for ensemble, recipe in zip(ensembles, recipes, strict=True)]
        views, slots = _shared(seeded, lambda slot: outputs(trials[slot], tables.random(recipes[slot])))
    position = torch.full((len(images.images),), -1, device=device)
    position[rows] = torch.arange(len(rows), device=device)
    return replace(pack, views=ViewTable(views, torch.tensor(slots, device=device), position))


def _shared(keys: Sequence[tuple[str, ...]], table: Callable[[int], Tensor]) -> tuple[Tensor, list[int]]:
    """Compute one table per distinct key, stacked, and the index of the table of each slot. One table is not copied."""
    distinct = list(dict.fromkeys(keys))
    tables = [table(keys.index(key)) for key in distinct]
    return tables[0].unsqueeze(0) if len(tables) == 1 else torch.stack(tables), [distinct.index(key) for key in keys]


def _computed_for(trials: Sequence[Trial], teacher: str, root: Path) -> str:
    """The first trial without a result that learns from a teacher: the time of computing its outputs belongs to it."""
    students = (trial.hash for trial in trials if teacher in [parent.hash for parent in trial.teachers])
    return next((trial for trial in students if trial_status(root, trial) not in TERMINAL_STATUSES), "")


def _load_teacher(teacher: Trial, images: DeviceDataset, root: Path) -> LoadedTeacher:
    """Load a teacher in the format of the images."""
    device, dtype, network = images.images.device, images.mean.dtype, teacher.recipe.architecture
    saved, digest = _weights(root, teacher.hash)
    saved = saved if network.opaque is None else restored_tensors(network.opaque, saved)
    tensors = {name: to_format(tensor.detach().to(device), dtype).unsqueeze(0) for name, tensor in saved.items()}
    folder = root / "trials" / teacher.hash
    return LoadedTeacher(teacher.hash, folder, digest, PackedNetwork([network], device), tensors)


def _member(teachers: Sequence[LoadedTeacher], device: torch.device) -> Teacher:
    """One teacher per student as one tensor program."""
    network = PackedNetwork([teacher.network.architecture for teacher in teachers], device)
    names = teachers[0].tensors
    stacked = {name: torch.cat([teacher.tensors[name] for teacher in teachers]) for name in names}
    return Teacher(network, stacked, stacked)


def load_starts(trials: Sequence[Trial], training: PackTrainer, root: Path) -> None:
    """Replace the initial weights of the trials that start from the weights of another one."""
    for slot, trial in enumerate(trials):
        if trial.start is not None:
            load_start_weights(training.state, slot, _weights(root, trial.start.hash)[0])


def _weights(root: Path, parent: str) -> tuple[dict[str, Tensor], str]:
    """Load the weights of a trial after its last epoch, verified against its result, and the SHA-256 of their file.

    Raises:
        UserError: If there are none, or if they are corrupted.
    """
    record = Store(root).trial(parent)
    path = record.folder / "checkpoint.safetensors"
    if record.status != "finished" or not path.exists():
        finished = record.status == "finished"
        why = f"{path} is missing" if finished else f"status: {record.status}"
        remedy = ". Remove the trial's folder and run again" if finished else ""
        raise UserError("no-parent", f"parent trial {parent[:12]} has no weights ({why}){remedy}")
    digest, sha256 = record.files.get(path.name), file_sha256(path)
    if record.files and (digest is None or digest.sha256 != sha256):
        raise UserError(
            "corrupt-file", f"{path}: corrupted (checksum mismatch). Run `fathomlab store repair`, then run again."
        )
    return load_tensors(path)[0], sha256
