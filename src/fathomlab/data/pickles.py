"""Reads the pickled batches of CIFAR without executing them: names in a pickle refer to inert records."""

import io
import pickle
from collections.abc import Callable
from typing import Any, Never

import numpy as np

from fathomlab.base.errors import UserError

MAX_BYTES = 256 << 20


def read_batch(data: bytes, name: str) -> dict[str, Any]:
    """Return the dictionary of a pickled batch, with string keys and two-dimensional uint8 arrays.

    The standard loader executes what a pickle names. Here only the names in ALLOWED are accepted, and each stands for a
    function of this file: a pickle never calls NumPy. Every other name is rejected.

    Raises:
        UserError: If the file is not a pickle of plain values and byte arrays. Nothing in it is executed.
    """
    if len(data) > MAX_BYTES:
        raise UserError(
            "invalid-data-file", f"{name}: too large for a CIFAR batch: {len(data):,} bytes, at most {MAX_BYTES:,}."
        )
    try:
        content = _Restricted(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"contains a {type(content).__name__}, not a dictionary")
        return {_text(key): value.array() if isinstance(value, _Array) else value for key, value in content.items()}
    except Exception as error:  # a hostile pickle may raise anything
        raise UserError(
            "invalid-data-file",
            f"{name}: not a CIFAR batch; nothing in it was executed ({type(error).__name__}: {error}).",
        ) from None


def _text(key: object) -> str:
    return key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        function = ALLOWED.get((module, name))
        if function is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _StandIn(function)


class _StandIn:
    """The only objects that a pickle can reach: they can be called, but nothing can be set on them."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]):
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> Never:
        raise pickle.UnpicklingError("it sets the state of a function")


class _Dtype:
    """A dtype in a pickle: its code, such as `u1`."""

    __slots__ = ("code",)

    def __init__(self, code: object, *_: object):
        self.code = code.decode("ascii") if isinstance(code, bytes) else code

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment, which single bytes do not have."""


class _Array:
    """An array in a pickle: shape and bytes, checked by `array`."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self, *_: object):
        self.shape, self.dtype, self.fortran, self.data = (0, 0), _Dtype("u1"), False, b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def array(self) -> np.ndarray:
        if not isinstance(self.dtype, _Dtype) or self.dtype.code not in ("u1", "|u1", "uint8"):
            raise pickle.UnpicklingError("its array does not consist of unsigned bytes")
        if not isinstance(self.data, bytes | bytearray) or not isinstance(self.shape, tuple) or len(self.shape) != 2:
            raise pickle.UnpicklingError("its array is not two-dimensional")
        flat = np.frombuffer(self.data, np.uint8)
        return flat.reshape(self.shape[::-1]).T if self.fortran else flat.reshape(self.shape)


def _never(*_: object) -> Never:
    raise pickle.UnpicklingError("it creates an array in an unknown way")


def _encoded(text: object, encoding: object = "latin1", *_: object) -> bytes:
    """Bytes as protocol 2 of Python 3 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("it encodes a string in an unknown way")
    return text.encode("latin1")


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    """Arrays as protocol 5 writes them."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order in ("F", b"F"), data))
    return array


ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _never,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
