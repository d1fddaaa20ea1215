"""Forces every process-wide setting that could change a trial's numbers, and restores the caller's values afterwards.

A notebook may train inside `torch.autocast`, with gradients disabled, or after `numpy.seterr(all="raise")`. None of that may
enter a trial, and training must leave all of it as it was. The inline executor trains in a new thread, where settings that
belong to a thread have their defaults, known or not. `deterministic_mode` forces what belongs to the process, and every
thread's setting that torch or NumPy can name, so that models are also built and tested under it. Each private function covers
one group.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import _pop_mode as pop_function_mode
from torch.overrides import _push_mode as push_function_mode
from torch.utils._python_dispatch import _disable_current_modes as without_dispatch_modes

PRECISIONS = (  # backends before their operations, because operations inherit
    ("generic", "all"),
    ("mkldnn", "all"),
    ("cuda", "all"),
    *((backend, operation) for backend in ("mkldnn", "cuda") for operation in ("matmul", "conv", "rnn")),
)


@contextlib.contextmanager
def deterministic_mode() -> Iterator[None]:
    """Compute with one thread, flushed denormals, deterministic kernels, and default settings for everything else.

    Results depend on the number of threads, and several processes share the cores. Plain deep networks have squared gradients
    below 1e-36, and arithmetic on denormals is up to 30 times slower. Operations that may differ from call to call raise an
    error; on a CUDA device torch warns instead. On CUDA, fp32 means fp32: TF32 has only ten bits of mantissa.
    """
    with contextlib.ExitStack() as stack:
        for settings in (_modes, _autograd, _formats, _kernels, _processor, _python):
            stack.enter_context(settings())
        yield


def determinism() -> str:
    """The mode that provenance records: `strict`, `warned`, or `off`."""
    if not torch.are_deterministic_algorithms_enabled():
        return "off"
    return "warned" if torch.is_deterministic_algorithms_warn_only_enabled() else "strict"


def flushes_denormals() -> bool:
    """Whether this thread flushes denormals. torch has no getter; arithmetic of Python obeys the same flag."""
    return sys.float_info.min * 0.5 == 0.0


@contextlib.contextmanager
def _forced(read: Callable[[], Any], write: Callable[[Any], object], value: Any) -> Iterator[None]:
    """Write `value`, and write back afterwards what `read` returned."""
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


@contextlib.contextmanager
def _modes() -> Iterator[None]:
    """No function or dispatch modes: `torch.set_default_device` and `with torch.device(...)` are such modes."""
    with contextlib.ExitStack() as stack:
        if torch._C._len_torch_dispatch_stack():
            stack.enter_context(without_dispatch_modes())
        for _ in range(torch._C._len_torch_function_stack()):
            stack.callback(push_function_mode, pop_function_mode())
        yield


@contextlib.contextmanager
def _autograd() -> Iterator[None]:
    """Gradients enabled; no inference mode, autocast, anomaly detection, or hooks on saved tensors."""
    hooks: Any = getattr(torch._C, "_autograd")  # noqa: B009 - its stubs do not name it
    anomaly = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            # The context manager `torch.autocast` would keep an outer cache of cast weights alive during all of the training.
            stack.callback(torch.set_autocast_enabled, device, torch.is_autocast_enabled(device))
            torch.set_autocast_enabled(device, False)
        stack.callback(torch.autograd.set_detect_anomaly, *anomaly)
        torch.autograd.set_detect_anomaly(False)
        while (pair := hooks._top_saved_tensors_default_hooks(True)) is not None:
            stack.callback(hooks._push_saved_tensors_default_hooks, *pair)
            hooks._pop_saved_tensors_default_hooks()
        yield


@contextlib.contextmanager
def _formats() -> Iterator[None]:
    """float32 by default, and products in full float32: no TF32, no bf16 inside."""
    get: Callable[..., str] = torch._C._get_fp32_precision_getter
    put: Callable[..., object] = torch._C._set_fp32_precision_setter
    cudnn: Any = torch.backends.cudnn
    with _forced(torch.get_default_dtype, torch.set_default_dtype, torch.float32):
        saved = {}
        for key in PRECISIONS:  # parents first: a child without a value shows its parent's
            saved[key] = get(*key)
            put(*key, "none")
        try:
            tf32 = bool(cudnn.allow_tf32)
        except RuntimeError:  # torch refuses to name it while it contradicts the value that was just cleared
            tf32 = True
        matmul = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        put("mkldnn", "conv", "ieee")
        cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            cudnn.allow_tf32 = tf32
            for key in PRECISIONS:
                put(*key, saved[key])


@contextlib.contextmanager
def _kernels() -> Iterator[None]:
    """Deterministic algorithms, and the libraries that torch uses by default."""
    cuda = torch.cuda.is_available()
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with contextlib.ExitStack() as stack:
        stack.callback(_use_deterministic_algorithms, *strict)
        _use_deterministic_algorithms(True, cuda)
        for holder, name, value in (
            (torch.utils.deterministic, "fill_uninitialized_memory", False),  # type: ignore[attr-defined]
            (torch.backends.cudnn, "enabled", True),
            (torch.backends.cudnn, "deterministic", True),
            (torch.backends.cudnn, "benchmark", False),
            (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", True),
            (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", True),
        ):
            stack.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, value)
        flags: Any = torch._C
        stack.enter_context(_forced(flags._get_mkldnn_enabled, flags._set_mkldnn_enabled, True))
        stack.enter_context(_forced(flags._get_mkldnn_deterministic, flags._set_mkldnn_deterministic, False))
        stack.enter_context(_forced(flags._get_nnpack_enabled, flags._set_nnpack_enabled, True))
        yield


def _use_deterministic_algorithms(mode: bool, warn_only: bool) -> None:
    """As `torch.use_deterministic_algorithms`, which imports all of inductor (1 s) only to set its option."""
    inductor: Any = sys.modules.get("torch._inductor.config")
    if inductor is not None:
        inductor.deterministic = mode
    torch._C._set_deterministic_algorithms(mode, warn_only=warn_only)


@contextlib.contextmanager
def _processor() -> Iterator[None]:
    """One thread, and denormals flushed."""
    with (
        _forced(torch.get_num_threads, torch.set_num_threads, 1),
        _forced(flushes_denormals, torch.set_flush_denormal, True),
    ):
        yield


@contextlib.contextmanager
def _python() -> Iterator[None]:
    """Warnings that stay warnings, NumPy's default error state, and environment variables.

    cuBLAS reads one when CUDA starts; without it, products may differ from call to call. Inductor reads the other one when it is
    imported, which a user's model may do.
    """
    needed = {"TORCHINDUCTOR_DETERMINISTIC": "1"}
    needed |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if torch.cuda.is_available() else {}
    added = {name: value for name, value in needed.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"), warnings.catch_warnings():
            filters: Any = warnings.filters
            filters[:] = [entry for entry in filters if entry[0] != "error"]
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)
