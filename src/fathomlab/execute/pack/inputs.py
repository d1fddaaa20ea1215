"""What a pack learns from: the dataset on its device, teachers with their logits, and weights to start from.

Datasets are cached between packs.
"""

import contextlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from fathomlab import data as datasets
from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError
from fathomlab.data.split import stratified_subset
from fathomlab.data.table import Dataset, DatasetArrays
from fathomlab.data.users import UserDataset
from fathomlab.engine.device_data import DeviceDataset, to_device
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.opaque import restored_tensors
from fathomlab.engine.state import load_start_weights
from fathomlab.engine.teachers import Teacher, TeacherPack, mean_logits
from fathomlab.engine.training import PackTrainer
from fathomlab.models.functional import to_format
from fathomlab.plan import Trial
from fathomlab.plan.recipe import Recipe
from fathomlab.store.checksums import CorruptFileError, file_sha256
from fathomlab.store.datasets import find_dataset, read_arrays
from fathomlab.store.reading import Store
from fathomlab.store.weights import load_checked, load_tensors, save_checked

TEACHER_BATCH = 512


@lru_cache(maxsize=2)
def load_dataset(
    dataset: Dataset | UserDataset, root: Path, device: str, dtype: torch.dtype
) -> tuple[DatasetArrays, DeviceDataset]:
    """Load a dataset to the device. The last two are cached.

    Args:
        dataset: The component of a trial, `trial.data.component`.
        root: The store, which has the images of users' datasets.
        device: cpu or cuda.
        dtype: Format of normalized images.

    Raises:
        UserError: If files are missing or corrupted.
    """
    arrays = read_arrays(root, dataset) if isinstance(dataset, UserDataset) else dataset.load()
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
    trials: Sequence[Trial], recipes: Sequence[Recipe], images: DeviceDataset, root: Path, device: torch.device
) -> TeacherPack:
    """Load the teachers of a pack of students, with their logits for every training image.

    The logits are computed and stored in the storage format of the students' precision.
    """
    rows = torch.arange(len(images.labels), device=device)
    if recipes[0].limit is not None:
        rows = torch.from_numpy(stratified_subset(images.labels.cpu().numpy(), recipes[0].limit)).to(device)
    ensemble = zip(*(trial.teachers for trial in trials), strict=True)  # one entry per member of the ensemble
    members, logits = zip(
        *(_load_teacher(teachers, recipes[0].data, images, rows, root) for teachers in ensemble), strict=True
    )
    return TeacherPack(mean_logits(logits), members)


def _load_teacher(
    teachers: Sequence[Trial], data: str, images: DeviceDataset, rows: Tensor, root: Path
) -> tuple[Teacher, Tensor]:
    """Load one teacher per student, with its logits for the training images of `data` at `rows`, (k, n, classes)."""
    device, dtype = images.images.device, images.mean.dtype
    networks = [teacher.recipe.architecture for teacher in teachers]
    columns, logits = [], []
    for teacher, network in zip(teachers, networks, strict=True):
        saved = _weights(root, teacher.hash)
        saved = saved if network.opaque is None else restored_tensors(network.opaque, saved)
        tensors = {name: to_format(tensor.detach().to(device), dtype) for name, tensor in saved.items()}
        folder = root / "trials" / teacher.hash
        logits.append(_teacher_logits(folder, PackedNetwork([network], device), tensors, data, images, rows))
        columns.append(tensors)
    stacked = {name: torch.stack([column[name] for column in columns]) for name in columns[0]}
    return Teacher(PackedNetwork(networks, device), stacked, stacked), torch.stack(logits)


def load_starts(trials: Sequence[Trial], training: PackTrainer, root: Path) -> None:
    """Replace the initial weights of the trials that start from the weights of another one."""
    for slot, trial in enumerate(trials):
        if trial.start is not None:
            load_start_weights(training.state, slot, _weights(root, trial.start.hash))


def _weights(root: Path, parent: str) -> dict[str, Tensor]:
    """Load the weights of a trial after its last epoch, verified against its result.

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
    digest = record.files.get(path.name)
    if record.files and (digest is None or digest.sha256 != file_sha256(path)):
        raise UserError(
            "corrupt-file", f"{path}: corrupted (checksum mismatch). Run `fathomlab store repair`, then run again."
        )
    return load_tensors(path)[0]


@torch.no_grad()
def _teacher_logits(
    folder: Path, network: PackedNetwork, tensors: dict[str, Tensor], data: str, images: DeviceDataset, rows: Tensor
) -> Tensor:
    """Compute a teacher's outputs for the training images at `rows`, without augmentation, as a table (n, classes).

    They are stored next to the teacher's weights with their dataset and rows, and reused by later students of the same
    dataset and precision.
    Rows that are not listed are NaN.
    """
    path, origin = folder / "logits.sealed", {"trial": folder.name, "data": data}
    device, dtype = images.images.device, images.mean.dtype
    table = torch.full((len(images.images), network.architecture.classes), torch.nan, device=device, dtype=dtype)
    with contextlib.suppress(CorruptFileError):  # missing or corrupted: computed again
        stored, metadata = load_checked(path)
        same = metadata == origin and torch.equal(stored["rows"], rows.cpu())
        if same and stored["logits"].dtype == dtype:  # no rounding of another format, whichever student came first
            table[rows] = stored["logits"].to(device)
            return table
    single = {name: tensor.unsqueeze(0) for name, tensor in tensors.items()}
    for start in range(0, len(rows), TEACHER_BATCH):
        some = rows[start : start + TEACHER_BATCH]
        batch = images.normalize(images.images[some]).unsqueeze(0)
        table[some] = network(single, single, batch, "eval")[0]
    save_checked(path, {"logits": table[rows], "rows": rows}, origin)
    return table
