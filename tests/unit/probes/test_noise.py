"""The noise probe equals plain autograd, and its estimates are unbiased."""

from dataclasses import replace
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
from tests.helpers import reference_models

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
MODELS = [
    MLP(**DENSE, hidden_layers_num=4),
    MLP(**DENSE, hidden_layers_num=3, batch_norm=True, residual=True, dropout=0.4),
    CNN(layers=(1, 2, 1, 1), num_classes=3, width=2),
]


def flat_gradient(pack: PackTrainer, reference: Any, slot: int, index: Tensor) -> Tensor:
    """Compute the full gradient of the mean loss over the images at `index` with the reference network."""
    logits = reference(pack.data.normalize(pack.data.images[index])).unsqueeze(0)
    loss = cross_entropy(logits, pack.data.labels[index].unsqueeze(0))
    if pack.teachers is not None:
        soft = distillation_loss(logits, pack.teachers.logits[slot, index].unsqueeze(0), 4.0)
        loss = 0.1 * loss + 0.9 * soft
    return torch.cat(
        [gradient.flatten() for gradient in torch.autograd.grad(loss.mean(), list(reference.parameters()))]
    )


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("options", MODELS, ids=str)
def test_noise_equals_plain_autograd(options: MLP | CNN, distilled: bool, packs: Any) -> None:
    """Four batches of five images by the formulas of the appendix, replica by replica."""
    pack = packs(options, (5, 6, 7), distilled)
    columns = Noise(batches=4, examples=5).measure(Snapshot(pack))
    index = Snapshot(pack).probe_images(20)
    without_dropout = replace(options, dropout=0.0) if isinstance(options, MLP) else options
    assert (columns["small"], columns["big"]) == (5, 20)
    for slot in range(3):
        reference = reference_models.reference_model(without_dropout, pack.state.params, slot)
        gradients = [flat_gradient(pack, reference, slot, index[slot, start : start + 5]) for start in (0, 5, 10, 15)]
        small = float(torch.stack([gradient.square().sum() for gradient in gradients]).mean())
        big = float(torch.stack(gradients).mean(0).square().sum())
        squared = (20 * big - 5 * small) / 15
        trace = (small - big) / (1 / 5 - 1 / 20)
        assert float(columns["gradient_squared"][slot]) == pytest.approx(squared, rel=1e-10)
        assert float(columns["trace"][slot]) == pytest.approx(trace, rel=1e-10)
        if squared > 0:
            assert float(columns["noise_scale"][slot]) == pytest.approx(trace / squared, rel=1e-10)
        else:
            assert columns["noise_scale"][slot].isnan()


def test_noise_estimates_are_unbiased(packs: Any) -> None:
    """The means over 400 draws equal the trace over all images, and |g|^2 - tr(Sigma)/N for N images."""
    pack = packs(MODELS[0], tuple(range(400)))
    with torch.no_grad():
        for value in pack.state.params.values():
            value.copy_(value[:1].clone())
    pack.train_index = pack.train_index[:1].repeat(400, 1)
    columns = Noise(batches=6, examples=3).measure(Snapshot(pack))
    images = pack.train_index[0]
    reference = reference_models.reference_model(MODELS[0], pack.state.params, 0)
    per_image = torch.stack([flat_gradient(pack, reference, 0, image.unsqueeze(0)) for image in images])
    trace = float(per_image.var(0).sum())
    squared = float(per_image.mean(0).square().sum()) - trace / len(images)
    for name, expected in (("trace", trace), ("gradient_squared", squared)):
        error = float(columns[name].std()) / 20
        assert float(columns[name].mean()) == pytest.approx(expected, abs=4 * error)
        assert error < 0.1 * trace


def test_identical_images_have_no_noise(packs: Any) -> None:
    pack = packs(MODELS[0])
    pack.data.images[:] = pack.data.images[:1].clone()
    pack.data.labels[:] = 1
    columns = Noise(batches=4, examples=5).measure(Snapshot(pack))
    assert (columns["gradient_squared"] > 0).all()
    assert (columns["trace"].abs() < 1e-12 * columns["gradient_squared"]).all()


def test_noise_scale_is_nan_without_positive_estimate(packs: Any) -> None:
    pack = packs(MODELS[0], tuple(range(20)))
    pack.data.labels.copy_(torch.arange(len(pack.data.labels)) % 3)
    pack.data.images.zero_()
    with torch.no_grad():
        for value in pack.state.params.values():
            value.zero_()
    columns = Noise(batches=4, examples=2).measure(Snapshot(pack))
    not_positive = columns["gradient_squared"] <= 0
    assert not_positive.any()
    assert torch.equal(columns["noise_scale"].isnan(), not_positive)


def test_noise_uses_smaller_batches_for_few_images(packs: Any) -> None:
    """48 images give 8 batches of 6. Batches of 4 are unchanged. A single image gives NaN."""
    assert [Noise().measure(Snapshot(packs(MODELS[0])))[name] for name in ("small", "big")] == [6, 48]
    assert [Noise().measure(Snapshot(packs(MODELS[0], batch_size=4)))[name] for name in ("small", "big")] == [4, 32]
    single_image = packs(MODELS[0])
    single_image.train_index = single_image.train_index[:, :1]
    columns = Noise().measure(Snapshot(single_image))
    assert all(columns[name].isnan().all() for name in ("noise_scale", "gradient_squared", "trace"))
