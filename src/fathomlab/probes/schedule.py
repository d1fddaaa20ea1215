"""When a probe measures: the words and step numbers of `at`. No torch."""

from collections.abc import Sequence

from fathomlab.base.problems import Problem, shown, suggestion

MOMENTS = ("init", "epochs", "end", "log")
DEFAULT: tuple[str | int, ...] = ("init", 1, "epochs")


def steps(at: Sequence[str | int], steps_per_epoch: int, epochs: int) -> frozenset[int]:
    """The steps after which is measured; 0 is before the first step, and steps beyond the last do not occur.

    Args:
        at: `init` (0), `epochs` (the end of each epoch), `end` (the last step), `log` (1, 2, 4, 8, ...), or step numbers.
        steps_per_epoch: Optimizer steps an epoch.
        epochs: Epochs of the trial.

    Example:
        >>> sorted(steps(["init", "log", "end"], 10, 2))
        [0, 1, 2, 4, 8, 16, 20]
    """
    total = steps_per_epoch * epochs
    moments: dict[str | int, Sequence[int]] = {
        "init": (0,),
        "epochs": range(steps_per_epoch, total + 1, steps_per_epoch),
        "end": (total,),
        "log": [2**power for power in range(total.bit_length())],
    }
    found = [step for moment in at for step in (moments[moment] if isinstance(moment, str) else (moment,))]
    return frozenset(step for step in found if step <= total)


def complaints(at: Sequence[object]) -> list[Problem]:
    """What is wrong with the entries of `at`, each with its key, such as `at[1]`."""
    if not at:
        return [Problem("invalid-schedule", "at", f"must have at least one entry, got []. {_allowed()}")]
    texts = ((f"at[{place}]", _complaint(moment)) for place, moment in enumerate(at))
    return [Problem("invalid-schedule", key, text) for key, text in texts if text]


def _complaint(moment: object) -> str:
    if isinstance(moment, str):
        if moment in MOMENTS:
            return ""
        return f"unknown schedule entry {shown(moment)}.{suggestion(moment, MOMENTS) or ' ' + _allowed()}"
    if isinstance(moment, bool) or not isinstance(moment, int):
        return f"must be a schedule entry or a step number, got {shown(moment)}. {_allowed()}"
    return "" if moment >= 0 else f"a step must be >= 0, got {shown(moment)}"


def _allowed() -> str:
    return "Allowed: init, epochs, end, log (steps 1, 2, 4, 8, ...), or step numbers."
