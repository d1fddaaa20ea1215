"""Weights on disk: safetensors with JSON metadata, written whole or not at all; loading runs no code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from fathomlab.base.files import atomic_write
from fathomlab.base.problems import UserError


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors by name, with plain facts about them in the header."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    atomic_write(path, save(plain, {"fathomlab": json.dumps(about, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, on the CPU, and the facts about them.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("fathomlab", "{}"))
        return load_file(path), about
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint: {error}.") from None
