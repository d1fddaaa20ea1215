"""Norms per replica."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def norms(rows: Sequence[Shaped[Tensor, "k ..."]]) -> Float[Tensor, "k tensors"]:
    """Frobenius norm of each replica's part in float64, so that squares of tiny numbers do not vanish; a column per tensor."""
    return torch.stack([row.detach().double().flatten(1).square().sum(1).sqrt() for row in rows], 1)
