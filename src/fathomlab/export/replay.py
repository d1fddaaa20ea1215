"""What the store has of an experiment as a tracker gets it live: one description, and the events of each trial in order."""

import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from fathomlab.base.codec import JsonObject
from fathomlab.execute.events import EpochDone, Event, Failed, Finished, Measured, Started
from fathomlab.export.tracking import RunInfo, TrialInfo
from fathomlab.store.records import ExperimentRecord, TrialRecord

DEFAULT_PROJECT = "fathomlab"
ENDED = ("finished", "diverged", "failed")


def run_info(record: ExperimentRecord, contents: Mapping[str, JsonObject], project: str = "") -> RunInfo:
    """Describe an experiment.

    Args:
        record: The experiment.
        contents: Hash of each trial to its resolved options; trials that are not in it are left out.
        project: The project, instead of the one in the file.
    """
    trials: dict[str, TrialInfo] = {}
    for condition in record.conditions:
        for pair in condition.trials:
            if pair.trial in contents and pair.trial not in trials:
                config = contents[pair.trial]
                name = f"{condition.label} seed={pair.seed}".strip()
                epochs = int(config["training"]["epochs"])
                trials[pair.trial] = TrialInfo(
                    pair.trial, name, condition.label, condition.role, pair.seed, config, epochs
                )
    return RunInfo(
        experiment=record.name,
        project=project or str(record.logging.get("project_name") or DEFAULT_PROJECT),
        root=Path(os.path.abspath(record.folder.parents[1])),
        tags=record.tags,
        log_gradients=record.logging.get("log_gradients") is True,
        trials=tuple(trials.values()),
    )


def trial_events(record: TrialRecord, log_gradients: bool) -> Iterator[Event]:
    """The events of a trial as far as it was trained; without the last one if it has not ended."""
    trial, curves = record.trial, record.curves
    epochs = [int(epoch or 0) for epoch in curves.get("epoch", ())]
    seconds = [float(value or 0.0) for value in curves.get("seconds", [0.0] * len(epochs))]
    steps = [int(step or 0) for step in curves.get("step", ())]
    norms = _gradient_norms(record, {0, *steps}) if log_gradients else {}
    yield Started((trial,), int(record.content["training"]["epochs"]), _start(record, steps, seconds))
    if 0 in norms:
        yield Measured(trial, 0, norms[0])
    for row, epoch in enumerate(epochs):
        if epoch in norms:
            yield Measured(trial, epoch, norms[epoch])
        metrics = {name: values[row] for name, values in curves.items() if "/" in name}
        lr = curves["lr"][row] if "lr" in curves else None
        yield EpochDone(trial, epoch, metrics, lr, seconds[row])
    total = float(record.seconds or 0.0)
    if record.status == "failed":
        yield Failed(trial, cause=record.cause or "", seconds=total)
    elif record.status == "finished" or record.status == "diverged":
        yield Finished(trial, record.status, record.cause, total, record.metrics, record.parameters)


def _gradient_norms(record: TrialRecord, steps: set[int]) -> dict[int, dict[str, float | None]]:
    """Epoch to the norm of each layer, of the snapshots at initialization and at the ends of epochs."""
    return {
        snapshot.epoch: dict(zip(snapshot.names["layer"], snapshot.columns["weight"], strict=True))
        for snapshot in record.probes.get("gradients", ())
        if snapshot.step in steps
    }


def _start(record: TrialRecord, steps: list[int], seconds: list[float]) -> float:
    """As `Started.time`: the last start, less the training time before it."""
    provenance = record.provenance
    try:
        start = datetime.fromisoformat(provenance.started or "").timestamp()
    except ValueError:
        return 0.0
    resumed = provenance.resumed[-1].step if provenance.resumed else 0
    return start - max((time for step, time in zip(steps, seconds, strict=True) if step <= resumed), default=0.0)
