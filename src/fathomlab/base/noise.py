"""Random bits as a function of (key, counter), in int64 tensor operations: the same on every device and in every pack.

There is no state: nothing to store, nothing to replay, and no draw depends on how many others were made. The function
is splitmix64 (Steele, Lea, Flood, 2014): `mix(key, i)` is the i-th output of that generator started at `key`. Keys of
several parts are chained: `mix(mix(seed, purpose), epoch)`.
"""

from jaxtyping import Float, Int64
from torch import Tensor

Bits = Int64[Tensor, "..."]

GAMMA = 0x9E3779B97F4A7C15 - 2**64
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64


def mix(key: Bits, counter: Bits | int) -> Bits:
    """64 random bits for each pair of `key` and `counter`, which broadcast against each other.

    Args:
        key: Names the stream; any 64 bits, read as a signed number.
        counter: The place in the stream, from 0.

    Returns:
        The bits as signed 64-bit numbers, in the common shape.

    Example:
        >>> import torch
        >>> def twin(state):  # splitmix64 in whole numbers of any size
        ...     mask = 2**64 - 1
        ...     state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
        ...     state = (state ^ (state >> 27)) * 0x94D049BB133111EB & mask
        ...     return state ^ (state >> 31)
        >>> expected = [twin((7 + (i + 1) * 0x9E3779B97F4A7C15) % 2**64) for i in range(5)]
        >>> expected == [bits % 2**64 for bits in mix(torch.tensor(7), torch.arange(5)).tolist()]
        True
    """
    step = (counter + 1) * GAMMA
    bits = key + (_signed(step) if isinstance(step, int) else step)
    bits = (bits ^ _shifted(bits, 30)) * FIRST
    bits = (bits ^ _shifted(bits, 27)) * SECOND
    return bits ^ _shifted(bits, 31)


def uniform(bits: Bits) -> Float[Tensor, "..."]:
    """Numbers in [0, 1) from the top 24 bits: every multiple of 2^-24 is equally likely, and exact in float32.

    Example:
        >>> import torch
        >>> uniform(torch.tensor([0, -1, 1 << 62])).tolist()
        [0.0, 0.9999999403953552, 0.25]
    """
    return _shifted(bits, 40).float() * 2.0**-24


def _signed(number: int) -> int:
    """The lowest 64 bits of a whole number, read as int64: what the multiplication of two int64 leaves."""
    return (number + 2**63) % 2**64 - 2**63


def _shifted(bits: Bits, places: int) -> Bits:
    """Logical right shift; torch's own copies the sign bit into the free places."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
