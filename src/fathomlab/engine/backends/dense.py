"""MLPs as the native step computes them: layers of h = act(norm(W x + b)) [+ x]."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import BatchNorm, Dropout, Layer, Layers, Linear, ParameterFree, Residual, Tap


@dataclass(frozen=True)
class DenseLayer:
    """What the native step computes per layer: h = act(norm(W x + b)) [+ x].

    Attributes:
        linear: Name of the linear layer.
        inputs: Width of x.
        outputs: Width of h.
        norm: Name of the batch normalization; `""` without one.
        eps: Added to the variance.
        active: Whether a ReLU follows.
        skip: Whether x is added; None where it cannot be.
        again: Whether it is the second application of the layer before; then `skip` adds the x of the first.
    """

    linear: str
    inputs: int
    outputs: int
    norm: str = ""
    eps: float = 0.0
    active: bool = False
    skip: bool | None = None
    again: bool = False


def dense_layers(architecture: Architecture) -> tuple[DenseLayer, ...] | None:
    """The layers of a network; None if it has others than these."""
    first, *rest = architecture.layers
    if first != ParameterFree("Flatten"):
        return None
    try:
        layers = tuple(_dense(tuple(rest)))
    except ValueError:
        return None
    return None if layers[0].skip is not None else layers  # the images have no padding that a shortcut could read


def _dense(layers: Layers) -> Iterator[DenseLayer]:
    """Yield the layers of a chain. Raises ValueError for others."""
    current: DenseLayer | None = None
    for layer in layers:
        if isinstance(layer, Linear | Residual):
            if current is not None:
                yield current
            *before, current = _block(layer) if isinstance(layer, Residual) else (_linear(layer),)
            yield from before
        elif current is None or current.skip is not None:
            if not isinstance(layer, Tap):
                raise ValueError(layer)
        else:
            current = _extended(current, layer)
    if current is None:
        raise ValueError("no layer")
    yield current


def _linear(layer: Linear) -> DenseLayer:
    return DenseLayer(layer.name, layer.in_features, layer.out_features)


def _block(layer: Residual) -> tuple[DenseLayer, ...]:
    first, *rest = _dense(layer.branch)
    if rest not in ([], [first]) or first.skip is not None or first.inputs != first.outputs:
        raise ValueError("a branch has one linear layer, which is applied once or twice")
    if not rest:
        return (replace(first, skip=layer.enabled),)
    return first, replace(first, skip=layer.enabled, again=True)


def _extended(dense: DenseLayer, layer: Layer) -> DenseLayer:
    match layer:
        case BatchNorm() if not dense.norm and not dense.active:
            return replace(dense, norm=layer.name, eps=layer.eps)
        case ParameterFree(kind="ReLU") if not dense.active:
            return replace(dense, active=True)
        case Dropout(p=0) | Tap():
            return dense
        case _:
            raise ValueError(layer)
