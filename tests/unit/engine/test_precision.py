"""bf16 is compared with fp32 on the network's own shapes before anything is trained in it."""

from types import ModuleType
from typing import Any

import pytest
import torch

from fathomlab.engine import precision
from fathomlab.engine.precision import SelfTest, bf16_self_test, choose_precision
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN

CPU = torch.device("cpu")
TINY = CNN(width=4, layers=(1, 1, 1, 1)).build((3, 16, 16))


def test_bf16_products_agree_with_fp32_to_its_rounding() -> None:
    """Seven mantissa bits: a relative rounding of 2^-9 a number, so errors of a few tenths of a per cent, not of per cents."""
    for architecture in (TINY, MLP(hidden_layers_num=2).build((1, 28, 28))):
        found = bf16_self_test(architecture, 16, CPU)
        assert 1e-4 < found.error < 0.01, found
        assert found.right
        assert found.speedup > 0


def test_every_kind_of_product_is_tried_once() -> None:
    """Equal layers once, shortcuts too, in the order of the data."""
    names = [name for name, _, _ in precision._products(TINY.layers, TINY.shape)]
    assert names[:3] == ["stem", "stage1.1.conv1", "stage2.1.conv1"]
    assert "stage2.1.shortcut" in names
    assert "output" in names
    assert "stage1.1.conv2" not in names


def test_a_wrong_kernel_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution that loses part of its sum in bf16 alone, as one has been released."""
    right = precision.F.conv2d

    def wrong(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        made = right(x, *rest)
        return made * 0.75 if x.dtype == torch.bfloat16 and rest[0].shape == (8, 4, 3, 3) else made

    monkeypatch.setattr(precision.F, "conv2d", wrong)
    found = bf16_self_test(TINY, 4, CPU)
    assert not found.right
    assert found.worst == "stage2.1.conv1"
    with pytest.raises(ValueError, match=r"bf16 is wrong on this machine: layer stage2\.1\.conv1 differs .* Use fp32"):
        choose_precision("bf16", TINY, 4, CPU)
    assert choose_precision("auto", TINY, 4, CPU) == "fp32"


@pytest.mark.parametrize(
    ("error", "speedup", "chosen"), [(0.004, 2.0, "bf16"), (0.004, 1.1, "fp32"), (0.3, 2.0, "fp32")]
)
def test_auto_takes_bf16_where_it_is_right_and_pays(
    monkeypatch: pytest.MonkeyPatch, error: float, speedup: float, chosen: str
) -> None:
    """Not where it is wrong, and not where it gains less than a fifth."""
    monkeypatch.setattr(precision, "bf16_self_test", lambda *_: SelfTest(error, "x", speedup))
    assert choose_precision("auto", TINY, 4, CPU) == chosen
    assert choose_precision("fp32", TINY, 4, CPU) == "fp32"


def test_training_in_bf16_stays_near_fp32(bench: ModuleType) -> None:
    """After an epoch the weights differ by rounding; parameters stay in fp32."""
    ends = {}
    for kind in ("fp32", "bf16"):
        pack = bench.training([bench.recipe(bench.mlp(), precision=kind, seed=seed) for seed in (0, 1)])
        list(precision_train(pack))
        ends[kind] = torch.cat([value.detach().flatten(1) for value in pack.state.values.values()], 1)
        assert ends[kind].dtype == torch.float32
    moved = float((ends["bf16"] - ends["fp32"]).norm() / ends["fp32"].norm())
    assert 1e-5 < moved < 0.1


def precision_train(pack: Any) -> Any:
    """The training loop over all epochs."""
    from fathomlab.engine.loop import train

    return train(pack, frozenset())
