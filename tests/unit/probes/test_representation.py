"""The representation probe: loops over examples and pairs give the same numbers, and constructed nets give known ones."""

from dataclasses import replace
from itertools import combinations
from types import ModuleType
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

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
MODELS = [
    MLP(**DENSE, hidden_layers_num=4),
    MLP(**DENSE, hidden_layers_num=3, batch_norm=True, residual=True, dropout=0.4),
    MLP(**DENSE, hidden_layers_num=2, activation="Tanh"),
    CNN(layers=(1, 2, 1, 1), num_classes=3, width=2),
    CNN(layers=(1, 1, 1, 1), num_classes=3, width=2, residual=False, block_type="bottleneck"),
]


def naive(h: Tensor) -> tuple[float, float, float, float]:
    """rms, dead, correlation and spread of (n, units, ...), example by example and pair by pair."""
    rows = [row.flatten() for row in h]
    dead = sum(bool((h[:, unit] == 0).all()) for unit in range(h.shape[1])) / h.shape[1]
    cosines = [float(F.cosine_similarity(a, b, 0, 0)) for a, b in combinations(rows, 2) if a.any() and b.any()]
    mean = sum(rows, torch.zeros_like(rows[0])) / len(rows)
    rms = float(torch.cat(rows).square().mean().sqrt())
    spread = float(torch.cat([row - mean for row in rows]).square().mean().sqrt()) / rms
    return rms, dead, sum(cosines) / len(cosines), spread


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_loops_give_the_same(options: MLP | CNN, taught: bool, packs: Any, reference_models: ModuleType) -> None:
    """Every tap of three replicas, in the network's order; batch statistics, no dropout."""
    pack = packs(options, (5, 6, 7), taught)
    index = Snapshot(pack).probe_batch(9)
    found = Representation(9).measure(Snapshot(pack))
    dry = replace(options, dropout=0.0) if isinstance(options, MLP) else options
    assert found["points"] == list(pack.shared_recipe.architecture.taps)
    for place in range(3):
        twin = reference_models.reference_model(dry, pack.state.params, place)
        with torch.no_grad():
            twin(pack.data.normalize(pack.data.images[index[place]]))
        expected = torch.tensor([naive(point) for point in twin.points], dtype=torch.float64)
        names = ("rms", "dead", "correlation", "spread")
        torch.testing.assert_close(torch.stack([found[name][place] for name in names], 1), expected, rtol=1e-10, atol=0)


def constant(pack: PackTrainer, name: str, bias: float) -> None:
    """Set a layer's weights to 0, so that its output is its bias."""
    with torch.no_grad():
        pack.state.params[f"{name}.weight"].zero_()
        pack.state.params[f"{name}.bias"].fill_(bias)


def test_a_constant_layer_is_a_collapse(packs: Any) -> None:
    """Its outputs have a cosine of 1 and no spread, though their size is 2; no unit is dead."""
    pack = packs(MODELS[0])
    constant(pack, "hidden.2", 2.0)
    found = Representation().measure(Snapshot(pack))
    place = found["points"].index("hidden.2")
    assert found["rms"][:, place].tolist() == [2, 2]
    assert found["dead"][:, place].tolist() == [0, 0]
    assert found["correlation"][:, place].tolist() == pytest.approx([1, 1], abs=1e-14)
    assert found["spread"][:, place].tolist() == [0, 0]


def test_a_layer_of_zeros_is_dead_and_has_no_direction(packs: Any) -> None:
    """No cosine and no spread can be said; the next layer is constant."""
    pack = packs(MODELS[0])
    constant(pack, "hidden.2", -1.0)
    found = Representation().measure(Snapshot(pack))
    place = found["points"].index("hidden.2")
    assert found["rms"][:, place].tolist() == [0, 0]
    assert found["dead"][:, place].tolist() == [1, 1]
    assert found["correlation"][:, place].isnan().all()
    assert found["spread"][:, place].isnan().all()


def test_one_dead_unit_of_six(packs: Any) -> None:
    """A very negative bias keeps a unit at 0 for every input."""
    pack = packs(MLP(**DENSE, hidden_layers_num=1, activation="ReLU"))
    with torch.no_grad():
        pack.state.params["input.bias"].fill_(100.0)
        pack.state.params["input.bias"][1, 4] = -100.0
    assert Representation().measure(Snapshot(pack))["dead"][:, 0].tolist() == [0, pytest.approx(1 / 6)]


def test_float64_sees_below_the_floor_of_float32(packs: Any) -> None:
    """The spread of a plain net falls by the same factor a layer; float32 stops near 1e-7."""
    deep = MLP(input_size=12, layers_dim=64, class_num=3, hidden_layers_num=30)
    coarse = Representation().measure(Snapshot(packs(deep, precision="fp32")))
    fine = Representation(float64=True).measure(Snapshot(packs(deep, precision="fp32")))
    assert (coarse["dtype"], fine["dtype"]) == ("float32", "float64")
    assert float(coarse["spread"][:, -1].min()) > 1e-9
    assert float(fine["spread"][:, -1].max()) < 1e-10
    torch.testing.assert_close(coarse["spread"][:, :8], fine["spread"][:, :8], rtol=0.02, atol=0)
    assert float(fine["correlation"][:, -1].min()) == pytest.approx(1, abs=1e-12)
