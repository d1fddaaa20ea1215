"""Says which levels of a claim average students of a teacher with placebos or emulated mistakes."""

from collections.abc import Sequence

from fathomlab.analysis.contrasts import Arm
from fathomlab.analysis.pairing import emulated_mistakes, placebo_of
from fathomlab.base.labels import count


def mixture_notes(arms: Sequence[Arm]) -> list[str]:
    """A sentence for each level whose mean mixes controls with other conditions; empty if none does."""
    texts: list[str] = []
    for arm in arms:
        placebos = sum(bool(placebo_of(item)) for item in arm.conditions)
        mistakes = sum(bool(emulated_mistakes(item)) for item in arm.conditions)
        controls = sum(bool(placebo_of(item) or emulated_mistakes(item)) for item in arm.conditions)
        if 0 < controls < len(arm.conditions):
            kinds = [
                text
                for number, text in ((placebos, count(placebos, "placebo")), (mistakes, count(mistakes, "mistake")))
                if number
            ]
            texts.append(
                f"The mean for {arm.phrase} is over {len(arm.conditions)} conditions, including {' and '.join(kinds)}. "
                "Select one of them with `at`."
            )
    return texts
