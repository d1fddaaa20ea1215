"""Events as JSON: what workers send is read back, and what other programs read keeps its keys."""

import json

import pytest

from fathomlab.base.codec import from_json, to_plain
from fathomlab.execute.events import (
    Died,
    Effect,
    EpochDone,
    Event,
    Failed,
    Finished,
    FleetChanged,
    Idle,
    Measured,
    Note,
    Planned,
    Ready,
    Refused,
    Requeued,
    Saved,
    Started,
    Stopped,
    Warned,
    to_document,
)

CASES: list[tuple[Event, list[str]]] = [
    (
        Planned(2, 1, 1, 1, {"a": 1.5}, {"a": "x=1"}),
        ["trials", "cached", "packs", "workers", "work", "labels", "measured"],
    ),
    (Note("text"), ["text"]),
    (Warned("text"), ["text"]),
    (Started(("a", "b"), 3), ["trials", "epochs", "time"]),
    (Started(("a", "b"), 3, 1.5, "node-1", "0a"), ["trials", "epochs", "time", "node"]),
    (Saved(("a",), 7), ["trials", "step"]),
    (Refused("process 1 on host", ""), ["cause", "lease"]),
    (FleetChanged(2, 4, 3, 1, 0, 1), ["nodes", "workers", "running", "waiting", "retried", "lost", "refused"]),
    (Requeued(("a", "b")), ["trials"]),
    (
        EpochDone("a", 1, {"val/accuracy": 0.5, "val/loss": None}, 0.1, 2.5),
        ["trial", "epoch", "lr", "seconds", "val/accuracy", "val/loss"],
    ),
    (Measured("a", 1, {"input": 0.5, "output": None}), ["trial", "epoch", "gradients"]),
    (
        Finished("a", "diverged", "not finite", 1.5, {"best/epoch": 1, "test/loss": None}),
        ["trial", "status", "cause", "seconds", "metrics", "parameters"],
    ),
    (Failed("a", "error"), ["trial", "status", "cause", "seconds"]),
    (Effect("a", 0.25, 0.0, 0.5, 3, "text"), ["claim", "effect", "low", "high", "n", "text"]),
    (Ready(), []),
    (Idle(), []),
    (Stopped(), []),
    (Died("Worker exited with status 1", "\n    last line", True), ["cause", "output", "out_of_memory", "lost"]),
]


@pytest.mark.parametrize(("event", "keys"), CASES, ids=lambda value: type(value).__name__)
def test_events_round_trip(event: Event, keys: list[str]):
    value = from_json(Event, json.dumps(to_plain(event)))  # type: ignore[arg-type]
    assert value == event
    assert type(value) is type(event)
    assert list(to_document(event)) == ["event", *keys]


def test_every_event_is_tested():
    assert {type(event) for event, _ in CASES} == set(Event.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ['{"event": "idle"', '{"event": "party"}', '{"event": "note", "text": 1}'])
def test_other_json_is_rejected(text: str):
    with pytest.raises(ValueError, match="validation error"):
        from_json(Event, text)  # type: ignore[arg-type]
