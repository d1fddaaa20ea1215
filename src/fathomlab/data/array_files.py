"""Images and labels in an uncompressed .npz that is mapped into memory, so that all processes of a machine share one copy."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from fathomlab.data.arrays import FIELDS

if TYPE_CHECKING:
    import numpy as np

ALIGNMENT = 64  # bytes
LOCAL_HEADER = 30  # bytes of a member's header in a zip file, before its name
NUMBERS = "uif"


def write_arrays(file: BinaryIO, arrays: "Mapping[str, np.ndarray]") -> None:
    """Write contiguous arrays as `numpy.savez` does, but aligned: mapped float32 numbers must not start between two words."""
    import numpy as np

    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                text = repr(np.lib.format.header_data_from_array_1_0(array)).encode()
                start = np.lib.format.magic(1, 0)
                text += b" " * (-(file.tell() + len(start) + 3 + len(text)) % ALIGNMENT) + b"\n"
                member.write(start + len(text).to_bytes(2, "little") + text)
                member.write(array.data)


def map_arrays(path: Path) -> "dict[str, np.ndarray]":
    """Map the four arrays of a file. A process that changes one gets its own copy of the changed pages.

    Unaligned arrays of old files are copied.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not such a file.
    """
    try:
        with open(path, "rb") as stream, zipfile.ZipFile(stream) as archive:
            members = {name: archive.getinfo(f"{name}.npy") for name in FIELDS}
            if any(member.compress_type for member in members.values()):
                raise ValueError("compressed, which is never written")
            return {name: _map(stream, member.header_offset) for name, member in members.items()}
    except (OSError, ValueError):
        raise
    except Exception as error:  # NumPy and zipfile raise errors of many types for corrupted bytes
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _map(stream: IO[bytes], start: int) -> "np.ndarray":
    """Map the array of a member whose header starts at `start`."""
    import numpy as np

    stream.seek(start)
    header = stream.read(LOCAL_HEADER)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(
        header[28:], "little"
    )  # of name and extra fields
    stream.seek(start + LOCAL_HEADER + lengths)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("another version of the format, which is never written")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran_order or dtype.kind not in NUMBERS:
        raise ValueError("not an array of numbers in C order")
    mapped = np.memmap(stream, dtype, mode="c", offset=stream.tell(), shape=shape)
    return np.require(mapped.view(np.ndarray), requirements="A")
