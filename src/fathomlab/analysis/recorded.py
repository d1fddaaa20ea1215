"""What a report embeds of each trial, so that it can be trained again and compared without the store."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, cast

from fathomlab.analysis.study import Condition, Study
from fathomlab.base.codec import JsonObject, from_plain, to_plain
from fathomlab.plan import parent_hashes
from fathomlab.store.provenance import Provenance
from fathomlab.store.records import TERMINAL_STATUSES, Number, TrialRecord
from fathomlab.store.trial_files import TrialFiles

# What decides the bits of a trial, and what a reader wants to know about the machine.
PROVENANCE = ("versions", "hardware", "environment", "device", "precision", "backend", "data", "resumed", "plugins")
MAX_CONDITIONS = 500  # whose numbers a report embeds
MAX_TRIALS = 1000  # that a report embeds, in complete conditions
MAX_METRIC = 1e300  # far above any metric; sums and squares of larger numbers overflow


@dataclass(frozen=True)
class Column:
    """A property of trials with few distinct values.

    Attributes:
        values: The distinct values.
        rows: For each trial the index of its value; None if it has none.
    """

    values: tuple[Any, ...]
    rows: tuple[int | None, ...]

    def at(self, row: int) -> Any:
        """The value of a trial.

        Raises:
            ValueError: If the column has no such row or value.
        """
        if not 0 <= row < len(self.rows):
            raise ValueError("no such row")
        index = self.rows[row]
        if index is not None and not 0 <= index < len(self.values):
            raise ValueError("no such value")
        return None if index is None else self.values[index]


@dataclass(frozen=True)
class RecordedTrials:
    """The trials of an experiment, and what is needed to repeat them: trials of other experiments in the same packs.

    Attributes:
        trials: The hash of each trial.
        content: Section of the content to its values.
        facts: Condition, status, parameters, and provenance.
        packs: The rows of the trials that were trained together, in the order of their slots.
        metrics: Name to one number per trial.
    """

    trials: tuple[str, ...]
    content: Mapping[str, Column]
    facts: Mapping[str, Column]
    packs: Column
    metrics: Mapping[str, tuple[Number | None, ...]]


@dataclass(frozen=True)
class RecordedTrial:
    """A trial as a report embeds it.

    Attributes:
        trial: Its hash.
        content: Its resolved options.
        condition: Label of its condition; "" for a trial of another experiment.
        status: finished or diverged; None if only the content is known.
        parameters: Number of trained parameters.
        metrics: The numbers of its result.
        provenance: What decides its bits.
        pack: The hashes of the trials that it was trained with, itself included; empty if they are not all known.
    """

    trial: str
    content: JsonObject
    condition: str = ""
    status: str | None = None
    parameters: int | None = None
    metrics: Mapping[str, Number | None] = field(default_factory=dict[str, Number | None])
    provenance: Provenance = field(default_factory=Provenance)
    pack: tuple[str, ...] = ()


def embedded(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """The conditions whose trials a report embeds: all, or the first ones if there are many trials."""
    totals = accumulate(len(condition.trials) for condition in conditions[:MAX_CONDITIONS])
    return tuple(conditions[: sum(total <= MAX_TRIALS for total in totals)])


def record_trials(study: Study) -> RecordedTrials:
    """The finished and diverged trials of a study, with the contents of the trials that their packs and parents need.

    Of a large study, only those of the first conditions; see `embedded`.
    """
    recorded = {
        trial.trial: _recorded(trial, condition.record.label)
        for condition in embedded(study.every)
        for _, trial in condition.trials
        if trial.status in TERMINAL_STATUSES
    }
    root = study.experiment.folder.parent.parent
    pending = [name for item in recorded.values() for name in _needed(item)]
    while pending:
        name = pending.pop()
        if name not in recorded and (content := TrialFiles(root, name).content):
            recorded[name] = RecordedTrial(name, content)
            pending += _needed(recorded[name])
    return _columns(list(recorded.values()))


def read_trials(value: Any) -> tuple[RecordedTrial, ...]:
    """The trials that a report embeds; the inverse of `record_trials`.

    Raises:
        ValueError: If these are not the trials of a report.
    """
    table = from_plain(RecordedTrials, value)
    return tuple(_row(table, row, name) for row, name in enumerate(table.trials))


def recorded_trial(record: TrialRecord) -> RecordedTrial:
    """The trial of a store as a report would embed it."""
    return _recorded(record, "")


def _recorded(record: TrialRecord, condition: str) -> RecordedTrial:
    provenance = Provenance(**{name: getattr(record.provenance, name) for name in PROVENANCE})
    members = record.provenance.pack.members if record.provenance.pack else ()
    facts = record.status, record.parameters, record.metrics, provenance, members
    return RecordedTrial(record.trial, record.content, condition, *facts)


def _needed(item: RecordedTrial) -> Iterator[str]:
    yield from item.pack
    yield from (name for _, name in parent_hashes(item.content))


def _columns(recorded: Sequence[RecordedTrial]) -> RecordedTrials:
    rows = {item.trial: row for row, item in enumerate(recorded)}
    facts = [_facts(item) for item in recorded]
    packs = [[rows[name] for name in item.pack] if rows.keys() >= set(item.pack) else [] for item in recorded]
    names = dict.fromkeys(name for item in recorded for name in item.metrics)
    return RecordedTrials(
        trials=tuple(rows),
        content=by_key([item.content for item in recorded]),
        facts=by_key(facts),
        packs=_column([pack or None for pack in packs]),
        metrics={name: tuple(item.metrics.get(name) for item in recorded) for name in names},
    )


def _facts(item: RecordedTrial) -> JsonObject:
    facts = {"condition": item.condition, "status": item.status, "parameters": item.parameters}
    return {**facts, **{name: value for name, value in to_plain(item.provenance).items() if name in PROVENANCE}}


def by_key(rows: Sequence[JsonObject]) -> dict[str, Column]:
    """Each key of some row with its distinct values."""
    return {key: _column([row.get(key) for row in rows]) for key in dict.fromkeys(key for row in rows for key in row)}


def _column(values: Sequence[Any]) -> Column:
    """The distinct values, in order of appearance. None is no value."""
    index: dict[str, int] = {}
    distinct: list[Any] = []
    rows: list[int | None] = []
    for value in values:
        key = "" if value is None else json.dumps(value, sort_keys=True)
        if key and key not in index:
            index[key] = len(distinct)
            distinct.append(value)
        rows.append(index[key] if key else None)
    return Column(tuple(distinct), tuple(rows))


def _row(table: RecordedTrials, row: int, name: str) -> RecordedTrial:
    facts = {key: value for key, column in table.facts.items() if (value := column.at(row)) is not None}
    pack = table.packs.at(row) or []
    status, parameters = facts.get("status"), facts.get("parameters")
    if not isinstance(pack, list) or not all(
        isinstance(member, int) and 0 <= member < len(table.trials) for member in pack
    ):
        raise ValueError("a pack has an unknown member")
    pack = cast(list[int], pack)
    if any(len(values) != len(table.trials) for values in table.metrics.values()):
        raise ValueError("a metric does not have one value per trial")
    if any(abs(values[row] or 0) > MAX_METRIC for values in table.metrics.values()):
        raise ValueError("a metric is too large")
    return RecordedTrial(
        trial=name,
        content={key: value for key, column in table.content.items() if (value := column.at(row)) is not None},
        condition=str(facts.get("condition", "")),
        status=status if status in TERMINAL_STATUSES else None,
        parameters=parameters if isinstance(parameters, int) else None,
        metrics={key: values[row] for key, values in table.metrics.items()} if status else {},
        provenance=from_plain(Provenance, {key: facts[key] for key in PROVENANCE if key in facts}),
        pack=tuple(table.trials[member] for member in cast(list[int], pack)),
    )
