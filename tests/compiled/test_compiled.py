"""A compiled step equals the eager step."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from fathomlab.engine.loop import train
from fathomlab.engine.training import PackTrainer
from fathomlab.prepare import cost

CPU = torch.device("cpu")


@pytest.mark.skipif(not cost._compiler(), reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # warnings of the compiler
def test_compiled_equals_eager_in_float64(small_training: ModuleType) -> None:
    """20 steps of a pack in which all options vary, including the smaller last batch."""
    architectures = [small_training.mlp(batch_norm=True, residual=residual) for residual in (True, False)]
    recipes = [
        small_training.recipe(architecture, seed=seed, lr=0.05 * (seed + 1), label_smoothing=0.1 * seed)
        for seed, architecture in enumerate(architectures)
    ]
    results = []
    for compiled in (False, True):
        eager = small_training.make_trainer(recipes)
        pack = PackTrainer(recipes, eager.data, eager.train_index, eager.validation_index, CPU, None, compiled)
        curves = [(snapshot.train, snapshot.validation) for snapshot in train(pack, frozenset())]
        assert (pack.compiled_forward is not None) == compiled
        results.append((pack.state, curves))
    (eager_state, eager_curves), (state, curves) = results
    for name, value in {**eager_state.params, **eager_state.buffers}.items():
        torch.testing.assert_close({**state.params, **state.buffers}[name], value, rtol=1e-10, atol=1e-12)
    for (a, b), (c, d) in zip(eager_curves, curves, strict=True):
        torch.testing.assert_close(c.loss, a.loss, rtol=1e-10, atol=0)
        torch.testing.assert_close(d.loss, b.loss, rtol=1e-10, atol=0)


def test_compiling_pays_for_long_mlp_trainings(small_training: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for short ones, convolutions, dropout, or machines without a compiler."""
    monkeypatch.setattr(cost, "_compiler", lambda: True)

    def pays(architecture: Any, epochs: int, replicas: int) -> bool:
        return cost.should_compile([small_training.recipe(architecture, epochs=epochs)] * replicas, 48_000)

    architecture = small_training.mlp(layers_dim=128, hidden_layers_num=10, input_size=12)
    assert pays(architecture, 50, 16)
    assert not pays(architecture, 1, 1)
    assert not pays(small_training.mlp(layers_dim=128, hidden_layers_num=10, dropout=0.1), 50, 16)
    assert not pays(small_training.cnn(width=16), 1000, 16)
    monkeypatch.setattr(cost, "_compiler", lambda: False)
    assert not pays(architecture, 50, 16)


def test_failing_compiler_falls_back_to_eager(small_training: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results are those of the eager step, and `compiled` is False."""

    def failing_compile(*_: Any, **__: Any) -> Any:
        def fail(*_: Any) -> Any:
            raise TorchDynamoException("no headers")

        return fail

    recipes = [small_training.recipe(small_training.mlp(batch_norm=True))]
    eager = small_training.make_trainer(recipes)
    pack = PackTrainer(recipes, eager.data, eager.train_index, eager.validation_index, CPU, None, True)
    monkeypatch.setattr(torch, "compile", failing_compile)
    for trainer in (eager, pack):
        list(train(trainer, frozenset()))
    assert not pack.compiled
    for name, value in eager.state.params.items():
        assert torch.equal(pack.state.params[name], value)


@pytest.mark.slow
@pytest.mark.skipif(not cost._compiler(), reason="there is no C++ compiler")
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
                f"{__file__}::test_compiled_equals_eager_in_float64",
            ],
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "ATEN_CPU_CAPABILITY": capability},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-2000:]
