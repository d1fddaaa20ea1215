"""Random bits as a function of (key, counter), computed with int64 tensor operations.

The bits are the same on every device and in every pack. There is no state, so nothing has to be saved or replayed, and no
draw depends on the number of other draws. The function is splitmix64 (Steele, Lea, Flood, 2014): `splitmix64(key, i)` is
output i of that generator with the initial state `key`. Keys with several components are chained:
`splitmix64(splitmix64(seed, purpose), epoch)`.
"""

from jaxtyping import Float, Int64
from torch import Tensor

RandomBits = Int64[Tensor, "..."]

# Constants of splitmix64 as signed 64-bit integers.
GAMMA = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - 2**64
MULTIPLIER_2 = 0x94D049BB133111EB - 2**64


def splitmix64(key: RandomBits, counter: RandomBits | int) -> RandomBits:
    """Return 64 random bits for each pair of `key` and `counter`.

    Args:
        key: Selects the stream; any 64 bits, as a signed integer.
        counter: Position in the stream, from 0. Broadcasts against `key`.

    Returns:
        The bits as signed 64-bit integers, in the broadcast shape.

    Example:
        >>> import torch
        >>> def reference(state):  # splitmix64 with Python integers
        ...     mask = 2**64 - 1
        ...     state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & mask
        ...     state = (state ^ (state >> 27)) * 0x94D049BB133111EB & mask
        ...     return state ^ (state >> 31)
        >>> expected = [reference((7 + (i + 1) * 0x9E3779B97F4A7C15) % 2**64) for i in range(5)]
        >>> expected == [bits % 2**64 for bits in splitmix64(torch.tensor(7), torch.arange(5)).tolist()]
        True
    """
    increment = (counter + 1) * GAMMA
    bits = key + (_to_int64(increment) if isinstance(increment, int) else increment)
    bits = (bits ^ _logical_right_shift(bits, 30)) * MULTIPLIER_1
    bits = (bits ^ _logical_right_shift(bits, 27)) * MULTIPLIER_2
    return bits ^ _logical_right_shift(bits, 31)


def uniform(bits: RandomBits) -> Float[Tensor, "..."]:
    """Convert random bits to uniform numbers in [0, 1).

    Uses the 24 high bits. Every multiple of 2^-24 is equally likely, and exact in float32.

    Example:
        >>> import torch
        >>> uniform(torch.tensor([0, -1, 1 << 62])).tolist()
        [0.0, 0.9999999403953552, 0.25]
    """
    return _logical_right_shift(bits, 40).float() * 2.0**-24


def _to_int64(number: int) -> int:
    """Wrap an integer to int64, as the product of two int64 tensors does."""
    return (number + 2**63) % 2**64 - 2**63


def _logical_right_shift(bits: RandomBits, count: int) -> RandomBits:
    """Shift in zeros. The operator of torch shifts in copies of the sign bit."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
