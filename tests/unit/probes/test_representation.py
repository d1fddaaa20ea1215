"""The representation probe equals loops over examples and pairs, and known values of constructed networks."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.training import PackTrainer
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.probes.representation import Representation
from tests.helpers import reference_models

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
MODELS = [
    MLP(**DENSE, hidden_layers_num=4),
    MLP(**DENSE, hidden_layers_num=3, batch_norm=True, residual=True, dropout=0.4),
    MLP(**DENSE, hidden_layers_num=2, activation="Tanh"),
    CNN(layers=(1, 2, 1, 1), num_classes=3, width=2),
    CNN(layers=(1, 1, 1, 1), num_classes=3, width=2, residual=False, block_type="bottleneck"),
]


def reference_statistics(h: Tensor) -> tuple[float, float, float, float]:
    """Compute rms, dead, correlation, and spread of (n, units, ...), example by example and pair by pair."""
    rows = [row.flatten() for row in h]
    dead = sum(bool((h[:, unit] == 0).all()) for unit in range(h.shape[1])) / h.shape[1]
    cosines = [float(F.cosine_similarity(a, b, 0, 0)) for a, b in combinations(rows, 2) if a.any() and b.any()]
    mean = sum(rows, torch.zeros_like(rows[0])) / len(rows)
    rms = float(torch.cat(rows).square().mean().sqrt())
    spread = float(torch.cat([row - mean for row in rows]).square().mean().sqrt()) / rms
    return rms, dead, sum(cosines) / len(cosines), spread


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_representation_equals_loops(options: MLP | CNN, distilled: bool, packs: Any) -> None:
    """Every point of three replicas, with batch statistics and without dropout."""
    pack = packs(options, (5, 6, 7), distilled)
    index = Snapshot(pack).probe_batch(9)
    columns = Representation(9).measure(Snapshot(pack))
    without_dropout = replace(options, dropout=0.0) if isinstance(options, MLP) else options
    assert columns["points"] == list(pack.shared_recipe.architecture.taps)
    for slot in range(3):
        reference = reference_models.reference_model(without_dropout, pack.state.params, slot)
        with torch.no_grad():
            reference(pack.data.normalize(pack.data.images[index[slot]]))
        expected = torch.tensor([reference_statistics(point) for point in reference.points], dtype=torch.float64)
        names = ("rms", "dead", "correlation", "spread")
        torch.testing.assert_close(
            torch.stack([columns[name][slot] for name in names], 1), expected, rtol=1e-10, atol=0
        )


def constant(pack: PackTrainer, name: str, bias: float) -> None:
    """Set a layer's weights to 0, so that its output is its bias."""
    with torch.no_grad():
        pack.state.params[f"{name}.weight"].zero_()
        pack.state.params[f"{name}.bias"].fill_(bias)


def test_constant_layer_has_cosine_one_and_no_spread(packs: Any) -> None:
    pack = packs(MODELS[0])
    constant(pack, "hidden.2", 2.0)
    columns = Representation().measure(Snapshot(pack))
    point = columns["points"].index("hidden.2")
    assert columns["rms"][:, point].tolist() == [2, 2]
    assert columns["dead"][:, point].tolist() == [0, 0]
    assert columns["correlation"][:, point].tolist() == pytest.approx([1, 1], abs=1e-14)
    assert columns["spread"][:, point].tolist() == [0, 0]


def test_zero_layer_is_dead_without_direction(packs: Any) -> None:
    pack = packs(MODELS[0])
    constant(pack, "hidden.2", -1.0)
    columns = Representation().measure(Snapshot(pack))
    point = columns["points"].index("hidden.2")
    assert columns["rms"][:, point].tolist() == [0, 0]
    assert columns["dead"][:, point].tolist() == [1, 1]
    assert columns["correlation"][:, point].isnan().all()
    assert columns["spread"][:, point].isnan().all()


def test_dead_returns_fraction_of_units(packs: Any) -> None:
    pack = packs(MLP(**DENSE, hidden_layers_num=1, activation="ReLU"))
    with torch.no_grad():
        pack.state.params["input.bias"].fill_(100.0)
        pack.state.params["input.bias"][1, 4] = -100.0
    assert Representation().measure(Snapshot(pack))["dead"][:, 0].tolist() == [0, pytest.approx(1 / 6)]


def test_float64_resolves_spread_below_float32(packs: Any) -> None:
    """The spread of a plain network falls by one factor per layer. float32 stops near 1e-7."""
    options = MLP(input_size=12, layers_dim=64, class_num=3, hidden_layers_num=30)
    float32 = Representation().measure(Snapshot(packs(options, precision="fp32")))
    float64 = Representation(float64=True).measure(Snapshot(packs(options, precision="fp32")))
    assert (float32["dtype"], float64["dtype"]) == ("float32", "float64")
    assert float(float32["spread"][:, -1].min()) > 1e-9
    assert float(float64["spread"][:, -1].max()) < 1e-10
    torch.testing.assert_close(float32["spread"][:, :8], float64["spread"][:, :8], rtol=0.02, atol=0)
    assert float(float64["correlation"][:, -1].min()) == pytest.approx(1, abs=1e-12)
