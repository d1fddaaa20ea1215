"""TensorBoard event files: one run per trial in TENSORBOARD/EXPERIMENT, written while training or from the store.

The files are written by the `tensorboard` package; neither torch nor TensorFlow is needed. TensorBoard stores float32.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from fathomlab.base.labels import flatten_keys, format_level
from fathomlab.base.libraries import library
from fathomlab.base.output import encodable
from fathomlab.execute.events import EpochDone, Event, Failed, Finished, Measured, Started

if TYPE_CHECKING:
    from fathomlab.analysis.study import Study
    from fathomlab.export.tracking import RunInfo, TrialInfo

FILE = "events.out.tfevents.fathomlab"
CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
NOT_OPTIONS = ("format", "seed", "parents", "plugins")
UNSAFE = re.compile(r"[^\w=.,+() -]+")  # in the name of a directory, on any system
MAX_NAME = 100
LOGGED = b"fathomlab: outcome"  # in the last event of a trial with an outcome
PROTO = "tensorboard.compat.proto"
HPARAMS = "tensorboard.plugins.hparams"


@dataclass
class _Run:
    """The event file of one trial.

    Attributes:
        started: When training started (s since 1970).
        epoch: The last epoch.
        gradients: Measured after the current epoch, whose time is not known yet.
    """

    trial: "TrialInfo"
    path: Path
    started: float
    epoch: int = 0
    gradients: dict[str, float | None] = field(default_factory=dict)

    def start(self) -> None:
        """Begin the file. All events of a trial are sent again after an interruption, so nothing is written twice."""
        header = library(f"{PROTO}.event_pb2").Event(wall_time=self.started, file_version="brain.Event:2")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(_records([header, _session_start(self.started, self.trial)]))

    def append(self, *events: Any) -> None:
        """Add events in one write, so that a reader never waits for the rest of one."""
        size = self.path.stat().st_size
        try:
            with open(self.path, "ab") as file:
                file.write(_records(events))
        except OSError:
            with contextlib.suppress(OSError):  # an incomplete event would hide all later ones
                os.truncate(self.path, size)
            raise

    def log(self, event: EpochDone | Measured | Finished | Failed) -> None:
        """Write an event of the trial."""
        match event:
            case EpochDone():
                values = {**dict.fromkeys(CURVES), **event.metrics, "lr": event.lr, **self.gradients}
                self.epoch, self.gradients = event.epoch, {}
                self.append(*_scalars(event.epoch, self.started + event.seconds, values))
            case Measured(epoch=0):
                self.append(*_scalars(0, self.started, _gradients(event)))
            case Measured():
                self.gradients = _gradients(event)
            case Finished():
                end = self.started + event.seconds
                tests = {name: value for name, value in event.metrics.items() if "test/" in name}
                self.append(
                    *_scalars(self.epoch, end, tests), _session_end(end, event.status == "finished"), _outcome(end)
                )
            case Failed():
                self.append(_session_end(self.started + event.seconds, finished=False))


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
        self.info: RunInfo | None = None
        self._trials: dict[str, TrialInfo] = {}
        self._runs: dict[str, _Run] = {}

    def logged(self, info: "RunInfo", trial: str) -> bool:
        """Whether the file of a trial ends with its outcome."""
        path = self.path(info, next(item for item in info.trials if item.trial == trial))
        try:
            return LOGGED in path.read_bytes()[-4 * len(LOGGED) :]
        except OSError:
            return False

    def path(self, info: "RunInfo", trial: "TrialInfo") -> Path:
        """The event file of a trial."""
        return (self.folder or Path(info.root) / "tensorboard") / info.experiment / run_name(trial) / FILE

    def open(self, info: "RunInfo") -> str:
        """Take the trials; returns where to see them.

        Raises:
            ImportError: If TensorBoard is not installed.
        """
        library(f"{PROTO}.event_pb2")
        self.info = info
        self._trials |= {trial.trial: trial for trial in info.trials}
        folder = self.folder or Path(info.root) / "tensorboard"
        return f"TensorBoard: {folder / info.experiment}; show: tensorboard --logdir {folder}"

    def handle(self, event: Event) -> None:
        """Write an event.

        Raises:
            OSError: If writing fails.
        """
        match event:
            case Started():
                for trial in event.trials:
                    self._start(trial, event.time)
            case EpochDone() | Measured() | Finished() | Failed() if event.trial in self._runs:
                self._runs[event.trial].log(event)
            case _:
                pass

    def close(self, timeout_seconds: float) -> None:
        """Nothing is left to write: each event is in its file when `handle` returns."""

    def _start(self, trial: str, time: float) -> None:
        if self.info is not None and trial in self._trials:
            info = self._trials[trial]
            self._runs[trial] = _Run(info, self.path(self.info, info), time)
            self._runs[trial].start()


@final
@dataclass(frozen=True)
class TensorBoard:
    """TensorBoard event files in RUNS/tensorboard, or in another directory. Files of an earlier export or run are replaced.

    Trials that are being trained are left to the tracker of that run.

    Attributes:
        gradients: Whether gradient norms are written; as `logging.log_gradients` of the file by default.
    """

    gradients: bool | None = None

    extra: ClassVar[str] = "tensorboard"
    subject: ClassVar[Literal["experiment"]] = "experiment"

    def export(self, study: "Study", target: Path | None) -> tuple[Path, ...]:
        """Write a file per trial and return the directory of the experiment; raises as `Exporter.export` does."""
        from fathomlab.export.replay import run_info, trial_events

        records = {record.trial: record for _, _, record in study.trials if record.content}
        info = run_info(study.experiment, {trial: record.content for trial, record in records.items()})
        gradients = info.log_gradients if self.gradients is None else self.gradients
        tracker = TensorBoardTracker(target)
        print(tracker.open(info), file=sys.stderr)
        ended = [trial for trial in info.trials if records[trial.trial].status not in ("running", "damaged")]
        for trial in ended:
            for event in trial_events(records[trial.trial], gradients):
                tracker.handle(event)
        return tuple({tracker.path(info, trial).parents[1]: None for trial in ended})


def run_name(trial: "TrialInfo") -> str:
    """Name of a trial's directory: condition and seed in words, and the first digits of the hash, which make it unique."""
    return f"{UNSAFE.sub('_', trial.name)[:MAX_NAME].strip(' .')} {trial.trial[:8]}".strip()


def _gradients(event: Measured) -> dict[str, float | None]:
    return {encodable(f"gradients/{layer}", "utf-8"): norm for layer, norm in event.gradients.items()}


def _scalars(epoch: int, time: float, values: Mapping[str, float | None]) -> list[Any]:
    """One event per number; None is left out."""
    event, summary = library(f"{PROTO}.event_pb2").Event, library(f"{PROTO}.summary_pb2").Summary
    return [
        event(wall_time=time, step=epoch, summary=summary(value=[summary.Value(tag=tag, simple_value=value)]))
        for tag, value in values.items()
        if value is not None
    ]


def _session_start(time: float, trial: "TrialInfo") -> Any:
    """The options of a trial for the HParams dashboard. Lists and components are text; null is left out."""
    config = flatten_keys({key: value for key, value in trial.config.items() if key not in NOT_OPTIONS})
    options = {"condition": trial.condition, "role": trial.role, "seed": trial.seed} | config
    plain = {
        encodable(key, "utf-8"): value
        if isinstance(value, bool | int | float)
        else encodable(format_level(value), "utf-8")
        for key, value in options.items()
        if value is not None
    }
    summary = library(f"{HPARAMS}.summary_v2").hparams_pb(plain, trial.trial, time)
    return library(f"{PROTO}.event_pb2").Event(wall_time=time, summary=summary)


def _session_end(time: float, finished: bool) -> Any:
    """The end of a trial for the HParams dashboard."""
    data, metadata = library(f"{HPARAMS}.plugin_data_pb2"), library(f"{HPARAMS}.metadata")
    summary = library(f"{PROTO}.summary_pb2").Summary
    status = library(f"{HPARAMS}.api_pb2").Status.Value("STATUS_SUCCESS" if finished else "STATUS_FAILURE")
    content = data.HParamsPluginData(session_end_info=data.SessionEndInfo(status=status, end_time_secs=time))
    value = summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(content),
        tensor=metadata.NULL_TENSOR,
    )
    return library(f"{PROTO}.event_pb2").Event(wall_time=time, summary=summary(value=[value]))


def _outcome(time: float) -> Any:
    """A message that TensorBoard ignores. It says that everything of the trial is in the file."""
    events = library(f"{PROTO}.event_pb2")
    return events.Event(wall_time=time, log_message=events.LogMessage(message=LOGGED.decode()))


def _records(events: Iterable[Any]) -> bytes:
    buffer = io.BytesIO()
    writer = library("tensorboard.summary.writer.record_writer").RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString())
    return buffer.getvalue()
