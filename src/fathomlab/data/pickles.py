"""Reads the pickled batches of CIFAR without running anything: names in a pickle stand for inert records of ours."""

import io
import pickle
from collections.abc import Callable
from typing import Any, Never

import numpy as np

from fathomlab.base.problems import UserError

LARGEST = 256 << 20


def read_batch(data: bytes, name: str) -> dict[str, Any]:
    """The dictionary of a pickled batch, with text keys; arrays of bytes as uint8 arrays of two axes.

    Python's own loader runs what a pickle names. Here five names are known, each stands for a function of this file,
    and NumPy itself is never called by a pickle. Every other name is refused.

    Raises:
        UserError: The file is no pickle of plain values and byte arrays; nothing in it was executed.
    """
    if len(data) > LARGEST:
        raise UserError("invalid-data-file", f"{name}: too large for a batch of CIFAR ({len(data):,} bytes).")
    try:
        content = _Restricted(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"holds a {type(content).__name__}, not a dictionary")
        return {_text(key): value.array() if isinstance(value, _Array) else value for key, value in content.items()}
    except Exception as error:  # a hostile pickle may raise anything
        raise UserError(
            "invalid-data-file", f"{name}: refused, not a plain batch of CIFAR ({type(error).__name__}: {error})."
        ) from None


def _text(key: object) -> str:
    return key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = KNOWN.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _StandIn(known)


class _StandIn:
    """All that a pickle can get hold of: it can be called, and nothing can be set on it."""

    __slots__ = ("_made",)

    def __init__(self, made: Callable[..., object]):
        self._made = made

    def __call__(self, *arguments: object) -> object:
        return self._made(*arguments)

    def __setstate__(self, state: object) -> Never:
        raise pickle.UnpicklingError("it sets the state of a function")


class _Dtype:
    """A dtype of a pickle: its code, such as `u1`."""

    __slots__ = ("code",)

    def __init__(self, code: object, *_: object):
        self.code = code.decode("ascii") if isinstance(code, bytes) else code

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment mean nothing for single bytes."""


class _Array:
    """An array of a pickle: shape and bytes, checked when it is asked for."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self, *_: object):
        self.shape, self.dtype, self.fortran, self.data = (0, 0), _Dtype("u1"), False, b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def array(self) -> np.ndarray:
        if not isinstance(self.dtype, _Dtype) or self.dtype.code not in ("u1", "|u1", "uint8"):
            raise pickle.UnpicklingError("its array is not of unsigned bytes")
        if not isinstance(self.data, bytes | bytearray) or not isinstance(self.shape, tuple) or len(self.shape) != 2:
            raise pickle.UnpicklingError("its array is not a table of bytes")
        flat = np.frombuffer(self.data, np.uint8)
        return flat.reshape(self.shape[::-1]).T if self.fortran else flat.reshape(self.shape)


def _never(*_: object) -> Never:
    raise pickle.UnpicklingError("it makes an array in an unknown way")


def _encoded(text: object, encoding: object = "latin1", *_: object) -> bytes:
    """What protocol 2 of Python 3 writes for bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("it encodes a text in another way than bytes are pickled")
    return text.encode("latin1")


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    """What protocol 5 writes for arrays."""
    made = _Array()
    made.__setstate__((1, shape, dtype, order in ("F", b"F"), data))
    return made


KNOWN: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _never,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
