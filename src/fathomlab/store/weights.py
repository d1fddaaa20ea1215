"""Weights on disk: safetensors with JSON metadata, written atomically. Loading runs no code."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_file, nothing
from fathomlab.store.checkpoints import Checkpoint, parse_checkpoint
from fathomlab.store.checksums import CorruptFileError, read_checked, write_checked

ALIGNMENT = 8
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: JsonObject, check: Callable[[], None] = nothing
) -> None:
    """Write tensors by name, with metadata in the header; `check` as for `atomic_write`."""
    with atomic_file(path, check) as file:
        file.writelines(_pieces(tensors, {"__metadata__": {"fathomlab": json.dumps(metadata, sort_keys=True)}}))


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
    write_checked(path, metadata, _pieces(tensors, {}), check)


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


def _pieces(tensors: Mapping[str, Tensor], metadata: JsonObject) -> Iterator[bytes | memoryview]:
    """The content of a safetensors file whose header also has `metadata`. At most one tensor is copied at a time.

    Wide numbers come first, so that a reader finds all of them aligned.
    """
    ordered = dict(sorted(tensors.items(), key=lambda pair: (-pair[1].itemsize, pair[0])))
    header = dict(metadata)
    end = 0
    for name, tensor in ordered.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for tensor in ordered.values():
        yield tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
