"""Steps at which a probe measures: the entries of `at`. Does not import torch."""

from collections.abc import Sequence

from fathomlab.base.errors import Issue, did_you_mean, format_value

TRIGGERS = ("init", "epochs", "end", "log")
DEFAULT: tuple[str | int, ...] = ("init", 1, "epochs")


def snapshot_steps(at: Sequence[str | int], steps_per_epoch: int, epochs: int) -> frozenset[int]:
    """Return the steps after which a probe measures. Step 0 is before the first step; steps after the last are dropped.

    Args:
        at: `init` (0), `epochs` (the end of each epoch), `end` (the last step), `log` (1, 2, 4, 8, ...), or step numbers.
        steps_per_epoch: Optimizer steps per epoch.
        epochs: Epochs of the trial.

    Example:
        >>> sorted(snapshot_steps(["init", "log", "end"], 10, 2))
        [0, 1, 2, 4, 8, 16, 20]
    """
    total = steps_per_epoch * epochs
    triggers: dict[str | int, Sequence[int]] = {
        "init": (0,),
        "epochs": range(steps_per_epoch, total + 1, steps_per_epoch),
        "end": (total,),
        "log": [2**power for power in range(total.bit_length())],
    }
    steps = [step for entry in at for step in (triggers[entry] if isinstance(entry, str) else (entry,))]
    return frozenset(step for step in steps if step <= total)


def validate_schedule(at: Sequence[object]) -> list[Issue]:
    """Return the problems of the entries of `at`, each with its key, such as `at[1]`."""
    if not at:
        return [Issue("invalid-schedule", "at", f"must have at least one entry, got []. {_allowed()}")]
    messages = ((f"at[{index}]", _entry_problem(entry)) for index, entry in enumerate(at))
    return [Issue("invalid-schedule", key, message) for key, message in messages if message]


def _entry_problem(entry: object) -> str:
    if isinstance(entry, str):
        if entry in TRIGGERS:
            return ""
        return f"unknown schedule entry {format_value(entry)}.{did_you_mean(entry, TRIGGERS) or ' ' + _allowed()}"
    if isinstance(entry, bool) or not isinstance(entry, int):
        return f"must be a schedule entry or a step number, got {format_value(entry)}. {_allowed()}"
    return "" if entry >= 0 else f"a step must be >= 0, got {format_value(entry)}"


def _allowed() -> str:
    return "Allowed: init, epochs, end, log (steps 1, 2, 4, 8, ...), or step numbers."
