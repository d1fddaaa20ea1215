"""Every setting of the process and the thread is forced in deterministic_mode, and restored."""

import contextlib
import decimal
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fathomlab
from fathomlab.execute.pack.settings import PRECISIONS, deterministic_mode, flushes_denormals

MODEL = {"input_size": 784, "layers_dim": 8, "class_num": 10, "hidden_layers_num": 1, "batch_norm": True}
Setting = Callable[[], contextlib.AbstractContextManager[object]]


class Doubling(TorchFunctionMode):
    """Doubles the result of every ReLU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return out * 2 if func is torch.nn.functional.relu else out


class Zeroing(TorchDispatchMode):
    """Clears the result of every ReLU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return out * 0 if func is torch.ops.aten.relu.default else out


def refuse(*_: object) -> Any:
    raise AssertionError("a hook of the caller was called")


@contextlib.contextmanager
def written(write: Callable[[Any], object], bad: Any, good: Any) -> Iterator[None]:
    """`write(bad)`, and `write(good)` afterwards."""
    write(bad)
    try:
        yield
    finally:
        write(good)


def precision(backend: str, operation: str, value: str) -> Setting:
    put: Any = torch._C._set_fp32_precision_setter
    return lambda: written(lambda new: put(backend, operation, new), value, "none")


def flag(holder: Any, name: str, bad: Any) -> Setting:
    return lambda: written(lambda value: setattr(holder, name, value), bad, getattr(holder, name))


@contextlib.contextmanager
def errors_for_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


BAD: dict[str, Setting] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast of CUDA": lambda: written(lambda on: torch.set_autocast_enabled("cuda", on), True, False),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "hooks on saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(refuse, refuse),
    "default device": lambda: written(torch.set_default_device, "meta", None),
    "device context": lambda: torch.device("meta"),
    "default dtype": lambda: written(torch.set_default_dtype, torch.float64, torch.float32),
    "function mode": Doubling,
    "dispatch mode": Zeroing,
    "matmul medium": lambda: written(torch.set_float32_matmul_precision, "medium", "highest"),
    "matmul high": lambda: written(torch.set_float32_matmul_precision, "high", "highest"),
    "mkldnn matmul in bf16": precision("mkldnn", "matmul", "bf16"),
    "mkldnn convolutions in bf16": precision("mkldnn", "conv", "bf16"),
    "tf32 everywhere": precision("generic", "all", "tf32"),
    "no mkldnn": lambda: written(torch._C._set_mkldnn_enabled, False, True),  # type: ignore[attr-defined]
    "no nnpack": lambda: written(torch._C._set_nnpack_enabled, False, True),  # type: ignore[attr-defined]
    "no cudnn": flag(torch.backends.cudnn, "enabled", False),
    "cudnn benchmark": flag(torch.backends.cudnn, "benchmark", True),
    "denormals flushed": lambda: written(torch.set_flush_denormal, True, False),
    "two threads": lambda: written(torch.set_num_threads, 2, 1),
    "nondeterministic": lambda: written(torch.use_deterministic_algorithms, False, True),
    "filled memory": flag(torch.utils.deterministic, "fill_uninitialized_memory", False),  # type: ignore[attr-defined]
    "numpy raises": lambda: np.errstate(all="raise"),
    "warnings are errors": errors_for_warnings,
    "decimal context": lambda: decimal.localcontext(decimal.Context(prec=2)),
}


def settings() -> dict[str, object]:
    """Every setting that a trial could depend on, as the caller sees it."""
    flags: Any = torch._C
    read: dict[str, Callable[[], object]] = {
        "autocast": lambda: (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        "autocast dtype": lambda: (torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()),
        "gradients": lambda: (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "anomaly": lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "hooks": lambda: flags._autograd._top_saved_tensors_default_hooks(True),
        "modes": lambda: (flags._len_torch_function_stack(), flags._len_torch_dispatch_stack()),
        "device": lambda: str(torch.get_default_device()),
        "dtype": torch.get_default_dtype,
        "matmul": torch.get_float32_matmul_precision,
        "precisions": lambda: [flags._get_fp32_precision_getter(*key) for key in PRECISIONS],
        "libraries": lambda: (
            flags._get_mkldnn_enabled(),
            flags._get_mkldnn_deterministic(),
            flags._get_nnpack_enabled(),
        ),
        "cudnn": lambda: (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark),
        "cudnn deterministic": lambda: torch.backends.cudnn.deterministic,
        "denormals": flushes_denormals,
        "threads": torch.get_num_threads,
        "deterministic": torch.are_deterministic_algorithms_enabled,
        "filled": lambda: torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "numpy": np.geterr,
        "warnings": lambda: list(warnings.filters),
        "decimal": lambda: decimal.getcontext().prec,
        "recursion": sys.getrecursionlimit,
        "torch stream": lambda: torch.get_rng_state().tolist(),
        "numpy stream": lambda: np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
        "python stream": random.getstate,
    }
    values = {}
    for name, get in read.items():
        try:
            values[name] = get()
        except RuntimeError as error:  # torch refuses to read a precision that was set by two interfaces
            values[name] = str(error)
    return values


UNFORCED = {"device", "decimal", "recursion", "warnings", "torch stream", "numpy stream", "python stream"}


def forced_settings() -> dict[str, object]:
    """The settings inside `deterministic_mode`, except those that it leaves alone."""
    with deterministic_mode():
        return {key: value for key, value in settings().items() if key not in UNFORCED}


def test_deterministic_mode_does_not_import_inductor() -> None:
    """Its import takes a second. If a model imports it, it is deterministic, and as before afterwards."""
    code = """
import sys
from fathomlab.execute.pack.settings import deterministic_mode
with deterministic_mode():
    early = "torch._inductor" in sys.modules
    import torch._inductor.config as config
    inside = config.deterministic
after = config.deterministic
with deterministic_mode():
    again = config.deterministic
print(early, inside, after, again, config.deterministic)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True", "False", "True", "False"]


def test_deterministic_mode_forces_and_restores_settings() -> None:
    """Also if a setting has no effect on the kernels of this machine."""
    expected = forced_settings()
    for name in BAD:
        with BAD[name]():
            before = settings()
            assert forced_settings() == expected, name
            assert settings() == before, name


def test_build_model_ignores_settings() -> None:
    expected = fathomlab.build_model({"type": "MLP", "params": MODEL})
    for name in BAD:
        with BAD[name]():
            model = fathomlab.build_model({"type": "MLP", "params": MODEL})
        for (key, tensor), other in zip(model.named_parameters(), expected.parameters(), strict=True):
            assert torch.equal(tensor, other), (name, key)
            assert tensor.dtype == torch.float32
            assert tensor.requires_grad
            assert not tensor.is_inference()
