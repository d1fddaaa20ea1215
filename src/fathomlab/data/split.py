"""Stratified selection of training examples: the validation split and the limited subset."""

import numpy as np

from fathomlab.base.identity import stream


def stratified_split(labels: np.ndarray, percent: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training and validation indices, with every class in proportion.

    Args:
        labels: Shape (n,), of the training examples.
        percent: Percentage of the examples to hold out, 0 <= percent < 100.
        seed: Seed of the trial. The split depends only on the stream (seed, "split"): conditions of one seed share it.

    Returns:
        Two sorted, disjoint int64 arrays that together contain every index. The second has round(n * percent / 100).

    Raises:
        ValueError: If the percentage is out of range.

    Example:
        >>> train, validation = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 25.0, seed=42)
        >>> len(train), [int(label) for label in validation // 4]
        (6, [0, 1])
    """
    if not 0 <= percent < 100:
        raise ValueError(f"validation percentage must be >= 0 and < 100, got {percent!r}")
    chosen = _stratified(labels, round(len(labels) * percent / 100), seed, "split")
    return np.flatnonzero(~chosen).astype(np.int64), np.flatnonzero(chosen).astype(np.int64)


def limited(labels: np.ndarray, limit: int | None, seed: int = 0) -> np.ndarray:
    """Return the sorted indices of `limit` examples, with every class in proportion; all if there are no more.

    Do not pass the seed of a trial: all seeds of an experiment use the same subset.

    Raises:
        ValueError: If the limit is not positive.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be >= 1, got {limit!r}")
    if limit is None or limit >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    return np.flatnonzero(_stratified(labels, limit, seed, "limit")).astype(np.int64)


def _stratified(labels: np.ndarray, size: int, seed: int, purpose: str) -> np.ndarray:
    """A mask with `size` examples: by largest remainder among the classes, by random key within a class.

    The keys are the raw output of the bit generator, which does not change between versions of NumPy.
    """
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares, remainders = np.divmod(size * counts, len(labels))
    largest = np.argsort(-remainders, kind="stable")[: size - shares.sum()]
    shares[largest] += 1
    keys = stream(seed, purpose).bit_generator.random_raw(len(labels))
    order = np.lexsort((keys, inverse))
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    mask = np.zeros(len(labels), bool)
    mask[order[place < np.repeat(shares, counts)]] = True
    return mask
