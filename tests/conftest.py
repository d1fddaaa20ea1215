"""One thread, deterministic algorithms, and helpers that several test folders share."""

import os
import random
import secrets
import sys
from types import ModuleType

import pytest

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
    from tests.helpers import small_training

    return small_training


@pytest.fixture(scope="session")
def reference_models() -> ModuleType:
    """Reference implementations of the models with torch.nn."""
    from tests.helpers import reference_models

    return reference_models


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


@pytest.fixture
def fuzz_seed(request: pytest.FixtureRequest) -> int:
    """FATHOMLAB_FUZZ_SEED, or a new seed for slow tests, or always the same."""
    new = secrets.randbelow(2**32) if request.node.get_closest_marker("slow") else 2026
    seed = int(os.environ.get("FATHOMLAB_FUZZ_SEED") or new)
    print(f"FATHOMLAB_FUZZ_SEED={seed}")  # pytest shows it if the test fails
    return seed


@pytest.fixture
def rng(fuzz_seed: int) -> random.Random:
    """A generator with the seed of the test."""
    return random.Random(fuzz_seed)
