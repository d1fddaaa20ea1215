"""Equivalence before speed: the same losses from the same initial values and order, before anything is timed."""

import importlib
from collections.abc import Sequence

import torch

from benchmarks.race import apart
from benchmarks.setting import BATCH, Setting, from_words
from benchmarks.worker import SYSTEMS

LARGEST_DIFFERENCE = 1e-10


def curve(system: str, words: Sequence[str], steps: int) -> list[float]:
    """Losses of `steps` steps of a system in float64 (where its function is that of bf16: in bf16)."""
    setting = from_words(words)
    torch.set_num_threads(1)
    order = torch.arange(steps * BATCH).view(steps, BATCH) * 17 % len(setting.images()[1])
    module, function = SYSTEMS[system]
    peer = importlib.import_module(module)
    return getattr(peer, function.replace("prepare", "curve"))(setting, 1, order)


def differences(systems: Sequence[str], setting: Setting, steps: int, allowed: dict[str, float]) -> dict[str, float]:
    """Largest relative difference of each system's losses from those of the first.

    Args:
        systems: The first is the one that all are compared with.
        setting: What is trained.
        steps: How many losses.
        allowed: The largest difference of a system, where it is not 1e-10.

    Raises:
        SystemExit: A system does not train the same network; nothing is to be timed.
    """
    curves = {system: apart("benchmarks.equivalence:curve", system, setting.words, steps) for system in systems}
    found = {system: distance(losses, curves[systems[0]]) for system, losses in curves.items()}
    wrong = [name for name, difference in found.items() if not difference <= allowed.get(name, LARGEST_DIFFERENCE)]
    if wrong:
        raise SystemExit(f"not the same training: {', '.join(wrong)} ({found}); nothing is timed")
    return found


def distance(losses: Sequence[float], others: Sequence[float]) -> float:
    """Largest relative difference of two curves."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses, others, strict=True))
