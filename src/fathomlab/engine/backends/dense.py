"""MLPs as the native step computes them: layers of h = factor * act(norm(W x + b)) [+ x]."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import BatchNorm, Dropout, Layer, Layers, Linear, Multiply, ParameterFree, Residual, Tap

RELU = ParameterFree("ReLU")


@dataclass(frozen=True)
class DenseLayer:
    """What the native step computes per layer: h = factor * act(norm(W x + b)) [+ x].

    Attributes:
        linear: Name of the linear layer.
        inputs: Width of x.
        outputs: Width of h.
        norm: Name of the batch normalization; `""` without one.
        eps: Added to the variance.
        active: Whether a ReLU follows.
        pre: Whether a ReLU precedes: W relu(x) + b, without batch norm.
        factor: Factor of a branch.
        skip: Whether x is added; None where it cannot be.
        again: Whether it is the second application of the layer before; then `skip` adds the x of the first.
    """

    linear: str
    inputs: int
    outputs: int
    norm: str = ""
    eps: float = 0.0
    active: bool = False
    pre: bool = False
    factor: float = 1.0
    skip: bool | None = None
    again: bool = False


def dense_layers(architecture: Architecture) -> tuple[DenseLayer, ...] | None:
    """The layers of a network; None if it has others than these."""
    start, *rest = architecture.layers
    if start != ParameterFree("Flatten"):
        return None
    try:
        layers = tuple(_dense(tuple(rest)))
    except ValueError:
        return None
    first = layers[0]  # the images have no padding that a shortcut could read
    return None if first.skip is not None or first.pre else layers


def _dense(layers: Layers) -> Iterator[DenseLayer]:
    """Yield the layers of a chain. Raises ValueError for others."""
    current: DenseLayer | None = None
    pre = False  # a ReLU after a block belongs to the next layer
    for layer in layers:
        if isinstance(layer, Linear | Residual):
            if current is not None:
                yield current
            *before, current = (_linear(layer, pre),) if isinstance(layer, Linear) else _block(layer, pre)
            yield from before
            pre = False
        elif layer == RELU and not pre and (current is None or current.skip is not None):
            pre = True
        elif not _changes_nothing(layer):
            if current is None or current.skip is not None:
                raise ValueError(layer)
            current = _extended(current, layer)
    if current is None or pre:
        raise ValueError("no layer at the end")
    yield current


def _changes_nothing(layer: Layer) -> bool:
    return isinstance(layer, Tap) or (isinstance(layer, Dropout) and layer.p == 0)


def _linear(layer: Linear, pre: bool) -> DenseLayer:
    return DenseLayer(layer.name, layer.in_features, layer.out_features, pre=pre)


def _block(layer: Residual, pre: bool) -> tuple[DenseLayer, ...]:
    first, *rest = _dense(layer.branch)
    last = rest[0] if rest else first
    if pre or len(rest) > 1 or replace(last, factor=first.factor) != first:
        raise ValueError("a branch has one linear layer, which is applied once or twice")
    if first.skip is not None or first.inputs != first.outputs:
        raise ValueError("a branch has a linear layer that keeps the width")
    if not rest:
        return (replace(first, skip=layer.enabled),)
    if first.pre or first.factor != 1:
        raise ValueError("a layer is applied twice before its output is multiplied")
    return first, replace(last, skip=layer.enabled, again=True)


def _extended(dense: DenseLayer, layer: Layer) -> DenseLayer:
    """A layer with what follows it."""
    if isinstance(layer, Multiply) and dense.factor == 1:
        return replace(dense, factor=layer.factor)
    if dense.active or dense.pre or dense.factor != 1:
        raise ValueError(layer)
    if layer == RELU:
        return replace(dense, active=True)
    if isinstance(layer, BatchNorm) and not dense.norm:
        return replace(dense, norm=layer.name, eps=layer.eps)
    raise ValueError(layer)
