"""A compiled step is the eager step."""

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
from fathomlab.engine.training import Training
from fathomlab.prepare import cost

CPU = torch.device("cpu")


@pytest.mark.skipif(not cost._compiler(), reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # warnings of the compiler
def test_compiled_equals_eager_in_float64(bench: ModuleType) -> None:
    """20 steps of a pack that differs in everything a pack may differ in, the smaller last batch included."""
    architectures = [bench.mlp(batch_norm=True, residual=residual) for residual in (True, False)]
    recipes = [
        bench.recipe(architecture, seed=seed, lr=0.05 * (seed + 1), label_smoothing=0.1 * seed)
        for seed, architecture in enumerate(architectures)
    ]
    ends = []
    for compiled in (False, True):
        eager = bench.training(recipes)
        pack = Training(recipes, eager.data, eager.train_index, eager.validation_index, CPU, None, compiled)
        curves = [(snapshot.train, snapshot.validation) for snapshot in train(pack, frozenset())]
        assert (pack.program is not None) == compiled
        ends.append((pack.state, curves))
    (eager_state, eager_curves), (state, curves) = ends
    for name, value in {**eager_state.values, **eager_state.buffers}.items():
        torch.testing.assert_close({**state.values, **state.buffers}[name], value, rtol=1e-10, atol=1e-12)
    for (a, b), (c, d) in zip(eager_curves, curves, strict=True):
        torch.testing.assert_close(c.loss, a.loss, rtol=1e-10, atol=0)
        torch.testing.assert_close(d.loss, b.loss, rtol=1e-10, atol=0)


def test_compiling_is_chosen_where_it_pays(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long trainings of many replicas compile; short ones, convolutions and machines without a compiler do not."""
    monkeypatch.setattr(cost, "_compiler", lambda: True)

    def pays(architecture: Any, epochs: int, replicas: int) -> bool:
        return cost.compiling_pays([bench.recipe(architecture, epochs=epochs)] * replicas, 48_000)

    wide = bench.mlp(layers_dim=128, hidden_layers_num=10, input_size=12)
    assert pays(wide, 50, 16)
    assert not pays(wide, 1, 1)
    assert not pays(bench.mlp(layers_dim=128, hidden_layers_num=10, dropout=0.1), 50, 16)
    assert not pays(bench.cnn(width=16), 1000, 16)
    monkeypatch.setattr(cost, "_compiler", lambda: False)
    assert not pays(wide, 50, 16)


def test_a_compiler_that_fails_costs_speed_alone(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pack goes on eagerly, with the eager numbers, and says that it is not compiled."""

    def broken(*_: Any, **__: Any) -> Any:
        def fail(*_: Any) -> Any:
            raise TorchDynamoException("no headers")

        return fail

    recipes = [bench.recipe(bench.mlp(batch_norm=True))]
    eager = bench.training(recipes)
    pack = Training(recipes, eager.data, eager.train_index, eager.validation_index, CPU, None, True)
    monkeypatch.setattr(torch, "compile", broken)
    for trained in (eager, pack):
        list(train(trained, frozenset()))
    assert not pack.compiled
    for name, value in eager.state.values.items():
        assert torch.equal(pack.state.values[name], value)


@pytest.mark.slow
@pytest.mark.skipif(not cost._compiler(), reason="there is no C++ compiler")
def test_code_is_not_reused_by_older_processors(tmp_path: Path) -> None:
    """One cache for AVX-512 and AVX2: without a key of its own, the second process gets NaN."""
    for capability in ("avx512", "avx2"):
        done = subprocess.run(
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
        assert done.returncode == 0, done.stdout[-2000:]
