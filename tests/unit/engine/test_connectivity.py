"""The line between two networks: closed forms, a twin of torch modules, and running statistics of averaged weights."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathomlab.engine.connectivity import evaluate_line
from fathomlab.engine.torch_model import TorchModel
from fathomlab.models.mlp import MLP
from tests.helpers import reference_models

ALPHAS = (0.0, 0.3, 1.0)


def examples(count: int) -> tuple[Tensor, Tensor]:
    """Standard normal images of 12 pixels, and labels of 3 classes."""
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 12, generator=generator), torch.randint(3, (count,), generator=generator)


def test_opposite_linear_networks_meet_in_the_uniform_distribution() -> None:
    """W and -W: the middle has loss ln 3 and predicts the first class."""
    first, second = nn.Linear(12, 3, bias=False), nn.Linear(12, 3, bias=False)
    weight = first.weight.detach().clone()
    with torch.no_grad():
        second.weight.copy_(-weight)
    (images, labels), alphas = examples(600), (0.0, 0.25, 0.5, 1.0)
    values = evaluate_line((first, second), alphas, {"test": (images, labels)}, torch.arange(600), 8)
    logits = [images @ weight.T * (1 - 2 * alpha) for alpha in alphas]
    assert values["test/loss"] == pytest.approx([float(F.cross_entropy(each, labels)) for each in logits], rel=1e-5)
    assert values["test/loss"][2] == pytest.approx(math.log(3))
    assert values["test/accuracy"] == [float((each.argmax(1) == labels).double().mean()) for each in logits]
    assert values.keys() == {"test/loss", "test/accuracy"}


@pytest.mark.parametrize("block", ["one_layer", "shared_twice", "pre_activation"])
def test_running_statistics_belong_to_the_averaged_weights(block: Any) -> None:
    """A twin of torch modules with 50 batches; in float64, with one batch of all images, it also knows their order."""
    options = MLP(12, 6, 3, 2, residual=True, batch_norm=True, block=block)
    ends = tuple(TorchModel(options.build((1, 3, 4)), seed, "fp64") for seed in (1, 2))
    images, labels = examples(64)
    images = images.double()
    weights = [{name: value.detach().clone() for name, value in end.named_parameters()} for end in ends]
    values = evaluate_line((ends[0], ends[1]), ALPHAS, {"train": (images, labels)}, torch.arange(64), 64)
    for index, alpha in enumerate(ALPHAS):
        average = {name: ((1 - alpha) * value + alpha * weights[1][name])[None] for name, value in weights[0].items()}
        twin = reference_models.reference_model(options, average).train()
        for _ in range(50):
            logits = twin(images)
        if block != "shared_twice":  # whose statistics average the inputs of both applications
            assert values["train/loss"][index] == pytest.approx(
                float(F.cross_entropy(logits, labels).detach()), abs=0.02
            )
        exact = float(F.cross_entropy(twin.eval()(images), labels).detach())
        assert values["train/loss"][index] == pytest.approx(exact, rel=1e-10)


def test_batches_of_the_statistics_are_full_and_in_order() -> None:
    """20 images in batches of 8 leave out the last 4 of the permutation: 2 batches, 25 passes."""
    seen: list[Tensor] = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.output = nn.BatchNorm1d(12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(x)
            return self.output(self.norm(x))

    images, labels = examples(20)
    order = torch.arange(20).flip(0)
    evaluate_line((Recorder(), Recorder()), (0.5,), {"train": (images, labels)}, order, 8)
    assert len(seen) == 50
    assert torch.equal(torch.cat(seen[:2]), images[order[:16]])
    seen.clear()
    evaluate_line((Recorder(), Recorder()), (0.5,), {"train": (images, labels)}, order, 32)
    assert [len(batch) for batch in seen] == [20] * 50
