"""Stratified selection of examples: the validation split, the limited subset, and a test set."""

import numpy as np

from fathomlab.base.identity import make_rng


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
    held_out = _stratified(labels, round(len(labels) * percent / 100), seed, "split")
    return np.flatnonzero(~held_out).astype(np.int64), np.flatnonzero(held_out).astype(np.int64)


def stratified_subset(labels: np.ndarray, size: int | None, seed: int = 0) -> np.ndarray:
    """Return the sorted indices of `size` examples, with every class in proportion; all if there are no more.

    Do not pass the seed of a trial: all seeds of an experiment use the same subset.

    Raises:
        ValueError: If the size is not positive.
    """
    if size is not None and size < 1:
        raise ValueError(f"limit must be >= 1, got {size!r}")
    if size is None or size >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    return np.flatnonzero(_stratified(labels, size, seed, "limit")).astype(np.int64)


def split_off_test(labels: np.ndarray, percent: float) -> tuple[np.ndarray, np.ndarray]:
    """Return training and test indices of a dataset without a test set, with every class in proportion.

    The split depends only on the labels and their order: all seeds of all experiments use the same test images.

    Args:
        labels: Shape (n,).
        percent: Percentage of the examples for the test, 0 < percent < 100.

    Returns:
        Two sorted, disjoint int64 arrays that together contain every index. The second has round(n * percent / 100).
    """
    chosen = _stratified(labels, round(len(labels) * percent / 100), 0, "test")
    return np.flatnonzero(~chosen).astype(np.int64), np.flatnonzero(chosen).astype(np.int64)


def _stratified(labels: np.ndarray, size: int, seed: int, purpose: str) -> np.ndarray:
    """A mask with `size` examples: by largest remainder among the classes, by random key within a class.

    The keys are the raw output of the bit generator, which does not change between versions of NumPy.
    """
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares, remainders = np.divmod(size * counts, len(labels))
    largest = np.argsort(-remainders, kind="stable")[: size - shares.sum()]
    shares[largest] += 1
    keys = make_rng(seed, purpose).bit_generator.random_raw(len(labels))
    order = np.lexsort((keys, inverse))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    mask = np.zeros(len(labels), bool)
    mask[order[rank < np.repeat(shares, counts)]] = True
    return mask
