"""Norms per replica."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def norms(tensors: Sequence[Shaped[Tensor, "k ..."]]) -> Float[Tensor, "k tensors"]:
    """Compute the Frobenius norm of each tensor per replica, (k, tensors).

    Uses float64, so that the squares of tiny numbers do not underflow.
    """
    return torch.stack([tensor.detach().double().flatten(1).square().sum(1).sqrt() for tensor in tensors], 1)
