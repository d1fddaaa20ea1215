"""Groups trials that can be trained as one tensor program."""

from collections.abc import Callable, Sequence

from fathomlab.plan import Trial


def packs(
    trials: Sequence[Trial], signature: Callable[[Trial], object], most: Callable[[Trial], int]
) -> list[list[Trial]]:
    """Group trials that can be one tensor program, in the order given; `most` bounds the replicas of a pack."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(signature(trial), []).append(trial)
    made = []
    for group in groups.values():
        count = -(-len(group) // max(1, most(group[0])))
        size = -(-len(group) // count)
        made += [group[start : start + size] for start in range(0, len(group), size)]
    return made
