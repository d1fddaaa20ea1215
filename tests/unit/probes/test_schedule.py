"""Schedules of probes: triggers, step numbers, and messages for invalid entries."""

import pytest

from fathomlab.probes.schedule import DEFAULT, snapshot_steps, validate_schedule


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (["init"], {0}),
        ([0, 3, 3], {0, 3}),
        (["epochs"], {5, 10, 15, 20}),
        (["end"], {20}),
        (["log"], {1, 2, 4, 8, 16}),
        (["log", "end", 7], {1, 2, 4, 7, 8, 16, 20}),
        ([20, 21, 400], {20}),
        (DEFAULT, {0, 1, 5, 10, 15, 20}),
        ([], set()),
    ],
    ids=str,
)
def test_snapshot_steps_returns_steps_of_triggers(at: list[str | int], expected: set[int]) -> None:
    """Four epochs of five steps."""
    assert snapshot_steps(at, 5, 4) == expected


@pytest.mark.parametrize(("epochs", "expected"), [(1, {1}), (2, {1, 2}), (7, {1, 2, 4}), (8, {1, 2, 4, 8})])
def test_log_steps_stop_at_last_step(epochs: int, expected: set[int]) -> None:
    assert snapshot_steps(["log"], 1, epochs) == expected


@pytest.mark.parametrize(
    ("entry", "texts"),
    [
        ("epoch", ["'epoch'", "Did you mean 'epochs'?"]),
        ("sometimes", ["'sometimes'", "Allowed: init, epochs, end, log", "step numbers"]),
        (-1, [">= 0", "-1"]),
        (True, ["true", "Allowed: init"]),
        (1.5, ["1.5", "Allowed: init"]),
        (None, ["null", "Allowed: init"]),
        (["init"], ["['init']", "Allowed: init"]),
    ],
    ids=str,
)
def test_validate_schedule_rejects_invalid_entries(entry: object, texts: list[str]) -> None:
    (issue,) = validate_schedule(["init", entry, 3])
    assert (issue.code, issue.path) == ("invalid-schedule", "at[1]")
    assert all(text in issue.message for text in texts), issue.message


def test_validate_schedule_rejects_only_empty_lists() -> None:
    assert validate_schedule([*DEFAULT, "log", "end", 0, 8]) == []
    (issue,) = validate_schedule([])
    assert (issue.code, issue.path) == ("invalid-schedule", "at")
