"""The self-test of bf16 and the choice of the precision."""

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.engine import precision_choice, selftest
from fathomlab.engine.precision_choice import choose_precision, has_bf16
from fathomlab.engine.selftest import SelfTest, bf16_self_test, compare, distinct_products
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from tests.helpers import small_training

CPU = torch.device("cpu")
TINY = CNN(width=4, layers=(1, 1, 1, 1)).build((3, 16, 16))
FLAT = MLP(hidden_layers_num=2).build((1, 28, 28))


@pytest.fixture
def uncached() -> Any:
    """Clear the cached results of other tests."""
    selftest._compare_in_child.cache_clear()
    yield
    selftest._compare_in_child.cache_clear()


@pytest.fixture
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this processor have instructions for bf16."""
    monkeypatch.setattr(precision_choice, "has_bf16", lambda _: True)


def patch_child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run `code` in the child process before the self-test."""
    monkeypatch.setattr(selftest, "START", f"{code}\n{selftest.START}")


def test_bf16_self_test_passes_or_rejects_bf16() -> None:
    """Seven mantissa bits give an error of a few tenths of a percent."""
    test = bf16_self_test(TINY, 16, CPU)
    if not test.passed:
        with pytest.raises(UserError):
            choose_precision("bf16", TINY, 16, CPU)
        pytest.skip(
            f"bf16 does not work on this machine: layer {test.worst_layer}, {test.exit_reason or test.max_relative_error}"
        )
    assert 1e-4 < test.max_relative_error < 0.01
    assert 1e-7 < test.loss_error < 0.05
    assert 1 < test.gradient_ratio < 1.2
    assert test.speedup > 0
    assert choose_precision("bf16", TINY, 16, CPU) == "bf16"


@pytest.mark.parametrize("limit", ["AVX2", pytest.param("SSE41", marks=pytest.mark.slow)])
def test_bf16_self_test_finishes_on_older_instruction_sets(
    limit: str, monkeypatch: pytest.MonkeyPatch, uncached: None
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2" if limit == "AVX2" else "default")
    test = bf16_self_test(TINY, 4, CPU)
    assert test.passed or test.worst_layer


def test_distinct_products_returns_each_shape_once() -> None:
    """Including shortcuts, in the order of the forward pass."""
    names = [product.name for product in distinct_products(TINY)]
    assert names[:3] == ["stem", "stage1.1.conv1", "stage2.1.conv1"]
    assert "stage2.1.shortcut" in names
    assert "output" in names
    assert "stage1.1.conv2" not in names


def test_bf16_self_test_runs_once_per_network_and_batch(monkeypatch: pytest.MonkeyPatch, uncached: None) -> None:
    starts = []
    answer = subprocess.CompletedProcess([], 0, json.dumps(asdict(SelfTest(0.004, "layer c", 0.0, 1.0, 2.0))).encode())
    monkeypatch.setattr(selftest.subprocess, "run", lambda *_, **__: starts.append(1) or answer)
    for batch in (16, 16, 8):
        assert bf16_self_test(FLAT, batch, CPU).speedup == 2
    assert len(starts) == 2


def test_compare_reports_layer_of_faulty_kernel(monkeypatch: pytest.MonkeyPatch, with_bf16: None) -> None:
    """A convolution that loses a part of its sum in bf16, as in a released version of torch."""
    conv2d = selftest.F.conv2d

    def faulty_conv2d(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        out = conv2d(x, *rest)
        return out * 0.75 if x.dtype == torch.bfloat16 and rest[0].shape == (8, 4, 3, 3) else out

    monkeypatch.setattr(selftest.F, "conv2d", faulty_conv2d)
    test = compare(TINY, 4, CPU)
    assert not test.passed
    assert test.worst_layer == "layer stage2.1.conv1"
    monkeypatch.setattr(precision_choice, "bf16_self_test", lambda *_: test)
    with pytest.raises(UserError, match=r"stage2\.1\.conv1.*fp32") as caught:
        choose_precision("bf16", TINY, 4, CPU)
    assert caught.value.code == "bf16-unsupported"
    assert choose_precision("auto", TINY, 4, CPU) == "fp32"


CRASHING = """
import torch, os, signal
conv2d = torch.nn.functional.conv2d
def crashing(x, weight, *rest):
    if x.dtype == torch.bfloat16 and weight.shape == (8, 4, 3, 3): {crash}
    return conv2d(x, weight, *rest)
torch.nn.functional.conv2d = crashing
"""


@pytest.mark.parametrize(
    ("crash", "expected"),
    [("os.kill(os.getpid(), signal.SIGABRT)", "SIGABRT"), ("raise OSError('bad')", "bad")],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals have other names on Windows")
def test_crash_of_the_child_rejects_bf16(
    crash: str, expected: str, monkeypatch: pytest.MonkeyPatch, uncached: None, with_bf16: None
) -> None:
    """A kernel that crashes the process ends only the self-test. The error contains layer and signal."""
    patch_child(monkeypatch, CRASHING.format(crash=crash))
    with pytest.raises(UserError) as caught:
        choose_precision("bf16", TINY, 4, CPU)
    assert caught.value.code == "bf16-unsupported"
    assert "stage2.1.conv1" in str(caught.value)
    assert expected in str(caught.value)
    assert choose_precision("auto", TINY, 4, CPU) == "fp32"


def test_run_rejects_bf16_before_training(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, uncached: None) -> None:
    patch_child(monkeypatch, "import os; os._exit(7)")
    conf = {
        "data": {"name": "mnist-sample", "limit": 100, "batch_size": 50},
        "model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
        "training": {"epochs": 1, "precision": "bf16"},
    }
    with pytest.raises(UserError) as caught:
        fathomlab.run(conf, runs=tmp_path, progress="off", workers=1)
    assert caught.value.code == "bf16-unsupported"
    assert "status 7" in str(caught.value)
    assert not list((tmp_path / "trials").glob("*"))


@pytest.mark.parametrize("requested", ["fp32", "fp64"])
def test_choose_precision_returns_fp32_and_fp64_untested(requested: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest.subprocess, "run", lambda *_, **__: pytest.fail("a child process was started"))
    assert choose_precision(requested, TINY, 4, CPU) == requested


@pytest.mark.parametrize(
    ("test", "auto", "passed"),
    [
        (SelfTest(0.004, "layer c", 0.01, 1.01, 2.0), "bf16", True),
        (SelfTest(0.004, "layer c", 0.01, 1.01, 1.1), "fp32", True),
        (SelfTest(0.3, "layer c", 0.01, 1.01, 2.0), "fp32", False),
        (SelfTest(0.004, "layer c", 0.3, 1.01, 2.0), "fp32", False),
        (SelfTest(0.004, "layer c", 0.01, 3.0, 2.0), "fp32", False),
        (SelfTest(0.004, "layer c", float("nan"), 1.01, 2.0), "fp32", False),
        (SelfTest(0.004, "layer c", 0.01, float("nan"), 2.0), "fp32", False),
        (SelfTest(float("nan"), "layer c", 0.01, 1.01, 2.0), "fp32", False),
        (SelfTest(0.004, "layer c", 0.01, 1.01, 2.0, "exit status 1"), "fp32", False),
    ],
)
def test_choose_precision_reads_the_self_test(
    monkeypatch: pytest.MonkeyPatch, with_bf16: None, test: SelfTest, auto: str, passed: bool
) -> None:
    """bf16 must be correct. Only `auto` also requires that its steps are faster."""
    monkeypatch.setattr(precision_choice, "bf16_self_test", lambda *_: test)
    assert choose_precision("auto", TINY, 4, CPU) == auto
    if passed:
        assert choose_precision("bf16", TINY, 4, CPU) == "bf16"
    else:
        with pytest.raises(UserError) as caught:
            choose_precision("bf16", TINY, 4, CPU)
        assert caught.value.code == "bf16-unsupported"


@pytest.mark.parametrize("capabilities", [{}, {"avx2": True, "avx512_f": True, "avx512_bf16": False}])
def test_auto_selects_fp32_without_instructions_for_bf16(
    capabilities: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, without a self-test."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(precision_choice, "bf16_self_test", lambda *_: pytest.fail("tested"))
    assert choose_precision("auto", TINY, 4, CPU) == "fp32"
    for name in ("avx512_bf16", "amx_bf16", "bf16"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=name: {name: True})
        assert has_bf16(CPU)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_compare_rejects_wrong_steps(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products may be right where a step is not: here, an operation between them is wrong in bf16."""

    def wrong_step(pack: Any, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits, losses = forward_and_loss(pack, *rest)
        factor = 2 if pack.shared_recipe.precision == "bf16" else 1
        scaled = losses * factor
        return logits, scaled if broken == "loss" else scaled - (scaled - losses).detach()

    forward_and_loss = selftest.forward_and_loss
    monkeypatch.setattr(selftest, "forward_and_loss", wrong_step)
    test = compare(TINY, 4, CPU)
    assert not test.passed
    assert test.gradient_ratio == pytest.approx(2, rel=0.2)
    assert test.loss_error == pytest.approx(1.0 if broken == "loss" else 0.0, abs=0.1)


@pytest.mark.parametrize("limit", [1, 10**9])
def test_steps_of_large_networks_have_fewer_images(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 8, and at most the batch."""
    sizes = []
    seconds = selftest.step_seconds
    monkeypatch.setattr(selftest, "STEP_MACS", limit)
    monkeypatch.setattr(selftest, "step_seconds", lambda pack: sizes.append(pack.train_index.shape[1]) or seconds(pack))
    assert compare(TINY, 16, CPU).passed
    assert set(sizes) == {8 if limit == 1 else 16}


def test_bf16_is_close_to_fp32_and_stores_float32() -> None:
    test = bf16_self_test(small_training.mlp(), 16, CPU)
    if not test.passed:
        pytest.skip(f"bf16 does not work on this machine: layer {test.worst_layer}")
    for architecture in (
        small_training.mlp(layers_dim=16, batch_norm=True, residual=True),
        small_training.mlp(layers_dim=16),
    ):
        curves = {}
        for name in ("fp32", "bf16"):
            recipes = [small_training.recipe(architecture, seed=seed, precision=name) for seed in (1, 2)]
            pack, snapshots = small_training.run_training(recipes)
            assert {value.dtype for value in {**pack.state.params, **pack.state.buffers}.values()} == {torch.float32}
            curves[name] = torch.stack([snapshot.train.loss for snapshot in snapshots])
        torch.testing.assert_close(curves["bf16"], curves["fp32"], rtol=0.15, atol=0.02)
        assert not torch.equal(curves["bf16"], curves["fp32"])
