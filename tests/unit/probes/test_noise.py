"""The noise probe: plain autograd gives the same numbers, and over many draws the estimates are without bias."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.losses.distillation import distillation_loss
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.probes.noise import Noise

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
MODELS = [
    MLP(**DENSE, hidden_layers_num=4),
    MLP(**DENSE, hidden_layers_num=3, batch_norm=True, residual=True, dropout=0.4),
    CNN(layers=(1, 2, 1, 1), num_classes=3, width=2),
]


def flat_gradient(pack: PackTrainer, twin: Any, place: int, index: Tensor) -> Tensor:
    """The whole gradient of one replica by the twin, its mean loss over the images at `index`."""
    logits = twin(pack.data.normalize(pack.data.images[index])).unsqueeze(0)
    loss = cross_entropy(logits, pack.data.labels[index].unsqueeze(0))
    if pack.teachers is not None:
        soft = distillation_loss(logits, pack.teachers.logits[place, index].unsqueeze(0), 4.0)
        loss = 0.1 * loss + 0.9 * soft
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss.mean(), list(twin.parameters()))])


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_plain_autograd_gives_the_same(
    options: MLP | CNN, taught: bool, packs: Any, reference_models: ModuleType
) -> None:
    """Four batches of five images by the formulas of the appendix, a replica at a time."""
    pack = packs(options, (5, 6, 7), taught)
    found = Noise(batches=4, examples=5).measure(Snapshot(pack))
    index = Snapshot(pack).probe_images(20)
    dry = replace(options, dropout=0.0) if isinstance(options, MLP) else options
    assert (found["small"], found["big"]) == (5, 20)
    for place in range(3):
        twin = reference_models.reference_model(dry, pack.state.params, place)
        parts = [flat_gradient(pack, twin, place, index[place, start : start + 5]) for start in (0, 5, 10, 15)]
        small = float(torch.stack([part.square().sum() for part in parts]).mean())
        big = float(torch.stack(parts).mean(0).square().sum())
        squared = (20 * big - 5 * small) / 15
        trace = (small - big) / (1 / 5 - 1 / 20)
        assert float(found["gradient_squared"][place]) == pytest.approx(squared, rel=1e-10)
        assert float(found["trace"][place]) == pytest.approx(trace, rel=1e-10)
        if squared > 0:
            assert float(found["noise_scale"][place]) == pytest.approx(trace / squared, rel=1e-10)
        else:
            assert found["noise_scale"][place].isnan()


def test_estimates_are_without_bias(packs: Any, reference_models: ModuleType) -> None:
    """400 draws of batches for one network: their means are the trace over all images, and |g|^2 less its sampling error.

    Drawing without replacement from N images estimates |g|^2 - tr(Sigma)/N, as if they were a sample themselves.
    """
    pack = packs(MODELS[0], tuple(range(400)))
    with torch.no_grad():
        for value in pack.state.params.values():
            value.copy_(value[:1].clone())
    pack.train_index = pack.train_index[:1].repeat(400, 1)
    found = Noise(batches=6, examples=3).measure(Snapshot(pack))
    images = pack.train_index[0]
    twin = reference_models.reference_model(MODELS[0], pack.state.params, 0)
    each = torch.stack([flat_gradient(pack, twin, 0, image.unsqueeze(0)) for image in images])
    trace = float(each.var(0).sum())
    squared = float(each.mean(0).square().sum()) - trace / len(images)
    for name, expected in (("trace", trace), ("gradient_squared", squared)):
        error = float(found[name].std()) / 20
        assert float(found[name].mean()) == pytest.approx(expected, abs=4 * error)
        assert error < 0.1 * trace


def test_identical_images_have_no_noise(packs: Any) -> None:
    """Where all examples are the same the trace is 0 and |g|^2 the gradient's own square."""
    pack = packs(MODELS[0])
    pack.data.images[:] = pack.data.images[:1].clone()
    pack.data.labels[:] = 1
    found = Noise(batches=4, examples=5).measure(Snapshot(pack))
    assert (found["gradient_squared"] > 0).all()
    assert (found["trace"].abs() < 1e-12 * found["gradient_squared"]).all()


def test_no_noise_scale_where_the_gradient_drowns(packs: Any) -> None:
    """An estimate of |g|^2 below 0 is kept; the ratio is not a number, which the store writes as null."""
    pack = packs(MODELS[0], tuple(range(20)))
    pack.data.labels.copy_(torch.arange(len(pack.data.labels)) % 3)
    pack.data.images.zero_()
    with torch.no_grad():
        for value in pack.state.params.values():
            value.zero_()
    found = Noise(batches=4, examples=2).measure(Snapshot(pack))
    drowned = found["gradient_squared"] <= 0
    assert drowned.any()
    assert torch.equal(found["noise_scale"].isnan(), drowned)


def test_small_training_sets_have_smaller_batches(packs: Any) -> None:
    """48 images give 8 batches of 6, batches of 4 stay; a single image says nothing."""
    assert [Noise().measure(Snapshot(packs(MODELS[0])))[name] for name in ("small", "big")] == [6, 48]
    assert [Noise().measure(Snapshot(packs(MODELS[0], batch_size=4)))[name] for name in ("small", "big")] == [4, 32]
    lonely = packs(MODELS[0])
    lonely.train_index = lonely.train_index[:, :1]
    found = Noise().measure(Snapshot(lonely))
    assert all(found[name].isnan().all() for name in ("noise_scale", "gradient_squared", "trace"))
