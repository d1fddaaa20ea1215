"""The state of the calling program neither enters a trial nor is changed by one."""

import contextlib
import decimal
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fathomlab
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.pack.inputs import load_dataset
from fathomlab.execute.signals import StopRequest
from fathomlab.store.reading import Store

CONF: dict[str, Any] = {
    "seed": 1,
    "data": {"name": "mnist-sample", "batch_size": 64, "limit": 256},
    "model": {
        "type": "MLP",
        "params": {"input_size": 784, "layers_dim": 16, "class_num": 10, "hidden_layers_num": 2, "batch_norm": True},
    },
    "training": {"epochs": 1, "lr": 0.001},
    "experiment": {"seeds": 2, "analyze_gradients": True},
}


def numbers(runs: Path, conf: dict[str, Any] = CONF) -> list[Any]:
    """Everything that a run measures, and the SHA-256 of its weights."""
    plan = fathomlab.load(conf)
    run_experiment(plan, runs, RunOptions("cpu", 1), lambda event: None, StopRequest())
    return recorded(runs, [trial.hash for trial in plan.trials])


def recorded(runs: Path, names: list[str]) -> list[Any]:
    """The same from a finished run."""
    trials = [Store(runs).trial(name) for name in names]
    assert [trial.status for trial in trials] == ["finished"] * len(trials), [trial.cause for trial in trials]
    curves = [{name: values for name, values in trial.curves.items() if name != "seconds"} for trial in trials]
    weights = [trial.files["checkpoint.safetensors"].sha256 for trial in trials]
    return [[dict(trial.metrics) for trial in trials], curves, [trial.probes for trial in trials], weights]


def read_back(root: Path) -> list[Any]:
    """What the trials of a store give: predictions, images, labels, and the pixels of a figure."""
    load_dataset.cache_clear()
    store = fathomlab.open_store(root)
    experiment = store.experiment(store.experiments[0])
    trial = experiment.filter(seed=1)[0]
    model = trial.load_model()
    data = [trial.test_data(), trial.validation_data(), trial.train_data()]
    tensors = [*model.state_dict().values(), *(tensor for pair in data for tensor in pair)]
    figure: Any = experiment.plot("slopes")
    texts = [repr(experiment.verdicts), repr(experiment), experiment._repr_mimebundle_(), trial.gradients]
    return [[tensor.detach().numpy().tobytes() for tensor in tensors], figure._repr_png_(), texts]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A store with the finished experiment, and what it gives in a clean state."""
    root = tmp_path_factory.mktemp("finished")
    numbers(root)
    return root, read_back(root)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The numbers of a run from a clean state."""
    return numbers(tmp_path_factory.mktemp("clean"))


@contextlib.contextmanager
def changed(read: Callable[[], Any], write: Callable[[Any], Any], value: Any) -> Iterator[Callable[[], bool]]:
    """A setting at another value, and a function that says whether it still has it."""
    before = read()
    write(value)
    assert read() == value
    try:
        yield lambda: read() == value
    finally:
        write(before)


@contextlib.contextmanager
def entered(context: Any, read: Callable[[], Any]) -> Iterator[Callable[[], bool]]:
    """Inside a context manager of the caller's."""
    outside = read()
    with context:
        inside = read()
        assert inside != outside
        yield lambda: read() == inside


def attribute(module: Any, name: str, value: Any) -> Any:
    """An attribute of a module at another value."""
    return changed(lambda: getattr(module, name), lambda new: setattr(module, name, new), value)


class Doubling(torch.overrides.TorchFunctionMode):
    """A mode that changes the results of additions."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return result * 2 if func in (torch.add, torch.Tensor.add) else result


def flushed() -> bool:
    """Whether this thread flushes denormal numbers."""
    return float(torch.tensor([1e-40], dtype=torch.float32, device="cpu") * 1.0) == 0.0


def deterministic() -> tuple[bool, bool]:
    """torch's mode."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def modes() -> int:
    """How many function modes are active."""
    return len(torch.overrides._get_current_function_mode_stack())


precision: Any = torch.backends
STATES: dict[str, Callable[[], Any]] = {
    "autocast": lambda: entered(torch.autocast("cpu", dtype=torch.bfloat16), lambda: torch.is_autocast_enabled("cpu")),
    "no_grad": lambda: changed(torch.is_grad_enabled, torch.set_grad_enabled, False),
    "inference_mode": lambda: entered(torch.inference_mode(), torch.is_inference_mode_enabled),
    "default_dtype": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "half_default_dtype": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.bfloat16),
    "default_device": lambda: changed(
        lambda: torch.get_default_device().type,
        lambda kind: torch.set_default_device(None if kind == "cpu" else kind),
        "meta",
    ),
    "device_context": lambda: entered(torch.device("meta"), modes),
    "function_mode": lambda: entered(Doubling(), modes),
    "matmul_precision": lambda: changed(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
    "fp32_precision": lambda: attribute(precision, "fp32_precision", "tf32"),
    "mkldnn_matmul": lambda: attribute(precision.mkldnn.matmul, "fp32_precision", "bf16"),
    "mkldnn_conv": lambda: attribute(precision.mkldnn.conv, "fp32_precision", "bf16"),
    "mkldnn": lambda: attribute(precision.mkldnn, "enabled", False),
    "cudnn_benchmark": lambda: attribute(precision.cudnn, "benchmark", True),
    "denormals": lambda: changed(flushed, torch.set_flush_denormal, True),
    "threads": lambda: changed(torch.get_num_threads, torch.set_num_threads, 2),
    "deterministic": lambda: changed(
        deterministic, lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]), (False, False)
    ),
    "anomaly": lambda: changed(torch.is_anomaly_enabled, lambda value: torch.set_anomaly_enabled(value), True),
    "numpy_errors": lambda: entered(np.errstate(all="raise"), np.geterr),
    "decimal": lambda: changed(
        lambda: decimal.getcontext().prec, lambda value: setattr(decimal.getcontext(), "prec", value), 3
    ),
    "recursion": lambda: changed(sys.getrecursionlimit, sys.setrecursionlimit, 700),
    "print_options": lambda: changed(
        lambda: torch._tensor_str.PRINT_OPTS.precision, lambda n: torch.set_printoptions(precision=n), 1
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_caller_state_neither_enters_nor_changes(name: str, expected: list[Any], tmp_path: Path):
    """The same bits as from a clean state, and the caller's setting is as it was."""
    with STATES[name]() as unchanged:
        assert numbers(tmp_path) == expected
        assert unchanged()


@pytest.mark.parametrize("name", [*[*STATES][:8], "threads", "denormals", "deterministic", "numpy_errors"])
def test_caller_state_neither_enters_nor_changes_what_is_read(name: str, finished: tuple[Path, list[Any]]):
    """Networks, images, and figures of a stored experiment."""
    root, values = finished
    with STATES[name]() as unchanged:
        assert read_back(root) == values
        assert unchanged()


def test_reading_changes_no_process_state(finished: tuple[Path, list[Any]]):
    """Generators, environment, warning filters, logging, signal handlers, and matplotlib's settings."""
    import logging
    import signal

    import matplotlib as mpl

    def state() -> tuple[Any, ...]:
        arrays = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
        settings = {key: mpl.rcParams._get(key) for key in mpl.rcParams}  # type: ignore[attr-defined]
        levels = logging.getLogger().level, logging.getLogger("matplotlib").level, [*logging.getLogger().handlers]
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return *arrays, random.getstate(), dict(os.environ), list(warnings.filters), settings, levels, handlers

    before = state()
    assert read_back(finished[0]) == finished[1]
    assert state() == before


def test_warning_filters_neither_enter_nor_change(expected: list[Any], tmp_path: Path):
    """Warnings as errors are the caller's choice for the caller's code."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        assert numbers(tmp_path) == expected
        assert list(warnings.filters) == filters


def test_process_state_is_neither_read_nor_changed(expected: list[Any], tmp_path: Path):
    """Another seed of the global generators gives the same numbers; generators, environment, and directory stay."""
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    random.seed(123)

    def state() -> tuple[Any, ...]:
        arrays = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
        return *arrays, random.getstate(), dict(os.environ), os.getcwd(), list(sys.path)

    before = state()
    assert numbers(tmp_path) == expected
    assert state() == before


def test_saved_tensor_hooks_do_not_enter(expected: list[Any], tmp_path: Path):
    """Hooks that would replace what the backward pass reads."""
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor * 0, lambda tensor: tensor):
        assert numbers(tmp_path) == expected


def test_combined_states_change_no_cnn_or_report(tmp_path: Path):
    """A convolutional student with its teacher under several settings, up to the report."""
    model = {"type": "CNN", "params": {"layers": [1, 1, 1, 1], "num_classes": 10, "width": 8}}
    training = {"epochs": 1, "lr": 0.001}
    conf: dict[str, Any] = {
        "data": {"name": "shapes", "limit": 128, "batch_size": 32},
        "teacher_model": model,
        "student_model": model,
        "training_teacher": training,
        "training_student": training,
        "distillation": {"alpha": 0.7},
    }
    clean = numbers(tmp_path / "clean", conf)
    with contextlib.ExitStack() as stack:
        for name in ("autocast", "no_grad", "default_dtype", "default_device", "mkldnn_conv", "mkldnn", "denormals"):
            stack.enter_context(STATES[name]())
        results = fathomlab.run(conf, runs=tmp_path / "states", progress="off", workers=1)
    assert recorded(tmp_path / "states", [trial.hash for trial in results.plan.trials]) == clean
    assert results.report.exists()
