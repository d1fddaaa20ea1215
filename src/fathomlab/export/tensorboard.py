"""TensorBoard event files: one run per trial in TENSORBOARD/EXPERIMENT, written while training or from the store.

The files are written by the `tensorboard` package; neither torch nor TensorFlow is needed. TensorBoard stores float32.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.base.labels import flatten_keys, format_level
from fathomlab.execute.events import EpochDone, Event, Failed, Finished, Measured, Started

if TYPE_CHECKING:
    from tensorboard.compat.proto import event_pb2

    from fathomlab.export.tracking import RunInfo, TrialInfo

FILE = "events.out.tfevents.fathomlab"
CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
NOT_OPTIONS = ("format", "seed", "parents", "plugins")
UNSAFE = re.compile(r"[^\w=.,+() -]+")  # in the name of a directory, on any system
MAX_NAME = 100


@final
class TensorBoardTracker:
    """Writes an event file per trial below `folder`, which is RUNS/tensorboard by default.

    Every write appends to what was there or repeats it at the same place. A TensorBoard that reads at the same time, or that has
    read an earlier attempt of the trial, therefore shows each point once.
    """

    extra: ClassVar[str] = "tensorboard"

    def __init__(self, folder: Path | None = None):
        """Write nothing yet."""
        self.folder = folder
        self.written: dict[str, Path] = {}
        self._trials: dict[str, TrialInfo] = {}
        self._started: dict[str, float] = {}
        self._epochs: dict[str, int] = {}
        self._gradients: dict[str, dict[str, float | None]] = {}

    def open(self, info: "RunInfo") -> None:
        """Take the names of the trials.

        Raises:
            ImportError: If TensorBoard is not installed.
        """
        import tensorboard.compat.proto.event_pb2  # noqa: F401

        self.folder = self.folder or Path(info.root) / "tensorboard"
        for trial in info.trials:
            self._trials[trial.trial] = trial
            self.written[trial.trial] = self.folder / info.experiment / run_name(trial) / FILE

    def handle(self, event: Event) -> None:
        """Write an event.

        Raises:
            OSError: If writing fails.
        """
        match event:
            case Started():
                for trial in event.trials:
                    self._start(trial, event.time)
            case EpochDone():
                values = {name: event.metrics.get(name) for name in CURVES} | {"lr": event.lr}
                values |= self._gradients.pop(event.trial, {})
                self._epochs[event.trial] = event.epoch
                self._append(event.trial, _scalars(event.epoch, self._time(event.trial, event.seconds), values))
            case Measured():
                gradients = {f"gradients/{layer}": norm for layer, norm in event.gradients.items()}
                if event.epoch == 0:
                    self._append(event.trial, _scalars(0, self._time(event.trial, 0.0), gradients))
                else:  # the end of the epoch says when it was measured
                    self._gradients[event.trial] = gradients
            case Finished():
                tests = {name: value for name, value in event.metrics.items() if "test/" in name}
                end = self._time(event.trial, event.seconds)
                scalars = _scalars(self._epochs.get(event.trial, 0), end, tests)
                self._append(event.trial, [*scalars, _session_end(end, event.status == "finished")])
            case Failed():
                end = self._time(event.trial, event.seconds)
                self._append(event.trial, [_session_end(end, finished=False)])
            case _:
                pass

    def close(self, timeout_seconds: float) -> None:
        """Nothing is left to write: each event is in its file when `handle` returns."""

    def _start(self, trial: str, started: float) -> None:
        """Begin the file of a trial. Its events are all sent again after an interruption, so nothing is written twice."""
        from tensorboard.compat.proto.event_pb2 import Event

        info = self._trials[trial]
        self._started[trial] = started
        header = Event(wall_time=started, file_version="brain.Event:2")
        self.written[trial].parent.mkdir(parents=True, exist_ok=True)
        self.written[trial].write_bytes(_records([header, _session_start(started, info)]))

    def _append(self, trial: str, events: "Iterable[event_pb2.Event]") -> None:
        """Add events in one write, so that a reader never waits for the rest of one."""
        if trial not in self._started:
            return
        path, size = self.written[trial], self.written[trial].stat().st_size
        try:
            with open(path, "ab") as file:
                file.write(_records(events))
        except OSError:
            with contextlib.suppress(OSError):  # an incomplete event would hide all later ones
                os.truncate(path, size)
            raise

    def _time(self, trial: str, seconds: float) -> float:
        return self._started.get(trial, 0.0) + seconds


def run_name(trial: "TrialInfo") -> str:
    """Name of a trial's directory: condition and seed in words, and the first digits of the hash, which make it unique."""
    return f"{UNSAFE.sub('_', trial.name)[:MAX_NAME].strip(' .')} {trial.trial[:8]}".strip()


def _scalars(epoch: int, wall_time: float, values: Mapping[str, Any]) -> "list[event_pb2.Event]":
    """One event per number; None is left out."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return [
        Event(wall_time=wall_time, step=epoch, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))
        for tag, value in values.items()
        if value is not None
    ]


def _session_start(wall_time: float, trial: "TrialInfo") -> "event_pb2.Event":
    """The options of a trial for the HParams dashboard. Lists and components are text; null is left out."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    config = flatten_keys({key: value for key, value in trial.config.items() if key not in NOT_OPTIONS})
    options = {"condition": trial.condition, "role": trial.role, "seed": trial.seed} | config
    plain = {
        key: value if isinstance(value, bool | int | float | str) else format_level(value)
        for key, value in options.items()
        if value is not None
    }
    return Event(wall_time=wall_time, summary=hparams_pb(plain, trial.trial, wall_time))


def _session_end(wall_time: float, finished: bool) -> "event_pb2.Event":
    """The end of a trial for the HParams dashboard."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    status = Status.Value("STATUS_SUCCESS" if finished else "STATUS_FAILURE")
    data = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=wall_time))
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
    return Event(wall_time=wall_time, summary=Summary(value=[value]))


def _records(events: "Iterable[event_pb2.Event]") -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer: Any = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return buffer.getvalue()
