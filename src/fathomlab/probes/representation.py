"""What the layers make of different inputs: scale, dead units, and the collapse to a constant function."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.options import PositiveInt

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.probes import Snapshot


@final
@dataclass(frozen=True)
class Representation:
    """The output h of every layer or block on one batch of training images fixed for each seed.

    Batch statistics, no dropout, no augmentation. A deep plain network forgets its input before it is trained: biases keep
    the size of h while what differs between inputs shrinks layer by layer, so that all inputs come to one point. The cosine
    between two inputs therefore goes to 1, and the spread about their mean to 0, where size alone shows nothing; vectors are
    not centered first, for the mean is what they collapse to. The spread sees what the cosine rounds to 1, down to 1e-7 in
    float32, which is rounding noise, and 1e-16 in float64.

    Attributes:
        examples: Size of the batch, the trial's batch size where it is smaller.
        float64: Compute in float64 whatever the trial trains in.
    """

    examples: PositiveInt = 128
    float64: bool = False

    columns: ClassVar[dict[str, str | None]] = dict.fromkeys(("rms", "dead", "correlation", "spread"), "points")
    tiny: ClassVar[dict[str, object]] = {"examples": 8, "float64": True}

    def measure(self, snapshot: "Snapshot") -> dict[str, Any]:
        """One number for each tap, float64 (k, points).

        `rms` is the root mean square of h; `dead` the share of units, channels for maps, that are 0 for all examples;
        `correlation` the mean cosine of h between two different examples, NaN where fewer than two are not 0; `spread` the
        rms of h about its mean over the examples, as a share of `rms`, NaN where that is 0.
        """
        import torch

        snapshot = snapshot.in_double() if self.float64 else snapshot
        with torch.no_grad():
            features = snapshot.features(snapshot.fixed_batch(self.examples))
            rows = [_numbers(snapshot.by_replica(tap)) for tap in features]
        columns = torch.stack(rows, 2)
        return {
            "dtype": snapshot.format,
            "points": list(snapshot.points),
            **dict(zip(("rms", "dead", "correlation", "spread"), columns, strict=True)),
        }


def _numbers(h: "Tensor") -> "Tensor":
    """rms, dead, correlation and spread of one tap, float64 (4, k), from its output (k, n, units, cells)."""
    import torch

    examples = h.shape[1]
    dead = (h == 0).all(3).all(1).double().mean(1)
    h = h.double().flatten(2)
    squares = h.square().sum(2)
    lengths = squares.sqrt()
    alive = (lengths > 0).sum(1)
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    # the cosines of all pairs in one product: |sum of unit vectors|^2 holds each pair twice, and a 1 for each vector
    total = torch.bmm(inverse.unsqueeze(1), h).flatten(1)
    correlation = (total.square().sum(1) - alive) / torch.where(alive > 1, (alive * (alive - 1)).double(), torch.nan)
    about = (h - h.mean(1, keepdim=True)).square().sum((1, 2))
    whole = squares.sum(1)
    rms = (whole / (examples * h.shape[2])).sqrt()
    return torch.stack([rms, dead, correlation, (about / whole).sqrt()])
