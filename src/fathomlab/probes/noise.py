"""The gradient noise scale: how much of a batch's gradient is the batch's own."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, final

from annotated_types import Interval

from fathomlab.base.options import PositiveInt

if TYPE_CHECKING:
    from fathomlab.probes import Snapshot


@final
@dataclass(frozen=True)
class Noise:
    """tr(Sigma) / |g|^2 from small batches and their mean (McCandlish et al., 2018, arXiv 1812.06162, appendix A.1).

    The batch size, in examples, at which the noise of a gradient is as large as the gradient. An estimate from few images:
    |g|^2 and tr(Sigma) are without bias, their ratio is not, and where little gradient is left the estimate of |g|^2 may come
    out negative; there is no noise scale then. Average the two over snapshots or seeds before dividing.

    The training images are fixed for each seed; no dropout, no augmentation. Batch normalization takes the statistics of
    each small batch, so that g is the gradient of training at that batch size.

    Attributes:
        batches: Small batches.
        examples: Size of a small batch, less where the trial's batch or training set is smaller.
    """

    batches: Annotated[int, Interval(ge=2)] = 8
    examples: PositiveInt = 32

    columns: ClassVar[dict[str, str | None]] = dict.fromkeys(
        ("noise_scale", "gradient_squared", "trace", "small", "big")
    )
    tiny: ClassVar[dict[str, object]] = {"batches": 2, "examples": 4}

    def measure(self, snapshot: "Snapshot") -> dict[str, Any]:
        """Per replica, float64 (k,): `noise_scale` [examples], `gradient_squared` |g|^2, `trace` tr(Sigma).

        `noise_scale` is NaN where `gradient_squared` is not above 0; all three are where there are not two batches. `small`
        and `big` are the batch sizes [examples].
        """
        import torch

        from fathomlab.probes.norms import norms

        images = snapshot.training_images
        count = min(self.batches, images)
        small = min(self.examples, snapshot.batch_size, images // count)
        big = count * small
        values = list(snapshot.parameters.values())
        means = [torch.zeros_like(value) for value in values]
        squares = torch.zeros(snapshot.replicas, dtype=torch.float64, device=values[0].device)
        for batch in snapshot.fixed_images(big).split(small, 1):
            with torch.enable_grad():
                gradients = torch.autograd.grad(snapshot.loss(batch), values)
            squares += norms(gradients).square().sum(1) / count
            for mean, gradient in zip(means, gradients, strict=True):
                mean.add_(gradient, alpha=1 / count)
        whole = norms(means).square().sum(1)
        squared = (big * whole - small * squares) / (big - small)
        trace = (squares - whole) / (1 / small - 1 / big)
        return {
            "noise_scale": torch.where(squared > 0, trace / squared, torch.nan),
            "gradient_squared": squared,
            "trace": trace,
            "small": small,
            "big": big,
        }
