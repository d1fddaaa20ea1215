"""`fathomlab export hub`: one trained network as a directory for a model hub, which needs only torch and safetensors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError
from fathomlab.base.libraries import library
from fathomlab.export.files import check_targets, open_target
from fathomlab.export.model_card import model_card, printable
from fathomlab.export.network_code import network_source
from fathomlab.export.trial import (
    Exported,
    LoadedTrial,
    plain_network,
    relative_difference,
    tensors_of,
)

if TYPE_CHECKING:
    from fathomlab.data.table import DatasetInfo

WEIGHTS, CONFIG, CODE, CARD = "model.safetensors", "config.json", "model.py", "README.md"
MODEL = '''\
"""Trial {trial} of fathomlab: the network in plain PyTorch.

    model = load_model()                      # eval mode, on the CPU
    logits = model(normalize(pixels))         # pixels: (n, {shape}), {pixels}

Needs torch and safetensors. The module names are those of the tensors in {weights}.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

FOLDER = Path(__file__).parent
CONFIG = json.loads((FOLDER / "{config}").read_text(encoding="utf-8"))
DTYPE = getattr(torch, CONFIG["dtype"])


def load_model(path=FOLDER / "{weights}"):
    """Return the trained network, in eval mode."""
    model = Network().to(DTYPE)
    model.load_state_dict(load_file(path))
    return model.eval()


def normalize(pixels):
    """Return images as the network was trained on them, from images as they are stored: {pixels}."""
{normalize}

'''
NORMALIZE_PIXELS = """\
    mean = 255 * torch.tensor(CONFIG["normalization"]["mean"], dtype=torch.float64).view(-1, 1, 1)
    std = 255 * torch.tensor(CONFIG["normalization"]["std"], dtype=torch.float64).view(-1, 1, 1)
    return (pixels.to(DTYPE) - mean.to(DTYPE)) * (1 / std).to(DTYPE)
"""
NORMALIZE_NOTHING = "    return pixels.to(DTYPE)\n"


@final
@dataclass(frozen=True)
class Hub:
    """The network of one trial as a directory, by default TRIAL-hub, that needs neither fathomlab nor an extra.

    `model.safetensors` contains the weights, `config.json` the options and metrics, `model.py` the network in plain torch, and
    `README.md` a model card. The code is checked against the trial's module before anything is written. Networks of plugins are
    refused, because their code belongs to you.

    Attributes:
        overwrite: Whether existing files may be replaced. Other files of the directory stay.
        which: `last` for the weights after the last epoch, `best` for those of the best validation epoch.
    """

    overwrite: bool = False
    which: Literal["last", "best"] = "last"

    extra: ClassVar[str] = ""
    subject: ClassVar[Literal["trial"]] = "trial"

    def export(self, trial: LoadedTrial, target: Path | None) -> Exported:
        """Write the four files; raises as `TrialExporter.export` does."""
        if trial.architecture.opaque is not None:
            text = f"trial {trial.name}: its network is a module of a plugin, whose code belongs to you."
            raise UserError(
                "not-exportable", f'{text} Use "fathomlab export onnx", or share the plugin with load_model().'
            )
        folder = target or Path(f"{trial.name}-hub")
        paths = {name: folder / name for name in (WEIGHTS, CONFIG, CODE, CARD)}
        check_targets(list(paths.values()), self.overwrite)
        module = trial.module(self.which)
        network, tensors = plain_network(trial, module), tensors_of(module)
        save = library("safetensors.torch").save
        config = _config(trial, self.which, str(next(iter(tensors.values())).dtype).removeprefix("torch."))
        texts = {
            CONFIG: json.dumps(config, indent=2) + "\n",
            CODE: _code(trial),
            CARD: model_card(trial, self.which, config),
        }
        data = {name: text.encode() for name, text in texts.items()}
        data[WEIGHTS] = save(tensors, {"format": "pt", "trial": trial.record.trial})
        for name, path in paths.items():
            with open_target(path) as file:
                file.write(data[name])
        difference = relative_difference(network, module, trial.architecture)
        note = f"{CODE} computes the trial's logits: relative difference {difference:.1e} in float64."
        size = sum(map(len, data.values()))
        notes = (
            f"size: {size:,} bytes, {len(tensors)} tensors",
            note,
            f"Add a license to {CARD} before you publish it.",
        )
        return Exported(tuple(paths.values()), notes, size, {"relative": difference})


def _pixels(info: "DatasetInfo") -> str:
    """What `normalize` expects."""
    return "uint8 from 0 to 255" if info.is_normalized else "float32, unchanged"


def _code(trial: LoadedTrial) -> str:
    """The text of `model.py`."""
    info = trial.record.dataset
    assert info is not None
    header = MODEL.format(
        trial=trial.record.trial,
        shape=", ".join(map(str, trial.architecture.shape)),
        pixels=_pixels(info),
        weights=WEIGHTS,
        config=CONFIG,
        normalize=NORMALIZE_PIXELS if info.is_normalized else NORMALIZE_NOTHING,
    )
    return header.rstrip() + "\n\n" + network_source(trial.architecture)


def _config(trial: LoadedTrial, which: str, dtype: str) -> JsonObject:
    """The content of `config.json`."""
    record, info = trial.record, trial.record.dataset
    assert info is not None
    document: JsonObject = {
        "trial": record.trial,
        "weights": which,
        "dtype": dtype,
        "architecture": record.content.get("model"),
        "parameters": trial.architecture.num_params,
        "macs": trial.architecture.macs,
        "dataset": info.name,
        "input": {"shape": list(trial.architecture.shape), "pixels": _pixels(info)},
        "normalization": {"mean": list(info.mean), "std": list(info.std)},
        "classes": list(info.class_names) or [str(label) for label in range(info.classes)],
        "metrics": dict(record.metrics),
        "options": {key: value for key, value in record.content.items() if key not in ("model", "plugins")},
    }
    return _printable(document)


def _printable(value: Any) -> Any:
    """The same document without halves of surrogate pairs, which other readers of JSON refuse."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list | tuple) else value
