"""What the experiment cost: wall time, operations, and which trials an earlier experiment had paid for."""

from collections.abc import Mapping
from functools import lru_cache
from statistics import fmean
from typing import Any

from fathomlab.base.catalogue import check_options
from fathomlab.base.identity import canonical_json
from fathomlab.base.problems import Problem
from fathomlab.data import DATASETS
from fathomlab.models import MODELS, Model
from fathomlab.report.accounts import BROKEN
from fathomlab.report.loose import at, mapping, number
from fathomlab.report.numbers import count, duration, plain, whole
from fathomlab.report.study import Condition, Study
from fathomlab.report.tables import Table, table
from fathomlab.store.records import TrialRecord


def cost_table(study: Study) -> Table:
    """Wall time and operations of each condition."""
    rows: list[list[str]] = []
    for condition in study.conditions:
        times = [trial.seconds for _, trial in condition.trials if trial.seconds is not None]
        epochs = max((len(trial.curves.get("epoch", [])) for _, trial in condition.trials), default=0)
        work = [done for _, trial in condition.trials if (done := operations(trial.content)) is not None]
        kept = sum(reused(study, trial) for _, trial in condition.trials)
        row = [
            condition.name,
            whole(condition.parameters),
            str(len(condition.trials)),
            str(condition.count("finished")),
        ]
        row += [str(kept), str(condition.count(*BROKEN)), str(epochs), plain(fmean(times) if times else None, 1)]
        rows.append([*row, plain(sum(times), 1), f"{fmean(work) / 1e12:.3g}" if work else ""])
    columns = ["condition", "parameters", "trials", "finished", "reused", "failed", "epochs", "seconds a trial"]
    return table("cost", [*columns, "seconds in all", "TFLOP a trial"], rows)


def total_time(study: Study) -> str:
    """The wall time of the experiment, of its trials added up, and how many of them it found done."""
    times = [trial.seconds for _, _, trial in study.trials if trial.seconds is not None]
    kept = sum(reused(study, trial) for _, _, trial in study.trials)
    trials = f"its trials add up to {duration(sum(times))}"
    whole_time = duration(study.experiment.seconds)
    said = f"The experiment took {whole_time}; {trials}." if whole_time else f"{trials[:1].upper()}{trials[1:]}."
    return f"{said} {count(kept, 'trial')} had been trained before it began and {_were(kept)} reused." if kept else said


def reused(study: Study, trial: TrialRecord) -> bool:
    """Whether the trial had been begun before the experiment was first started."""
    started = str(trial.provenance.get("started") or "")
    return bool(started and study.experiment.created) and started < study.experiment.created


def operations(content: Mapping[str, Any]) -> float | None:
    """Floating-point operations of a trial's training: 6 x multiply-accumulates x images x epochs; None where not known.

    Forward 2, backward 4 for each multiply-accumulate; evaluation and a teacher's forward passes are left out.
    """
    data, epochs = at(content, "data.name"), number(at(content, "training.epochs"))
    macs = _macs(canonical_json(mapping(content.get("model"))), str(data))
    if macs is None or epochs is None:
        return None
    images = number(at(content, "data.limit")) or DATASETS[str(data)].facts.train_examples
    held_out = (number(at(content, "data.validation_split")) or 0.0) / 100
    return 6.0 * macs * round(images * (1 - held_out)) * epochs


@lru_cache(maxsize=256)
def _macs(model: str, data: str) -> int | None:
    """Multiply-accumulates of one image; None for a model or data that are not in the tables."""
    import json

    about = json.loads(model)
    part = MODELS.get(str(about.get("type")))
    if part is None or data not in DATASETS:
        return None
    problems: list[Problem] = []
    made = check_options(part, about.get("params"), "", problems)
    facts = DATASETS[data].facts
    return (
        None
        if problems or not isinstance(made, Model)
        else made.build((facts.channels, facts.height, facts.width)).macs
    )


def _were(kept: int) -> str:
    return "was" if kept == 1 else "were"


def sizes(conditions: list[Condition]) -> list[int]:
    """The distinct numbers of parameters, ascending."""
    return sorted({size for condition in conditions if (size := condition.parameters) is not None})
