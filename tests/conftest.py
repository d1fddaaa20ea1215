"""One thread, deterministic algorithms, and helpers that several test folders share."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
os.environ.pop("PYTHONUNBUFFERED", None)  # commands run with buffered streams, as users have them
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch asks for where CUDA is to be deterministic


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    """One thread and deterministic algorithms; tests that never load torch do not load it here."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)


@pytest.fixture(scope="session")
def small_training() -> ModuleType:
    """Small trainings: recipes, datasets, packs, and teachers."""
    return _loaded(HERE / "unit" / "engine" / "small_training.py")


@pytest.fixture(scope="session")
def reference_models() -> ModuleType:
    """Reference implementations of the models with torch.nn."""
    return _loaded(HERE / "unit" / "models" / "reference_models.py")


@pytest.fixture(scope="session")
def bf16(small_training: ModuleType) -> None:
    """Skip if products in bf16 do not work on this machine."""
    import torch

    from fathomlab.engine.selftest import bf16_self_test

    for architecture in (small_training.mlp(), small_training.cnn(width=8)):
        test = bf16_self_test(architecture, 16, torch.device("cpu"))
        if not test.passed:
            pytest.skip(
                f"bf16 does not work on this machine: layer {test.worst_layer}, {test.exit_reason or test.max_relative_error}"
            )


def _loaded(path: Path) -> ModuleType:
    """A module that is shared between test folders, which are no packages."""
    spec = importlib.util.spec_from_file_location(f"shared_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
