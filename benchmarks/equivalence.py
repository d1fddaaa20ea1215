"""Equivalence before speed: the same numbers from the same initial values and order, before anything is timed."""

from collections.abc import Sequence

import torch

from benchmarks.race import in_subprocess
from benchmarks.setting import BATCH, Setting, from_words
from benchmarks.worker import TASKS, peer_function

MAX_DIFFERENCE = 1e-10
SEED = 1


def numbers(system: str, task: str, words: Sequence[str], steps: int) -> list[float]:
    """Losses of `steps` steps of a system, or loss and accuracy of its evaluation, in float64 (in bf16 if that is its format)."""
    setting = from_words(words)
    torch.set_num_threads(1)
    compute = peer_function(system, TASKS[task][1])
    if task == "evaluate":
        return compute(setting, SEED)
    order = torch.arange(steps * BATCH).view(steps, BATCH) * 17 % len(setting.images()[1])
    return compute(setting, SEED, order)


def differences(
    systems: Sequence[str], setting: Setting, steps: int, allowed: dict[str, float], task: str = "train"
) -> dict[str, float]:
    """Largest relative difference of each system's numbers from those of the first.

    Args:
        systems: The first is the one that all are compared with.
        setting: The network.
        steps: The number of losses.
        allowed: The largest difference of a system, unless it is 1e-10.
        task: `train` or `evaluate`.

    Raises:
        SystemExit: If a system does not compute the same; then nothing should be timed.
    """
    function = "benchmarks.equivalence:numbers"
    results = {system: in_subprocess(function, system, task, setting.words, steps) for system in systems}
    largest = {system: distance(values, results[systems[0]]) for system, values in results.items()}
    wrong = [name for name, difference in largest.items() if not difference <= allowed.get(name, MAX_DIFFERENCE)]
    if wrong:
        raise SystemExit(f"not the same numbers: {', '.join(wrong)} ({largest}); nothing is timed")
    return largest


def distance(values: Sequence[float], others: Sequence[float]) -> float:
    """Largest relative difference of two sequences."""
    return max(abs(a - b) / abs(b) for a, b in zip(values, others, strict=True))
