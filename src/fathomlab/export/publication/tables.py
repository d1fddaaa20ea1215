"""The tables of a publication, from a study: `experiment.json` with its record, and `trials.csv` with a row per trial."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fathomlab.analysis.looks import LookHistory
from fathomlab.analysis.recorded import Column, by_key
from fathomlab.analysis.study import Study
from fathomlab.base.codec import JsonObject, to_plain
from fathomlab.base.labels import format_level
from fathomlab.report.slopes import TIMES, trial_slopes
from fathomlab.store.provenance import PackSlot, Provenance
from fathomlab.store.records import ExperimentRecord, Number, TrialRecord

FORMAT = 1
EXPERIMENT, TRIALS, FILE = "experiment.json", "trials.csv", "experiment.yaml"
LIKENESS = ("agreement", "teacher_kl", "softened_kl")  # of a student and its teacher
RARE = ("best/epoch", "best/val/accuracy", "best/test/loss")  # left out unless the file names them
COMMIT_DIGITS = 12
SLOPE = "slope/"  # in front of the columns of gradient slopes
NULL = "null"  # a number that was not finite; an empty cell is one that does not exist
LEFT_OUT = ("folder", "cause", "outdated", "yaml", "logging", "tags", "runs", "seal")  # of the record
INTEGERS = ("parameters", "epochs", "steps")


@dataclass(frozen=True)
class Document:
    """The content of `experiment.json`.

    Attributes:
        file: How commands name the experiment file: a bundled one, or its path from the directory of the page.
        experiment: The record; its conditions have no trials, and its file is `experiment.yaml`.
        history: Analyses of the same question with other numbers of seeds.
        options: Section of a trial's options to its values, with a row per row of `trials.csv`.
        facts: The same for the provenance and the dataset.
    """

    format: int
    file: str
    experiment: ExperimentRecord
    history: LookHistory = field(default_factory=LookHistory)
    options: Mapping[str, Column] = field(default_factory=dict[str, Column])
    facts: Mapping[str, Column] = field(default_factory=dict[str, Column])


def document_text(study: Study, file: str) -> str:
    """The text of `experiment.json`, a key per line.

    Args:
        study: The experiment.
        file: How commands name the experiment file.
    """
    conditions = tuple(
        replace(condition.record, label=_text(condition.record.label), trials=()) for condition in study.every
    )
    record = replace(study.experiment, folder=Path(), conditions=conditions)
    trials = [trial for _, _, trial in study.trials]
    document = to_plain(
        Document(
            format=FORMAT,
            file=file,
            experiment=record,
            history=study.looks,
            options=by_key([trial.content for trial in trials]),
            facts=by_key([_facts(trial) for trial in trials]),
        )
    )
    kept = {key: value for key, value in document["experiment"].items() if key not in LEFT_OUT}
    return _text(f"{_lines({**document, 'experiment': kept}, 2)}\n")


def trials_text(study: Study) -> str:
    """The text of `trials.csv`. Numbers have as many digits as they need to be read back exactly."""
    rows = list(_rows(study))
    columns = dict.fromkeys(name for row in rows for name in row)
    target = io.StringIO()
    writer = csv.DictWriter(target, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue()


def _rows(study: Study) -> Iterator[dict[str, object]]:
    """A row per trial: identity, numbers, gradient slopes, and where it was trained."""
    factors = list(dict.fromkeys(key for condition in study.every for key in condition.record.factors))
    metrics = _metrics(study)
    likeness = [name for name in LIKENESS if any(getattr(trial.outcome, name) for _, _, trial in study.trials)]
    slopes = {trial.trial: trial_slopes(trial) for _, _, trial in study.trials}
    times = [when for when in TIMES if any(when in values for values in slopes.values())]
    for condition, seed, trial in study.trials:
        levels = condition.record.factors
        yield {
            "condition": _text(condition.record.label),
            "role": _text(condition.record.role),
            **{_text(key): _text(format_level(levels[key])) if key in levels else "" for key in factors},
            "seed": seed,
            "trial": trial.trial,
            "status": trial.status,
            "cause": _text(trial.cause or ""),
            "parameters": trial.parameters,
            "epochs": _last(trial, "epoch"),
            "steps": _last(trial, "step"),
            "seconds": trial.seconds,
            **{_text(name): _number(trial.metrics[name]) if name in trial.metrics else "" for name in metrics},
            **{name: getattr(trial.outcome, name) for name in likeness},
            "predicted": " ".join(map(str, trial.outcome.predicted or ())),
            **{f"{SLOPE}{when}": slopes[trial.trial].get(when) for when in times},
            **_machine(trial.provenance),
        }


def _metrics(study: Study) -> list[str]:
    """The metrics of the table, in the order of the results."""
    record = study.experiment
    declared = {*(claim.metric for claim in study.claims), *(item.metric for item in record.published)}
    declared |= {record.tune.by} if record.tune else set()
    every = dict.fromkeys(name for _, _, trial in study.trials for name in trial.metrics)
    return [name for name in every if name in declared or name not in RARE]


def _machine(provenance: Provenance) -> dict[str, object]:
    """Where a trial was trained, for readers of the table; the document has all facts."""
    return {
        "torch": _text(provenance.versions.get("torch", "")),
        "backend": _text(provenance.backend.name if provenance.backend else ""),
        "precision": _text(provenance.precision or ""),
        "cpu": _text((provenance.hardware and provenance.hardware.cpu) or ""),
        "commit": _text((provenance.git and provenance.git.commit) or "")[:COMMIT_DIGITS],
    }


def _facts(trial: TrialRecord) -> JsonObject:
    """Provenance without what differs between all trials or names a machine, and the dataset."""
    provenance = trial.provenance
    pack = provenance.pack and PackSlot(provenance.pack.size, 0)
    resumed = tuple(replace(item, members=()) for item in provenance.resumed)
    shared = replace(provenance, started=None, node=None, pack=pack, resumed=resumed)
    return {**shared.to_json(), **({"dataset": to_plain(trial.dataset)} if trial.dataset else {})}


def _last(trial: TrialRecord, curve: str) -> int | None:
    values = [value for value in trial.curves.get(curve, ()) if value is not None]
    return round(values[-1]) if values else None


def _number(value: Number | None) -> Number | str:
    return NULL if value is None else value


def _text(text: str) -> str:
    """A text that every program can read: half of a surrogate pair, which is no character, is replaced.

    The csv module of Python 3.11 does not quote a carriage return.
    """
    return text.encode(errors="replace").decode().replace("\r", " ")


def _lines(value: JsonObject, levels: int) -> str:
    """JSON with a line per key of the first levels, so that changes can be read and the file stays small."""
    if not levels:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    nested = {
        key: _lines(item, levels - 1) if isinstance(item, Mapping) else json.dumps(item, ensure_ascii=False)
        for key, item in value.items()
    }
    return "{\n" + ",\n".join(f"{json.dumps(key, ensure_ascii=False)}: {text}" for key, text in nested.items()) + "\n}"
