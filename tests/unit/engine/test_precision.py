"""bf16 is compared with fp32 on the shapes of the network before anything is trained in it."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.engine import precision, selftest
from fathomlab.engine.loop import train
from fathomlab.engine.precision import choose_precision
from fathomlab.engine.selftest import SelfTest, bf16_self_test, compare, distinct_products
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

CPU = torch.device("cpu")
TINY = CNN(width=4, layers=(1, 1, 1, 1)).build((3, 16, 16))
FLAT = MLP(hidden_layers_num=2).build((1, 28, 28))


@pytest.fixture
def uncached() -> Any:
    """No result of another test."""
    selftest._measured_in_child.cache_clear()
    yield
    selftest._measured_in_child.cache_clear()


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run `code` in the child before the self-test."""
    monkeypatch.setattr(selftest, "START", f"{code}\n{selftest.START}")


@pytest.mark.parametrize("architecture", [TINY, FLAT])
def test_bf16_passes_or_is_refused(architecture: Any) -> None:
    """Seven mantissa bits: an error of a few tenths of a percent. A machine that cannot do that must say so."""
    test = bf16_self_test(architecture, 16, CPU)
    if not test.passed:
        with pytest.raises(UserError):
            choose_precision("bf16", architecture, 16, CPU)
        pytest.skip(
            f"bf16 does not work on this machine: layer {test.worst_layer}, {test.exit_reason or test.max_relative_error}"
        )
    assert 1e-4 < test.max_relative_error < 0.01
    assert test.speedup > 0
    assert choose_precision("bf16", architecture, 16, CPU) == "bf16"


@pytest.mark.parametrize("limit", ["AVX2", "SSE41"])
def test_self_test_ends_on_other_instruction_sets(limit: str, monkeypatch: pytest.MonkeyPatch, uncached: None) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2" if limit == "AVX2" else "default")
    test = bf16_self_test(TINY, 4, CPU)
    assert test.passed or test.worst_layer


def test_every_kind_of_product_is_tried_once() -> None:
    """Equal layers once, shortcuts too, in the order of the data."""
    names = [product.name for product in distinct_products(TINY)]
    assert names[:3] == ["stem", "stage1.1.conv1", "stage2.1.conv1"]
    assert "stage2.1.shortcut" in names
    assert "output" in names
    assert "stage1.1.conv2" not in names


def test_depths_of_one_width_share_a_test(monkeypatch: pytest.MonkeyPatch, uncached: None) -> None:
    starts = []
    run = selftest.subprocess.run
    monkeypatch.setattr(selftest.subprocess, "run", lambda *a, **k: starts.append(1) or run(*a, **k))
    for depth in (2, 5):
        bf16_self_test(MLP(hidden_layers_num=depth).build((1, 28, 28)), 16, CPU)
    assert len(starts) == 1


def test_wrong_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution that loses part of its sum in bf16 only, as one has been released."""
    right = selftest.F.conv2d

    def wrong(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        out = right(x, *rest)
        return out * 0.75 if x.dtype == torch.bfloat16 and rest[0].shape == (8, 4, 3, 3) else out

    monkeypatch.setattr(selftest.F, "conv2d", wrong)
    test = compare(tuple(distinct_products(TINY)), 4, CPU)
    assert not test.passed
    assert test.worst_layer == "stage2.1.conv1"
    monkeypatch.setattr(precision, "bf16_self_test", lambda *_: test)
    with pytest.raises(UserError, match=r"stage2\.1\.conv1.*fp32") as caught:
        choose_precision("bf16", TINY, 4, CPU)
    assert caught.value.code == "bf16-unsupported"
    assert choose_precision("auto", TINY, 4, CPU) == "fp32"


DYING = """
import torch, os, signal
right = torch.nn.functional.conv2d
def dying(x, weight, *rest):
    if x.dtype == torch.bfloat16 and weight.shape == (8, 4, 3, 3): {death}
    return right(x, weight, *rest)
torch.nn.functional.conv2d = dying
"""


@pytest.mark.parametrize(
    ("death", "named"),
    [("os.kill(os.getpid(), signal.SIGABRT)", "SIGABRT"), ("os._exit(7)", "status 7"), ("raise OSError('bad')", "bad")],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals have other names on Windows")
def test_death_of_the_child_means_unsupported(
    death: str, named: str, monkeypatch: pytest.MonkeyPatch, uncached: None
) -> None:
    """A kernel that ends the process ends only the self-test; the layer and the signal are named."""
    child(monkeypatch, DYING.format(death=death))
    with pytest.raises(UserError) as caught:
        choose_precision("bf16", TINY, 4, CPU)
    assert caught.value.code == "bf16-unsupported"
    assert "stage2.1.conv1" in str(caught.value)
    assert named in str(caught.value)
    assert choose_precision("auto", TINY, 4, CPU) == "fp32"


def test_bf16_is_refused_before_anything_is_recorded(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, uncached: None
) -> None:
    """The command ends with exit status 2, and no trial is stored as failed."""
    child(monkeypatch, "import os; os._exit(7)")
    conf = {
        "data": {"name": "mnist-sample", "limit": 100, "batch_size": 50},
        "model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
        "training": {"epochs": 1, "precision": "bf16"},
    }
    with pytest.raises(UserError) as caught:
        fathomlab.run(conf, runs=tmp_path, progress="off", workers=1)
    assert caught.value.code == "bf16-unsupported"
    assert not list((tmp_path / "trials").glob("*"))


@pytest.mark.parametrize("requested", ["fp32", "fp64"])
def test_other_precisions_start_no_child(requested: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest.subprocess, "run", lambda *_, **__: pytest.fail("a child was started"))
    assert choose_precision(requested, TINY, 4, CPU) == requested


@pytest.mark.parametrize(
    ("error", "speedup", "chosen"), [(0.004, 2.0, "bf16"), (0.004, 1.1, "fp32"), (0.3, 2.0, "fp32")]
)
def test_auto_selects_bf16_only_if_it_is_right_and_faster(
    monkeypatch: pytest.MonkeyPatch, error: float, speedup: float, chosen: str
) -> None:
    monkeypatch.setattr(precision, "bf16_self_test", lambda *_: SelfTest(error, "x", speedup))
    assert choose_precision("auto", TINY, 4, CPU) == chosen


def test_training_in_bf16_stays_near_fp32(small_training: ModuleType, bf16: None) -> None:
    """After an epoch the weights differ by rounding; parameters stay in fp32."""
    ends = {}
    for kind in ("fp32", "bf16"):
        pack = small_training.make_trainer(
            [small_training.recipe(small_training.mlp(), precision=kind, seed=seed) for seed in (0, 1)]
        )
        list(train(pack, frozenset()))
        ends[kind] = torch.cat([value.detach().flatten(1) for value in pack.state.params.values()], 1)
        assert ends[kind].dtype == torch.float32
    moved = float((ends["bf16"] - ends["fp32"]).norm() / ends["fp32"].norm())
    assert 1e-5 < moved < 0.1
