"""Weights and images of a stored trial as tensors. The caller's settings of torch do not affect them and do not change."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fathomlab.base.errors import Issue, UserError, unknown_name
from fathomlab.config.components import with_plugins
from fathomlab.config.plugins import Plugin, loaded_plugin, read_plugin
from fathomlab.data.split import stratified_split, stratified_subset
from fathomlab.engine.device_data import DeviceDataset
from fathomlab.engine.precision import param_dtype
from fathomlab.engine.torch_model import plain_module
from fathomlab.execute.pack.inputs import load_dataset_of
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.export.trial import TestSet
from fathomlab.models.architecture import Architecture
from fathomlab.plan import sections
from fathomlab.store.checksums import file_sha256
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord
from fathomlab.store.weights import load_tensors

WEIGHTS = {"last": "checkpoint.safetensors", "best": "best.safetensors"}


def load_model(record: TrialRecord, which: str, plugins: Sequence[str], precision: str | None = None) -> nn.Module:
    """The network of a finished trial with its weights, in eval mode; see `StoredTrial.load_model`.

    Args:
        record: The trial.
        which: `last` or `best`.
        plugins: Files of plugins.
        precision: Of products, instead of that of the training.
    """
    if problem := unknown_name("weights", which, tuple(WEIGHTS)):
        raise UserError("invalid-option", f"which: {problem}")
    check_finished(record)
    path = record.folder / WEIGHTS[which]
    digest = record.files.get(path.name)
    if Store(record.folder.parents[1]).is_left_out(path):
        text = (
            f"{path}: left out of the bundle on purpose. Use the results directory that the bundle was exported from."
        )
        raise UserError("left-out", text)
    if digest is None or not path.exists():
        text = f"{path} is missing. Remove the trial's folder and run the experiment again."
        raise UserError("no-such-file", text)
    if file_sha256(path) != digest.sha256:
        text = f"{path}: corrupted (checksum mismatch). Run `fathomlab store repair`, then run again."
        raise UserError("corrupt-file", text)
    network = architecture(record, plugins)
    with deterministic_mode():
        return plain_module(network, load_tensors(path)[0], precision or record.provenance.precision or "fp32")


def check_finished(record: TrialRecord) -> None:
    """Check that a trial has a trained network.

    Raises:
        UserError: If it is not finished.
    """
    if record.status != "finished":
        cause = f" ({record.cause})" if record.cause else ""
        text = f"trial {record.trial[:12]}: status {record.status}{cause}. Only finished trials have a trained network."
        raise UserError("not-finished", text)


def architecture(record: TrialRecord, plugins: Sequence[str]) -> Architecture:
    """The network of a trial as a value.

    Raises:
        UserError: If the trial cannot be read, or needs a plugin that is missing or has another digest.
    """
    components, problems = with_plugins(_plugins(record, plugins)), list[Issue]()
    network = sections.network(record.content.get("model"), "model", problems, {}, components)
    if network is None or record.dataset is None:
        reason = "; ".join(map(str, problems)) or "its dataset is not in the store"
        raise UserError("unreadable-trial", f"trial {record.trial[:12]} cannot be read: {reason}.")
    with deterministic_mode():
        return network.architecture(record.dataset)


def test_set(record: TrialRecord) -> TestSet:
    """The test set with its pixels and its normalization; raises as `examples` does."""
    with deterministic_mode():
        dataset = _dataset(record)
        images = dataset.normalize(dataset.test_images)
        return TestSet(dataset.test_images.clone(), images, dataset.test_labels.clone(), dataset.mean, dataset.scale)


def examples(record: TrialRecord, part: str) -> tuple[Tensor, Tensor]:
    """Normalized images and labels of the test, validation, or training part; see `StoredTrial.test_data`."""
    with deterministic_mode():
        dataset = _dataset(record)
        if part == "test":
            return dataset.normalize(dataset.test_images.clone()), dataset.test_labels.clone()
        options, labels = cast(Mapping[str, Any], record.content["data"]), dataset.labels.numpy()
        subset = stratified_subset(labels, options["limit"])
        seed, percentage = cast(int, record.content["seed"]), options["validation_split"]
        train, validation = stratified_split(labels[subset], percentage, seed)
        rows = torch.from_numpy(subset[train if part == "train" else validation])
        return dataset.normalize(dataset.images[rows]), dataset.labels[rows]


def _dataset(record: TrialRecord) -> DeviceDataset:
    """The dataset in the format of the trial, from the files that it read.

    Raises:
        UserError: If the record is damaged or outdated, the dataset is not available, or the files have changed.
    """
    if record.status in ("damaged", "outdated") or not record.content or record.dataset is None:
        reason = record.cause or "its dataset is not in the store"
        raise UserError("unreadable-trial", f"trial {record.trial[:12]} cannot be read: {reason}.")
    precision, root = record.provenance.precision or "fp32", record.folder.parents[1]
    arrays, dataset = load_dataset_of(record.content, root, "cpu", param_dtype(precision))
    recorded = record.provenance.data.files if record.provenance.data else {}
    changed = [file for file, digest in recorded.items() if arrays.files.get(file, digest) != digest]
    if changed:
        text = f"trial {record.trial[:12]}: {', '.join(changed)} of {record.dataset.name} changed after it was trained."
        raise UserError("data-changed", f"{text} Install the copy of the dataset that it was trained on.")
    return dataset


def _plugins(record: TrialRecord, files: Sequence[str]) -> list[Plugin]:
    """The plugins of a trial: from the files, else those that this process has loaded."""
    given = {Path(file).name: read_plugin(Path(file)) for file in files}
    needed = cast(Mapping[str, Any], record.content.get("plugins", {}))
    result: list[Plugin] = []
    for name, digest in needed.items():
        plugin = given.get(name) or loaded_plugin(name, digest)
        if plugin is None:
            text = f"trial {record.trial[:12]} uses the plugin {name} (SHA-256 {digest})."
            stored = record.folder.parents[1] / "plugins" / digest / name
            file = str(stored) if stored.is_file() else name
            raise UserError("plugin-needed", f"{text} Pass the file: plugins=[{file!r}], or --plugin {file}.")
        if plugin.sha256 != digest:
            text = f"{name}: its SHA-256 is {plugin.sha256}, but trial {record.trial[:12]} was trained with {digest}."
            raise UserError("plugin-changed", f"{text} Use the file of that time.")
        result.append(plugin)
    return result
