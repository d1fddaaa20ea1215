"""What a pack learns from: the dataset on its device, and teachers with their logits. Datasets are cached between packs."""

import contextlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from fathomlab import data as datasets
from fathomlab.base.errors import UserError
from fathomlab.data.split import stratified_subset
from fathomlab.data.table import DatasetArrays
from fathomlab.engine.device_data import DeviceDataset, to_device
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.opaque import to_format
from fathomlab.engine.precision import param_dtype
from fathomlab.engine.training import TeacherPack
from fathomlab.plan import Trial
from fathomlab.plan.recipe import Recipe
from fathomlab.store.checksums import CorruptFileError, file_sha256
from fathomlab.store.reading import Store
from fathomlab.store.weights import load_checked, load_tensors, save_checked

TEACHER_BATCH = 512


@lru_cache(maxsize=2)
def load_dataset(data: str, device: str, dtype: torch.dtype) -> tuple[DatasetArrays, DeviceDataset]:
    """Load a dataset to the device. The last two are cached."""
    options = json.loads(data)
    arrays = datasets.load(options["name"], options["params"])
    return arrays, to_device(arrays, datasets.DATASETS[options["name"]].info, torch.device(device), dtype)


def load_teachers(
    trials: Sequence[Trial], recipes: Sequence[Recipe], images: DeviceDataset, root: Path, device: torch.device
) -> TeacherPack:
    """Load the teachers of a pack of students, with their logits for every training image.

    The logits are computed and stored in the storage format of the students' precision.
    """
    dtype = param_dtype(recipes[0].precision)
    columns, logits = [], []
    rows = torch.arange(len(images.labels), device=device)
    if recipes[0].limit is not None:
        rows = torch.from_numpy(stratified_subset(images.labels.cpu().numpy(), recipes[0].limit)).to(device)
    for trial, recipe in zip(trials, recipes, strict=True):
        assert trial.teacher is not None
        assert recipe.teacher is not None
        folder = root / "trials" / trial.teacher.hash
        tensors = _weights(root, trial.teacher.hash)
        columns.append({name: to_format(tensor.to(device), dtype) for name, tensor in tensors.items()})
        network = PackedNetwork([recipe.teacher], device)
        logits.append(_teacher_logits(folder, network, columns[-1], images, rows))
    stacked = {name: torch.stack([column[name] for column in columns]) for name in columns[0]}
    network = PackedNetwork([recipe.teacher for recipe in recipes if recipe.teacher], device)
    return TeacherPack(torch.stack(logits), network, stacked, stacked)


def _weights(root: Path, teacher: str) -> dict[str, Tensor]:
    """Load the weights of a teacher after its last epoch, verified against its result.

    Raises:
        UserError: If there are none, or if they are corrupted.
    """
    record = Store(root).trial(teacher)
    path = record.folder / "checkpoint.safetensors"
    if record.status != "finished" or not path.exists():
        why = "checkpoint.safetensors is missing" if record.status == "finished" else f"status: {record.status}"
        raise UserError("no-teacher", f"teacher trial {teacher[:12]} has no weights ({why})")
    digest = record.files.get(path.name)
    if record.files and (digest is None or digest.sha256 != file_sha256(path)):
        raise UserError(
            "corrupt-file", f"{path}: corrupted (checksum mismatch). Remove the trial's folder and run again."
        )
    return load_tensors(path)[0]


@torch.no_grad()
def _teacher_logits(
    folder: Path, network: PackedNetwork, tensors: dict[str, Tensor], images: DeviceDataset, rows: Tensor
) -> Tensor:
    """Compute a teacher's outputs for the training images at `rows`, without augmentation, as a table (n, classes).

    They are stored next to the teacher's weights with their rows, and reused by later students of the same precision.
    Rows that are not listed are NaN.
    """
    path = folder / "logits.sealed"
    device, dtype = images.images.device, images.mean.dtype
    table = torch.full((len(images.images), network.architecture.classes), torch.nan, device=device, dtype=dtype)
    with contextlib.suppress(CorruptFileError):  # missing or corrupted: computed again
        stored, metadata = load_checked(path)
        same = metadata.get("trial") == folder.name and torch.equal(stored["rows"], rows.cpu())
        if same and stored["logits"].dtype == dtype:  # no rounding of another format, whichever student came first
            table[rows] = stored["logits"].to(device)
            return table
    single = {name: tensor.unsqueeze(0) for name, tensor in tensors.items()}
    for start in range(0, len(rows), TEACHER_BATCH):
        some = rows[start : start + TEACHER_BATCH]
        batch = images.normalize(images.images[some]).unsqueeze(0)
        table[some] = network(single, single, batch, "eval")[0]
    save_checked(path, {"logits": table[rows], "rows": rows}, {"trial": folder.name})
    return table
