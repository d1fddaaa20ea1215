"""The compiled backend where its compiler fails, and its cache. `tests/contract/test_backends.py` compares its numbers."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.engine.backends import BACKENDS
from fathomlab.execute.events import Event, Warned
from fathomlab.execute.pack.pack import train_job
from fathomlab.prepare import machine
from fathomlab.prepare.jobs import Job
from fathomlab.store.reading import Store

CONTRACT = Path(__file__).parents[1] / "contract" / "test_backends.py"
EXPERIMENT = {
    "data": {"name": "mnist-sample", "limit": 512, "batch_size": 64},
    "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1}},
    "training": {"epochs": 1},
}


@pytest.fixture
def failing_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that is found and fails, for example because its headers are missing."""

    def failing_compile(*_: Any, **__: Any) -> Any:
        def fail(*_: Any) -> Any:
            raise TorchDynamoException("no headers\nand more")

        return fail

    monkeypatch.setattr(torch, "compile", failing_compile)
    monkeypatch.setattr(machine, "has_compiler", lambda: True)


@pytest.mark.usefixtures("failing_compiler")
def test_failing_compiler_is_an_error_before_the_first_step(small_training: ModuleType) -> None:
    trainer = small_training.make_trainer([small_training.recipe(small_training.mlp(batch_norm=True))])
    before = {name: tensor.clone() for name, tensor in trainer.state.buffers.items()}
    with pytest.raises(UserError, match="no headers") as caught:
        BACKENDS["compiled"].prepare(trainer)
    assert caught.value.code == "backend-failed"
    small_training.assert_identical(trainer.state.buffers, before)


@pytest.mark.usefixtures("failing_compiler")
def test_failing_compiler_falls_back_to_the_reference(tmp_path: Path) -> None:
    """With one warning."""
    events: list[Event] = []
    (trial,) = fathomlab.load(EXPERIMENT).trials
    train_job(Job((trial,), tmp_path, "cpu", backend="compiled", may_fall_back=True), events.append, lambda: None)
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "no headers" in warning.text
    record = Store(tmp_path).trial(trial.hash)
    assert record.status == "finished"
    assert record.provenance.backend.name == "reference"


@pytest.mark.slow
@pytest.mark.skipif(not machine.has_compiler(), reason="there is no C++ compiler")
def test_compiled_code_is_not_reused_by_older_cpus(tmp_path: Path) -> None:
    """One cache for AVX-512 and AVX2: without a separate key, the second process gets NaN."""
    for capability in ("avx512", "avx2"):
        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                f"{CONTRACT}::test_backend_equals_the_reference[compiled]",
            ],
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "ATEN_CPU_CAPABILITY": capability},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-2000:]
