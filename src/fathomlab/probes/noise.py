"""The gradient noise scale: the size of the noise of a batch gradient relative to its mean."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, final

from annotated_types import Interval

from fathomlab.base.options import PositiveInt
from fathomlab.losses.defaults import ADAPTER
from fathomlab.probes.columns import Column, Measured

if TYPE_CHECKING:
    from fathomlab.probes import Snapshot


@final
@dataclass(frozen=True)
class Noise:
    """tr(Sigma) / |g|^2 from small batches and their mean (McCandlish et al., 2018, arXiv 1812.06162, appendix A.1).

    This is the batch size (examples) at which the noise of a gradient is as large as the gradient. The estimates of |g|^2 and
    tr(Sigma) are unbiased; their ratio is not. If the gradient is small, the estimate of |g|^2 can be negative, and there is
    no noise scale. Average both over snapshots or seeds before you divide.

    The training images are fixed per seed, without dropout and augmentation. Batch normalization uses the statistics of each
    small batch, so g is the gradient of training at that batch size. What a loss learns in addition to the network is left out.

    Attributes:
        batches: Number of small batches.
        examples: Size of a small batch, at most the trial's batch size.
    """

    batches: Annotated[int, Interval(ge=2)] = 8
    examples: PositiveInt = 32

    title: ClassVar[str] = "Gradient noise scale"
    note: ClassVar[str] = (
        "Batch size at which gradient noise equals the signal (McCandlish et al., 2018). Numerator and denominator are "
        "averaged over seeds before the division. Missing points: estimate not positive."
    )
    columns: ClassVar[dict[str, Column]] = {
        "noise_scale": Column(
            "Gradient noise scale", "examples", figure="lines", log=True, quotient=("trace", "gradient_squared")
        ),
        "gradient_squared": Column("Squared gradient norm |g|^2"),
        "trace": Column("Trace of the gradient covariance"),
        "small": Column("Size of a small batch", "examples"),
        "big": Column("Size of all small batches", "examples"),
    }
    needs_maps: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {"batches": 2, "examples": 4}

    def measure(self, snapshot: "Snapshot") -> Measured:
        """Estimate the noise scale of each replica.

        Returns:
            `noise_scale`: (examples), float64 (k,); NaN unless `gradient_squared` is positive.
            `gradient_squared`, `trace`: |g|^2 and tr(Sigma), float64 (k,). All three are NaN if there is only one batch.
            `small`, `big`: batch sizes (examples).
        """
        import torch

        from fathomlab.probes.norms import norms

        images = snapshot.training_images
        count = min(self.batches, images)
        small = min(self.examples, snapshot.batch_size, images // count)
        big = count * small
        params = [param for name, param in snapshot.params.items() if not name.startswith(ADAPTER)]
        means = [torch.zeros_like(param) for param in params]
        squares = torch.zeros(snapshot.replicas, dtype=torch.float64, device=params[0].device)
        for batch in snapshot.probe_images(big).split(small, 1):
            with torch.enable_grad():
                gradients = torch.autograd.grad(snapshot.loss(batch), params, materialize_grads=True)
            squares += norms(gradients).square().sum(1) / count
            for mean, gradient in zip(means, gradients, strict=True):
                mean.add_(gradient, alpha=1 / count)
        mean_squared = norms(means).square().sum(1)
        squared = (big * mean_squared - small * squares) / (big - small)
        trace = (squares - mean_squared) / (1 / small - 1 / big)
        return {
            "noise_scale": torch.where(squared > 0, trace / squared, torch.nan),
            "gradient_squared": squared,
            "trace": trace,
            "small": small,
            "big": big,
        }
