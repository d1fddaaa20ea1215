"""Weights & Biases: one run per trial, in files below RUNS/wandb or on its server."""

import errno
import hashlib
import json
import math
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write, shown_path
from fathomlab.base.libraries import library
from fathomlab.execute.events import EpochDone, Event, Failed, Finished, Measured, Started
from fathomlab.export.replay import ENDED, run_info, trial_events
from fathomlab.export.tracking import RunInfo, TrialInfo

if TYPE_CHECKING:
    from fathomlab.analysis.study import Study

FOLDER = "wandb"
FREE_BYTES = 1_000_000  # below, files may be incomplete: wandb does not report that a disk is full
MARKERS = "logged"  # a file per run that was logged completely, in FOLDER


def run_id(info: RunInfo, trial: str) -> str:
    """The id of a trial's run: the same in every attempt, so that no run appears twice."""
    return hashlib.sha256("\n".join((info.project, info.experiment, trial)).encode()).hexdigest()[:16]


class Wandb:
    """Logs to Weights & Biases: online if the user is logged in, offline otherwise.

    Attributes:
        mode: online, offline, or disabled.
    """

    extra: ClassVar[str] = "wandb"

    def __init__(self) -> None:
        """Nothing is imported before `open`."""
        self.mode = ""
        self._runs: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._gradients: dict[str, dict[str, float]] = {}

    def logged(self, info: RunInfo, trial: str) -> bool:
        """Whether a run has its marker."""
        return _marker(info, trial).exists()

    def open(self, info: RunInfo) -> str:
        """Import wandb and choose the mode, as wandb itself would without asking.

        Raises:
            ImportError: If wandb is not installed.
            OSError: If the directory cannot be written. Otherwise, wandb would write to a temporary one.
        """
        wandb = library("wandb")
        self._info, self._trials = info, {trial.trial: trial for trial in info.trials}
        folder = info.root / FOLDER
        (folder / MARKERS).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if not self.mode:
            mode = wandb.setup(wandb.Settings(silent=True)).settings.mode
            self.mode = {"online": "online", "disabled": "disabled"}.get(mode, "offline")
            if self.mode == "online" and not wandb.login(verify=False, prompt=False):
                self.mode = "offline"
        shown = shown_path(folder)
        where = f"offline in {shown}; upload: wandb sync {shlex.quote(shown)}" if self.mode == "offline" else self.mode
        return f"W&B: project {info.project}, {where}"

    def handle(self, event: Event) -> None:
        """Log an event."""
        match event:
            case Started():
                for trial in event.trials:
                    self._started[trial] = event.time
                    self._runs[trial] = self._start(self._trials[trial])
            case Measured():
                norms = {f"gradients/{layer}": _number(norm) for layer, norm in event.gradients.items()}
                if event.epoch == 0:
                    row = {"epoch": 0, **norms, "_timestamp": self._started[event.trial]}
                    self._runs[event.trial].log(row, step=0)
                else:
                    self._gradients[event.trial] = norms
            case EpochDone():
                row = {"epoch": event.epoch} | {name: _number(value) for name, value in event.metrics.items()}
                row |= {"lr": _number(event.lr), "seconds": event.seconds} | self._gradients.pop(event.trial, {})
                row["_timestamp"] = self._started[event.trial] + event.seconds
                self._runs[event.trial].log(row, step=event.epoch)
            case Finished() | Failed():
                self._end(event)
            case _:
                pass

    def close(self, timeout_seconds: float) -> None:
        """End the runs of trials that were interrupted, and the processes of wandb."""
        if self.mode:
            wandb = library("wandb")
            for run in self._runs.values():
                run.summary["status"] = "interrupted"
                run.finish(exit_code=1)
            wandb.teardown()

    def _start(self, trial: TrialInfo) -> Any:
        wandb = library("wandb")
        identity = run_id(self._info, trial.trial)
        for old in (self._info.root / FOLDER).glob(f"offline-run-*-{identity}"):
            if not list(old.glob("*.synced")):
                shutil.rmtree(old)  # an incomplete attempt, which `wandb sync` would upload in addition
        run = wandb.init(
            id=identity,
            project=self._info.project,
            group=self._info.experiment,
            job_type=trial.role,
            name=trial.name,
            tags=self._info.tags,
            config={**trial.config, "condition": trial.condition, "role": trial.role, "trial": trial.trial},
            dir=self._info.root,
            mode=self.mode,
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )
        run.define_metric("*", step_metric="epoch")
        return run

    def _end(self, event: Finished | Failed) -> None:
        """Write the summary, finish the run, and mark it as logged if the trial will not be trained again."""
        run = self._runs.pop(event.trial)
        metrics = dict(event.metrics) if isinstance(event, Finished) else {}
        run.summary.update({name: _number(value) for name, value in metrics.items()})
        run.summary.update({"status": event.status, "seconds": event.seconds})
        if isinstance(event, Finished):
            run.summary["parameters"] = event.parameters
        if event.cause:
            run.summary["cause"] = event.cause
        run.finish(exit_code=1 if isinstance(event, Failed) else 0)
        if shutil.disk_usage(self._info.root).free < FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._info.root / FOLDER))
        if isinstance(event, Finished) and self.mode != "disabled":
            text = json.dumps({"trial": event.trial, "mode": self.mode, "status": event.status})
            atomic_write(_marker(self._info, event.trial), text)


@final
@dataclass(frozen=True)
class WandbExporter:
    """Runs in Weights & Biases, one per trial; those that were logged before are left out.

    Attributes:
        project: The project; by default that of the file.
    """

    project: str = ""

    extra: ClassVar[str] = "wandb"
    subject: ClassVar[Literal["experiment"]] = "experiment"

    def export(self, study: "Study", target: Path | None) -> tuple[Path, ...]:
        """Log the trials and return the directory of wandb's files; raises as `Exporter.export` does."""
        if target is not None:
            raise UserError("invalid-option", f"wandb: --to is not supported; the files are in RUNS/{FOLDER}.")
        records = {record.trial: record for _, _, record in study.trials if record.status in ENDED}
        contents = {trial: record.content for trial, record in records.items()}
        info, tracker = run_info(study.experiment, contents, self.project), Wandb()
        missing = [record for trial, record in records.items() if not tracker.logged(info, trial)]
        if not missing:
            return ()
        try:
            print(tracker.open(info), file=sys.stderr)
            for record in missing:
                for event in trial_events(record, info.log_gradients):
                    tracker.handle(event)
            tracker.close(0.0)
        except ImportError:
            raise
        except OSError as error:
            text = f"{info.root / FOLDER}: cannot be written: {error.strerror or error}."
            raise UserError("unwritable", text) from None
        except Exception as error:  # wandb has no common class for its errors
            text = f"wandb: {type(error).__name__}: {error}. Run the command again to log the remaining trials."
            raise UserError("tracker-failed", text) from error
        return (info.root / FOLDER,)


def _marker(info: RunInfo, trial: str) -> Path:
    return info.root / FOLDER / MARKERS / f"{run_id(info, trial)}.json"


def _number(value: float | None) -> float:
    """A value that is not finite is stored as None."""
    return math.nan if value is None else value
