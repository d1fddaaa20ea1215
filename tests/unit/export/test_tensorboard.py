"""TensorBoard's own reader reads what was sent, while it is written and after interruptions."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fathomlab.execute.events import EpochDone, Failed, Finished, Measured, Note, Started
from fathomlab.export.tensorboard import FILE, TensorBoardTracker, run_name
from fathomlab.export.tracking import RunInfo, TrialInfo

accumulator: Any = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="tensorboard is not installed (make setup-extras)",
)
HASHES = ("a" * 64, "b" * 64)
CONFIG = {"format": 3, "seed": 3, "training": {"lr": 0.1, "loss": None}, "model": {"layers": [1, 2], "residual": True}}
TRIALS = tuple(
    TrialInfo(trial, f"residual=true, seed {seed}", "residual=true", "supervised", seed, CONFIG, 3)
    for seed, trial in enumerate(HASHES)
)
START = 1_700_000_000.0


def info(root: Path) -> RunInfo:
    """Two trials of an experiment."""
    return RunInfo("tiny-1", "LAB", root, (), True, TRIALS)


def events(trial: str, epochs: int = 3, start: float = START) -> list[Any]:
    """Everything about one trial until an epoch."""
    sent: list[Any] = [Started((trial,), 3, start), Measured(trial, 0, {"input": 1.0, "output": None})]
    for epoch in range(1, epochs + 1):
        metrics = {name: epoch / 7 for name in ("train/loss", "train/accuracy", "val/accuracy")}
        sent += [Measured(trial, epoch, {"input": 1 / epoch, "output": 2.0})]
        sent += [
            EpochDone(
                trial, epoch, {**metrics, "val/loss": None, "distillation/soft_share": 1.0}, 0.1 / epoch, 1.5 * epoch
            )
        ]
    tests = {"test/accuracy": 0.9, "best/test/accuracy": 0.95, "best/epoch": 2, "test/loss": None}
    return sent + [Finished(trial, "finished", None, 5.0, tests)] * (epochs == 3)


def f32(value: float) -> float:
    """The nearest float32."""
    return struct.unpack("f", struct.pack("f", value))[0]


def read(folder: Path) -> Any:
    """A reader of one run."""
    reader = accumulator.EventAccumulator(str(folder))
    return reader.Reload()


def points(reader: Any) -> dict[str, list[tuple[int, float, float]]]:
    """Step, wall time, and value of every scalar."""
    return {
        tag: [(item.step, item.wall_time, item.value) for item in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def expected(epochs: int = 3, start: float = START) -> dict[str, list[tuple[int, float, float]]]:
    """The points of `events`."""
    steps = range(1, epochs + 1)
    times = {epoch: start + 1.5 * epoch for epoch in steps}
    values = {
        name: [(epoch, times[epoch], f32(epoch / 7)) for epoch in steps]
        for name in ("train/loss", "train/accuracy", "val/accuracy")
    }
    values["distillation/soft_share"] = [(epoch, times[epoch], 1.0) for epoch in steps]
    values["lr"] = [(epoch, times[epoch], f32(0.1 / epoch)) for epoch in steps]
    values["gradients/input"] = [(0, start, 1.0), *((epoch, times[epoch], f32(1 / epoch)) for epoch in steps)]
    values["gradients/output"] = [(epoch, times[epoch], 2.0) for epoch in steps]
    if epochs == 3:
        values["test/accuracy"] = [(3, start + 5, f32(0.9))]
        values["best/test/accuracy"] = [(3, start + 5, f32(0.95))]
    return values


def folder(root: Path, index: int = 0) -> Path:
    """The run of a trial."""
    return root / "tensorboard" / "tiny-1" / run_name(TRIALS[index])


def send(tracker: TensorBoardTracker, sent: list[Any]) -> None:
    """Handle events."""
    for event in sent:
        tracker.handle(event)


def test_names_steps_times_and_values(tmp_path: Path):
    tracker = TensorBoardTracker()
    assert str(tmp_path / "tensorboard" / "tiny-1") in tracker.open(info(tmp_path))
    both = [events(trial) for trial in HASHES]
    send(tracker, [event for pair in zip(*both, strict=True) for event in pair])
    tracker.close(1.0)
    assert sorted(path.name for path in folder(tmp_path).parent.iterdir()) == [
        "residual=true, seed 0 aaaaaaaa",
        "residual=true, seed 1 bbbbbbbb",
    ]
    for index in (0, 1):
        assert points(read(folder(tmp_path, index))) == expected()


def test_hyperparameters_and_end(tmp_path: Path):
    """As the HParams dashboard reads them. A trial that diverged has an outcome, but no success."""
    metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    tracker = TensorBoardTracker()
    tracker.open(info(tmp_path))
    send(tracker, events(HASHES[0]))
    send(tracker, [*events(HASHES[1], 1), Finished(HASHES[1], "diverged", "loss", 2.0, {})])
    sessions = []
    for index in (0, 1):
        content = read(folder(tmp_path, index)).summary_metadata
        start = metadata.parse_session_start_info_plugin_data(
            content[metadata.SESSION_START_INFO_TAG].plugin_data.content
        )
        end = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG].plugin_data.content)
        sessions.append((start.group_name, start.start_time_secs, end.status, end.end_time_secs))
        values = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
        assert values == {
            "condition": "residual=true",
            "role": "supervised",
            "seed": index,
            "training.lr": 0.1,
            "model.layers": "1-2",
            "model.residual": True,
        }
    assert sessions == [(HASHES[0], START, 1, START + 5), (HASHES[1], START, 2, START + 2)]


def test_points_can_be_read_while_training(tmp_path: Path):
    """After each event, by a reader that is already open."""
    tracker = TensorBoardTracker()
    tracker.open(info(tmp_path))
    first, *others = events(HASHES[0])
    tracker.handle(first)
    reader = read(folder(tmp_path))
    for event in others:
        tracker.handle(event)
        reader.Reload()
        if isinstance(event, EpochDone):
            before = {name: found for name, found in expected(event.epoch).items() if "test/" not in name}
            assert points(reader) == before
    assert points(reader) == expected()


@pytest.mark.parametrize("torn", [0, 5])
def test_resumed_trial_has_each_point_once(tmp_path: Path, torn: int):
    """The events come again from the start, also into a file whose writer was killed. A reader that saw them is not confused."""
    tracker = TensorBoardTracker()
    tracker.open(info(tmp_path))
    send(tracker, events(HASHES[0], 2))
    reader = read(folder(tmp_path))
    file = folder(tmp_path) / FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size - torn])
    again = TensorBoardTracker()
    assert not again.logged(info(tmp_path), HASHES[0])
    again.open(info(tmp_path))
    send(again, events(HASHES[0], start=START + 100))
    assert points(read(folder(tmp_path))) == expected(start=START + 100)
    reader.Reload()
    assert {name: [step for step, *_ in found] for name, found in points(reader).items()} == {
        name: [step for step, *_ in found] for name, found in expected().items()
    }
    assert again.logged(info(tmp_path), HASHES[0])


def test_failed_trial_is_logged_again(tmp_path: Path):
    tracker = TensorBoardTracker()
    tracker.open(info(tmp_path))
    send(tracker, [*events(HASHES[0], 1), Failed(trial=HASHES[0], cause="disk", seconds=2.0), Note("a note")])
    assert not tracker.logged(info(tmp_path), HASHES[0])
    assert points(read(folder(tmp_path))) == expected(1)


def test_events_of_other_trials_are_ignored(tmp_path: Path):
    tracker = TensorBoardTracker()
    tracker.open(replace(info(tmp_path), trials=TRIALS[:1]))
    send(tracker, [*events(HASHES[1]), *events(HASHES[0])[1:]])
    assert not (tmp_path / "tensorboard").exists()
    tracker.open(info(tmp_path))  # seeds are added
    send(tracker, events(HASHES[1]))
    assert points(read(folder(tmp_path, 1))) == expected()


def test_full_disk_leaves_whole_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What could not be written is missing; what came before and what comes later can be read."""
    tracker = TensorBoardTracker()
    tracker.open(info(tmp_path))
    sent = events(HASHES[0])
    send(tracker, sent[:2])
    size = (folder(tmp_path) / FILE).stat().st_size
    real = open

    class Full:
        """Writes half of the bytes."""

        def __init__(self, file: Any):
            self.file = file

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.open", lambda *args, **options: Full(real(*args, **options)))
    with pytest.raises(OSError, match="space"):
        send(tracker, sent[2:4])
    monkeypatch.undo()
    assert (folder(tmp_path) / FILE).stat().st_size == size
    send(tracker, sent[4:])
    lr = expected()["lr"][1:]
    assert points(read(folder(tmp_path)))["lr"] == lr


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "", "layers=[1, 2], seed 3", "x" * 300, "a\0b\n"])
def test_names_of_runs_stay_inside(tmp_path: Path, name: str):
    tracker = TensorBoardTracker()
    trials = (replace(TRIALS[0], name=name),)
    tracker.open(replace(info(tmp_path), trials=trials))
    send(tracker, events(HASHES[0]))
    (path,) = tmp_path.rglob(FILE)
    assert path.parents[2] == tmp_path / "tensorboard"
    assert path.parent.name.endswith("aaaaaaaa")
