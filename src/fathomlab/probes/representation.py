"""Layer representations: scale, dead units, and collapse to a constant function."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from fathomlab.base.options import PositiveInt
from fathomlab.probes.columns import Column, Measured

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.probes import Snapshot


@final
@dataclass(frozen=True)
class Representation:
    """Statistics of the output h of every layer or block on one batch of training images that is fixed per seed.

    Measured with batch statistics, without dropout and augmentation. A deep plain network can lose its input before training.
    Biases keep the size of h, while the differences between inputs shrink from layer to layer. The cosine between two inputs
    then approaches 1, and the spread around their mean approaches 0, although the size does not change. Vectors are not
    centered, because they collapse to their mean. The spread resolves differences that round the cosine to 1: down to rounding
    noise of 1e-7 in float32 and 1e-16 in float64.

    Attributes:
        examples: Batch size, at most the trial's.
        float64: Whether to compute in float64 for every training precision.
    """

    examples: PositiveInt = 128
    float64: bool = False

    title: ClassVar[str] = "Layer representations"
    note: ClassVar[str] = "Cosine near 1 and input-dependent part near 0: the network ignores its input."
    columns: ClassVar[dict[str, Column]] = {
        "rms": Column("Size of the layer outputs (RMS)", axis="point", figure="profile", log=True),
        "spread": Column("Input-dependent part of the outputs", axis="point", figure="profile", log=True),
        "correlation": Column("Cosine similarity of two inputs", axis="point", figure="profile"),
        "dead": Column("Fraction of dead units", axis="point", figure="profile"),
    }
    needs_maps: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {"examples": 8, "float64": True}

    def measure(self, snapshot: "Snapshot") -> Measured:
        """Measure each point, float64 (k, points).

        Returns:
            `rms`: root mean square of h.
            `dead`: fraction of units (channels of maps) that are 0 for all examples.
            `correlation`: mean cosine of h between two different examples; NaN if fewer than two are nonzero.
            `spread`: rms of h around its mean over the examples, relative to `rms`; NaN if `rms` is 0.
        """
        import torch

        snapshot = snapshot.to_float64() if self.float64 else snapshot
        with torch.no_grad():
            features = snapshot.features(snapshot.probe_batch(self.examples))
            rows = [_statistics(snapshot.by_replica(tap)) for tap in features]
        columns = torch.stack(rows, 2)
        return {
            "dtype": snapshot.dtype,
            "points": list(snapshot.points),
            **dict(zip(("rms", "dead", "correlation", "spread"), columns, strict=True)),
        }


def _statistics(h: "Tensor") -> "Tensor":
    """Compute rms, dead, correlation, and spread, float64 (4, k), of the features (k, n, units, cells) at a point."""
    import torch

    examples = h.shape[1]
    dead = (h == 0).all(3).all(1).double().mean(1)
    h = h.double().flatten(2)
    squares = h.square().sum(2)
    lengths = squares.sqrt()
    alive = (lengths > 0).sum(1)
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    # One product gives the cosines of all pairs: |sum of unit vectors|^2 contains each pair twice, and a 1 per vector.
    total = torch.bmm(inverse.unsqueeze(1), h).flatten(1)
    correlation = (total.square().sum(1) - alive) / torch.where(alive > 1, (alive * (alive - 1)).double(), torch.nan)
    deviation = (h - h.mean(1, keepdim=True)).square().sum((1, 2))
    total_square = squares.sum(1)
    rms = (total_square / (examples * h.shape[2])).sqrt()
    return torch.stack([rms, dead, correlation, (deviation / total_square).sqrt()])
