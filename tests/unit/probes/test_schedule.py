"""When probes measure: every word, step numbers, and what a wrong entry is told."""

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
def test_moments_are_steps(at: list[str | int], expected: set[int]) -> None:
    """Four epochs of five steps."""
    assert snapshot_steps(at, 5, 4) == expected


@pytest.mark.parametrize(("epochs", "expected"), [(1, {1}), (2, {1, 2}), (7, {1, 2, 4}), (8, {1, 2, 4, 8})])
def test_powers_of_two_stop_at_the_last_step(epochs: int, expected: set[int]) -> None:
    """The last step belongs to them where it is a power of two."""
    assert snapshot_steps(["log"], 1, epochs) == expected


@pytest.mark.parametrize(
    ("entry", "words"),
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
def test_a_wrong_entry_is_told_what_is_allowed(entry: object, words: list[str]) -> None:
    """One complaint, with the place of the entry."""
    (problem,) = validate_schedule(["init", entry, 3])
    assert (problem.code, problem.path) == ("invalid-schedule", "at[1]")
    assert all(word in problem.message for word in words), problem.message


def test_right_entries_have_no_complaint_and_none_at_all_has() -> None:
    """All words and numbers; an empty list never measures."""
    assert validate_schedule([*DEFAULT, "log", "end", 0, 8]) == []
    (problem,) = validate_schedule([])
    assert (problem.code, problem.path) == ("invalid-schedule", "at")
