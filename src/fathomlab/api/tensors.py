"""Weights and images of a stored trial as tensors. The caller's settings of torch do not affect them and do not change."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import Issue, UserError, unknown_name
from fathomlab.base.identity import canonical_json
from fathomlab.config.components import with_plugins
from fathomlab.config.plugins import Plugin, loaded_plugin, read_plugin
from fathomlab.data.split import stratified_split, stratified_subset
from fathomlab.engine.device_data import DeviceDataset
from fathomlab.engine.opaque import module_with
from fathomlab.engine.precision import param_dtype
from fathomlab.engine.torch_model import TorchModel
from fathomlab.execute.pack.inputs import load_dataset
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.models.opaque import Opaque
from fathomlab.plan import sections
from fathomlab.store.checksums import file_sha256
from fathomlab.store.records import TrialRecord
from fathomlab.store.weights import load_tensors

WEIGHTS = {"last": "checkpoint.safetensors", "best": "best.safetensors"}


def load_model(record: TrialRecord, which: str, plugins: Sequence[str]) -> nn.Module:
    """The network of a finished trial with its weights, in eval mode; see `StoredTrial.load_model`."""
    if problem := unknown_name("weights", which, tuple(WEIGHTS)):
        raise UserError("invalid-option", f"which: {problem}")
    if record.status != "finished":
        cause = f" ({record.cause})" if record.cause else ""
        text = f"trial {record.trial[:12]}: status {record.status}{cause}. Only finished trials have a trained network."
        raise UserError("not-finished", text)
    path = record.folder / WEIGHTS[which]
    digest = record.files.get(path.name)
    if digest is None or not path.exists():
        text = f"{path} is missing. Remove the trial's folder and run the experiment again."
        raise UserError("no-such-file", text)
    if file_sha256(path) != digest.sha256:
        text = f"{path}: corrupted (checksum mismatch). Run `fathomlab store repair`, then run again."
        raise UserError("corrupt-file", text)
    network, data = _sections(record, plugins)
    with deterministic_mode():
        weights = load_tensors(path)[0]
        architecture = network.architecture(data.info)
        (first, *_) = architecture.layers
        if isinstance(first, Opaque):
            return module_with(first, weights)
        module = TorchModel(architecture, precision=record.provenance.precision or "fp32")
        module.load_state_dict(weights)
        return module.eval()


def examples(record: TrialRecord, part: str, plugins: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Normalized images and labels of the test, validation, or training part; see `StoredTrial.test_data`."""
    data = _sections(record, plugins)[1]
    with deterministic_mode():
        dataset = _dataset(record, data)
        if part == "test":
            return dataset.normalize(dataset.test_images.clone()), dataset.test_labels.clone()
        labels = dataset.labels.numpy()
        subset = stratified_subset(labels, data.limit)
        train, validation = stratified_split(labels[subset], data.validation_split, cast(int, record.content["seed"]))
        rows = torch.from_numpy(subset[train if part == "train" else validation])
        return dataset.normalize(dataset.images[rows]), dataset.labels[rows]


def _dataset(record: TrialRecord, data: sections.Data) -> DeviceDataset:
    """The dataset in the format of the trial, from the files that it read.

    Raises:
        UserError: If it is not available, or if the files have changed.
    """
    name = canonical_json({key: data.plain[key] for key in ("name", "params")})
    arrays, dataset = load_dataset(name, "cpu", param_dtype(record.provenance.precision or "fp32"))
    recorded = record.provenance.data.files if record.provenance.data else {}
    changed = [file for file, digest in recorded.items() if arrays.files.get(file, digest) != digest]
    if changed:
        text = f"trial {record.trial[:12]}: {', '.join(changed)} of {data.info.name} changed after it was trained."
        raise UserError("data-changed", f"{text} Install the copy of the dataset that it was trained on.")
    return dataset


def _sections(record: TrialRecord, plugins: Sequence[str]) -> tuple[sections.Network, sections.Data]:
    """Network and dataset of a trial, with the components of its plugins.

    Raises:
        UserError: If the trial is damaged or of another version, or if a plugin is missing or has another digest.
    """
    components, problems = with_plugins(_plugins(record, plugins)), list[Issue]()
    content: JsonObject = record.content
    network = sections.network(content.get("model"), "model", problems, {}, components)
    data = sections.data(content.get("data"), "data", "mnist", problems, {})
    if network is None or data is None or problems:
        reason = "; ".join(map(str, problems)) or record.cause or "its options are missing"
        raise UserError("unreadable-trial", f"trial {record.trial[:12]} cannot be read: {reason}.")
    return network, data


def _plugins(record: TrialRecord, files: Sequence[str]) -> list[Plugin]:
    """The plugins of a trial: from the files, else those that this process has loaded."""
    given = {Path(file).name: read_plugin(Path(file)) for file in files}
    needed = cast(Mapping[str, Any], record.content.get("plugins", {}))
    result: list[Plugin] = []
    for name, digest in needed.items():
        plugin = given.get(name) or loaded_plugin(name, digest)
        if plugin is None:
            text = f"trial {record.trial[:12]} uses the plugin {name} (SHA-256 {digest})."
            raise UserError("plugin-needed", f"{text} Pass the file: plugins=[{name!r}].")
        if plugin.sha256 != digest:
            text = f"{name}: its SHA-256 is {plugin.sha256}, but trial {record.trial[:12]} was trained with {digest}."
            raise UserError("plugin-changed", f"{text} Use the file of that time.")
        result.append(plugin)
    return result
