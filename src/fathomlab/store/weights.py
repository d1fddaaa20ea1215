"""Weights on disk: safetensors with JSON metadata, written atomically. Loading runs no code."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write, nothing
from fathomlab.store.checkpoints import Checkpoint, parse_checkpoint
from fathomlab.store.checksums import CorruptFileError, read_checked, write_checked


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: JsonObject, check: Callable[[], None] = nothing
) -> None:
    """Write tensors by name, with metadata in the header; `check` as for `atomic_write`."""
    atomic_write(path, save(_plain(tensors), {"fathomlab": json.dumps(metadata, sort_keys=True)}), check)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], JsonObject]:
    """Tensors by name, on the CPU, and their metadata.

    Raises:
        UserError: If the file is missing or is not a safetensors file.
    """
    try:
        payload = path.read_bytes()
        size = int.from_bytes(payload[:8], "little")
        header = json.loads(payload[8 : 8 + size])
        metadata = json.loads(header.get("__metadata__", {}).get("fathomlab", "{}"))
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is not a mapping")
        return load(payload), cast(JsonObject, metadata)
    except OSError as error:
        raise UserError("corrupt-file", f"{path}: cannot read checkpoint: {error.strerror or error}.") from None
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError) as error:
        raise UserError("corrupt-file", f"{path}: cannot read checkpoint: {error}.") from None


def save_checked(
    path: Path, tensors: Mapping[str, Tensor], metadata: JsonObject, check: Callable[[], None] = nothing
) -> None:
    """Write tensors with their SHA-256 (`check` as for `atomic_write`), and verify by reading back.

    Raises:
        OSError: If they cannot be written.
        CorruptFileError: If the disk returns different data.
    """
    write_checked(path, metadata, save(_plain(tensors)), check)


def load_checked(path: Path) -> tuple[dict[str, Tensor], JsonObject]:
    """Tensors by name, on the CPU, and their metadata. The SHA-256 is checked before anything is parsed.

    Raises:
        CorruptFileError: If the file is missing, truncated, or changed.
    """
    metadata, payload = read_checked(path)
    try:
        return load(payload), metadata
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise CorruptFileError(f"{path}: cannot read checkpoint: {error}.") from None


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], Checkpoint]:
    """Tensors by name, on the CPU, and the metadata of a checkpoint.

    Raises:
        CorruptFileError: If the file is missing, truncated, or changed.
    """
    tensors, metadata = load_checked(path)
    return tensors, parse_checkpoint(metadata)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors requires them: on the CPU, contiguous, and copied if two names share memory."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        result[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    return result
