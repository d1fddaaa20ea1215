"""Which training examples are held out for validation, and which remain where the file asks for fewer."""

import numpy as np

from fathomlab.base.identity import stream


def stratified_split(labels: np.ndarray, percent: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation indices, with every class in its share.

    Args:
        labels: Shape (n,), of the training examples.
        percent: How many of a hundred examples are held out, 0 <= percent < 100.
        seed: Of the trial; the stream (seed, "split") alone decides, so conditions of one seed share the split.

    Returns:
        Two sorted, disjoint arrays of int64 that together hold every index; the second has round(n * percent / 100).

    Raises:
        ValueError: The percentage is impossible.

    Example:
        >>> train, validation = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 25.0, seed=42)
        >>> len(train), [int(label) for label in validation // 4]
        (6, [0, 1])
    """
    if not 0 <= percent < 100:
        raise ValueError(f"the validation percentage should be at least 0 and below 100 (got {percent!r})")
    chosen = _stratified(labels, round(len(labels) * percent / 100), seed, "split")
    return np.flatnonzero(~chosen).astype(np.int64), np.flatnonzero(chosen).astype(np.int64)


def limited(labels: np.ndarray, limit: int | None, seed: int = 0) -> np.ndarray:
    """Sorted indices of `limit` examples, with every class in its share; all of them where the limit is none or larger.

    The seed of the trial does not belong here: all seeds of an experiment see the same subset.

    Raises:
        ValueError: The limit is not positive.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"the limit should be at least 1 (got {limit!r})")
    if limit is None or limit >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    return np.flatnonzero(_stratified(labels, limit, seed, "limit")).astype(np.int64)


def _stratified(labels: np.ndarray, size: int, seed: int, purpose: str) -> np.ndarray:
    """A mask with `size` examples: by largest remainder among the classes, by random key within a class.

    The keys are the raw output of the bit generator, which numpy keeps from version to version.
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
