"""What the experiment cost: wall time, operations, and trials reused from earlier runs."""

import json
from collections.abc import Mapping
from functools import lru_cache
from statistics import fmean
from typing import Any

from fathomlab.analysis.study import Condition, Study
from fathomlab.base.identity import canonical_json
from fathomlab.data import DATASETS
from fathomlab.plan import sections
from fathomlab.report.loose import at, mapping, number
from fathomlab.report.numbers import count, duration, format_int, plain
from fathomlab.report.tables import Table, table
from fathomlab.report.trials import FAILED_STATUSES, PENDING_STATUSES
from fathomlab.store.records import TrialRecord


def cost_table(study: Study) -> Table:
    """Wall time, outcomes, and operations of each condition."""
    rows: list[list[str]] = []
    for condition in study.conditions:
        times = [trial.seconds for _, trial in condition.trials if trial.seconds is not None]
        epochs = max((len(trial.curves.get("epoch", [])) for _, trial in condition.trials), default=0)
        work = [done for _, trial in condition.trials if (done := operations(trial.content)) is not None]
        kept = sum(reused(study, trial) for _, trial in condition.trials)
        row = [
            condition.name,
            format_int(condition.parameters),
            str(len(condition.trials)),
            str(condition.count("finished")),
        ]
        statuses = (("diverged",), FAILED_STATUSES, PENDING_STATUSES)
        row += [str(condition.count(*group)) for group in statuses]
        row += [str(kept), str(epochs), plain(fmean(times) if times else None, 1)]
        rows.append([*row, plain(sum(times), 1), f"{fmean(work) / 1e12:.3g}" if work else ""])
    columns = ["condition", "parameters", "trials", "finished", "diverged", "failed", "pending", "reused", "epochs"]
    return table("cost", [*columns, "time per trial (s)", "total time (s)", "TFLOP per trial"], rows)


def total_time(study: Study) -> str:
    """Wall time of the experiment, sum over its trials, and number of reused trials, in sentences."""
    times = [trial.seconds for _, _, trial in study.trials if trial.seconds is not None]
    kept = sum(reused(study, trial) for _, _, trial in study.trials)
    summed, total = duration(sum(times)), duration(study.experiment.seconds)
    sentence = f"Wall time {total} ({summed} summed over trials)." if total else f"{summed} summed over trials."
    were = "was" if kept == 1 else "were"
    return f"{sentence} {count(kept, 'trial')} {were} reused from earlier runs." if kept else sentence


def reused(study: Study, trial: TrialRecord) -> bool:
    """Whether the trial started before the experiment was first run."""
    started, created = trial.provenance.started, study.experiment.created
    return bool(started and created) and str(started) < created


def operations(content: Mapping[str, Any]) -> float | None:
    """Floating-point operations of a trial's training: 6 x multiply-accumulates x images x epochs; None if unknown.

    Each multiply-accumulate counts 2 operations forward and 4 backward. Evaluation and forward passes of a teacher are excluded.
    """
    data, epochs = at(content, "data.name"), number(at(content, "training.epochs"))
    macs = _macs(canonical_json(mapping(content.get("model"))), str(data))
    if macs is None or epochs is None:
        return None
    images = number(at(content, "data.limit")) or DATASETS[str(data)].info.train_examples
    held_out = (number(at(content, "data.validation_split")) or 0.0) / 100
    return 6.0 * macs * round(images * (1 - held_out)) * epochs


@lru_cache(maxsize=256)
def _macs(model: str, data: str) -> int | None:
    """Multiply-accumulates per image; None for an unknown model or dataset."""
    network = sections.network(json.loads(model), "model", [], {})
    if network is None or data not in DATASETS:
        return None
    return network.architecture(DATASETS[data].info).macs


def sizes(conditions: list[Condition]) -> list[int]:
    """Distinct numbers of parameters, in ascending order."""
    return sorted({size for condition in conditions if (size := condition.parameters) is not None})
