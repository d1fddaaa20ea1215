"""One thread, deterministic algorithms, and helpers that several test folders share."""

import gc
import inspect
import os
import random
import re
import secrets
import sys
from types import FunctionType

import pytest

os.environ.pop("PYTHONUNBUFFERED", None)  # commands run with buffered streams, as users have them
os.environ["WANDB_MODE"] = "disabled"  # experiments that name a project are not logged
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch asks for where CUDA is to be deterministic

SHAPE = r"jaxtyping\.|\[Tensor, "  # in a signature; the second in an annotation that is a string
gc.set_threshold(50_000, 10, 10)  # by default, all modules and tests are searched for garbage again and again


def pytest_collection_finish(session: pytest.Session):
    """Modules and tests stay. Where signatures are checked, only those with shapes are: 7% of the calls."""
    if session.config.getoption("jaxtyping_packages"):
        for function in [each for each in gc.get_objects() if type(each) is FunctionType]:
            if function.__code__.co_name == "wrapped_fn" and not re.search(SHAPE, str(inspect.signature(function))):
                function.__no_type_check__ = True  # pyright: ignore[reportFunctionMemberAccess]
    gc.freeze()


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    """One thread and deterministic algorithms; tests that never load torch do not load it here."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written without charts, whose drawing takes longer than tiny trainings."""
    monkeypatch.setattr("fathomlab.report.charts.Chart.svg", lambda *_: "")


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
