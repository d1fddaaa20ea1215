"""The state of the process in which networks train: forced before training, restored afterward.

Nothing that a caller has set may enter a trial, and nothing that training sets may stay. torch keeps a part of its state per
thread (gradient and inference mode, autocast, default device, function and dispatch modes, saved-tensor hooks, flushing of
denormal numbers), and so does NumPy (error handling). `run_isolated` therefore trains in a new thread, where all of these have
their defaults. The rest is process-wide; `computing` sets it and puts it back.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")
# torch keeps the precision of fp32 operations per backend and operation; entries inherit from those above them
PRECISIONS = (
    ("generic", "all"),
    *((backend, operation) for backend in ("mkldnn", "cuda") for operation in ("all", "matmul", "conv", "rnn")),
)


@dataclass(frozen=True)
class Setting:
    """One process-wide setting: how it is read and written, and its value while networks train."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    value: Any


def run_isolated(function: Callable[[], T]) -> T:
    """Call `function` in a new thread with the settings for training; returns its result or raises its error.

    The caller's thread waits. It still handles signals, so Ctrl-C asks for a checkpoint as usual.
    """

    def call() -> T:
        with computing():
            return function()

    with ThreadPoolExecutor(1, "fathomlab-training") as pool:
        return pool.submit(call).result()


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Set everything that can change a trial's numbers, and restore it on exit.

    One thread per process: results depend on the number, and several processes fill the cores. Denormal numbers are flushed:
    plain deep networks have squared gradients of 1e-36 and below, on which arithmetic is up to 30 times slower. Kernels are
    deterministic, and fp32 means fp32: torch would use TF32 (10 bits of mantissa) for convolutions on CUDA devices.
    Warnings do not become errors.
    """
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts, so it has to stay
    settings = _settings()
    saved = [setting.read() for setting in settings]
    denormals = _denormals_flushed()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            for setting in settings:
                setting.write(setting.value)
            torch.set_flush_denormal(True)
            yield
        finally:
            torch.set_flush_denormal(denormals)
            for setting, value in zip(settings, saved, strict=True):
                setting.write(value)


def deterministic() -> str:
    """The mode that provenance names: `strict`, `warned`, or `off`."""
    if not torch.are_deterministic_algorithms_enabled():
        return "off"
    return "warned" if torch.is_deterministic_algorithms_warn_only_enabled() else "strict"


def _settings() -> list[Setting]:
    """All process-wide settings, in the order in which they are written."""
    backends: Any = torch.backends
    fills: Any = torch.utils.deterministic  # type: ignore[attr-defined]
    cudnn, mkldnn, nnpack = backends.cudnn, backends.mkldnn, backends.nnpack
    warn_only = torch.cuda.is_available()
    precisions = {key: value if value == "none" else "ieee" for key, value in _fp32_precisions().items()}
    return [
        Setting(torch.get_num_threads, torch.set_num_threads, 1),
        Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        Setting(
            lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            lambda value: torch.set_anomaly_enabled(*value),
            (False, True),
        ),
        Setting(
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
            (True, warn_only),
        ),
        _attribute(fills, "fill_uninitialized_memory", False),
        _attribute(cudnn, "enabled", True),
        _attribute(cudnn, "deterministic", True),
        _attribute(cudnn, "benchmark", False),
        _attribute(mkldnn, "enabled", True),
        Setting(lambda: torch._C._get_nnpack_enabled(), lambda value: nnpack.set_flags(value), True),  # pyright: ignore[reportAttributeAccessIssue]
        Setting(_matmul_precision, _set_matmul_precision, "highest"),
        Setting(_fp32_precisions, _set_fp32_precisions, precisions),
    ]


def _attribute(module: Any, name: str, value: Any) -> Setting:
    return Setting(lambda: getattr(module, name), lambda new: setattr(module, name, new), value)


def _denormals_flushed() -> bool:
    """torch sets this flag of the processor and cannot read it."""
    return float(torch.tensor([1e-40], dtype=torch.float32, device="cpu") * 1.0) == 0.0


def _matmul_precision() -> str | None:
    """The older of torch's two settings; None if the newer one contradicts it, so that torch refuses to say."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _set_matmul_precision(value: str | None) -> None:
    if value not in (None, _matmul_precision()):  # writing it also writes entries of the newer setting
        torch.set_float32_matmul_precision(value)


def _fp32_precisions() -> dict[tuple[str, str], str]:
    read: Any = torch._C._get_fp32_precision_getter  # pyright: ignore[reportAttributeAccessIssue]
    return {key: read(*key) for key in PRECISIONS}


def _set_fp32_precisions(values: dict[tuple[str, str], str]) -> None:
    """Write what differs, from the general to the particular, so that inherited values stay inherited."""
    read: Any = torch._C._get_fp32_precision_getter  # pyright: ignore[reportAttributeAccessIssue]
    write: Any = torch._C._set_fp32_precision_setter  # pyright: ignore[reportAttributeAccessIssue]
    for key, value in values.items():
        if read(*key) != value:
            write(*key, value)
