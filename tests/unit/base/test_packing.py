"""Signatures: what may differ inside a pack, and what may not."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest

from fathomlab.base.packing import Varies, signature, varying
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.distillation import Distillation
from fathomlab.optim.adam import Adam
from fathomlab.optim.sgd import SGD


@dataclass(frozen=True)
class Layer:
    width: int
    rate: Annotated[float, Varies(separate=(0.0,))] = 0.1


@dataclass(frozen=True)
class Net:
    layers: tuple[Layer, ...]
    seed: Annotated[int, Varies()] = 0
    last: Layer = field(default_factory=lambda: Layer(1))


def test_signature_ignores_varying_options():
    assert varying(Net).keys() == {"seed"}
    assert signature(Net((Layer(2, 0.1),), 1)) == signature(Net((Layer(2, 0.5),), 2, Layer(1, 0.7)))


@pytest.mark.parametrize(
    "other",
    [Net((Layer(3),)), Net((Layer(2), Layer(2))), Net((Layer(2, 0.0),)), Net((Layer(2),), 0, Layer(2))],
    ids=["width", "count", "separate value", "nested"],
)
def test_signature_contains_other_options(other: Net):
    assert signature(other) != signature(Net((Layer(2),)))


def test_signature_equals_for_separate_values():
    assert signature(Layer(2, 0.0)) == signature(Layer(2, 0.0))


def test_varying_returns_marked_options():
    assert signature(Distillation(2.0, 0.1)) == signature(Distillation())
    assert signature(Distillation()) != signature(CrossEntropy())
    assert signature(Adam(weight_decay=0.1)) == signature(Adam())
    assert signature(Adam(eps=1e-3)) != signature(Adam())
    assert signature(SGD()) != signature(Adam())
