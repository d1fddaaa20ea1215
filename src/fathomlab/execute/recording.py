"""The record of an experiment: what its plan says, its history, and what its last run used."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fathomlab.base.codec import JsonObject, to_plain
from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.base.labels import Levels, flatten_keys
from fathomlab.config.paths import set_path
from fathomlab.plan import Plan
from fathomlab.store.directory import record_is_current, write_experiment
from fathomlab.store.inventory import Inventory
from fathomlab.store.maintenance import rename_corrupted
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, SeedTrial
from fathomlab.store.run_records import RunRecord, latest


def experiment_record(plan: Plan, folder: Path) -> ExperimentRecord:
    """The record of an experiment without its history."""
    loaded = plan.loaded
    options = loaded.file.experiment
    conditions = tuple(
        ConditionRecord(
            label=condition.label,
            role=condition.role,
            factors=dict(condition.factors),
            depth=condition.depth,
            trials=tuple(SeedTrial(seed, trial.hash) for seed, trial in zip(plan.seeds, condition.trials, strict=True)),
        )
        for condition in plan.conditions
    )
    return ExperimentRecord(
        name=folder.name,
        folder=folder,
        title=options.title or loaded.name,
        question=options.question,
        source=loaded.name,
        yaml=loaded.text,
        overrides=tuple(loaded.overrides),
        quick=loaded.quick,
        resolved=_resolved(plan),
        factors=tuple(plan.factors),
        headline="best" if options.primary_metric.startswith("best/") else "last",
        seeds=tuple(plan.seeds),
        logging=to_plain(loaded.file.logging),
        tags=options.tags,
        published=options.published,
        conditions=conditions,
        claims=tuple(plan.claims),
        claims_hash=content_hash(plan.questions),
        tune=plan.tune,
        equal_compute=plan.equal_compute,
    )


def write_start(plan: Plan, name: str, inventory: Inventory, warn: Callable[[str], None]) -> ExperimentRecord:
    """Write the record of an experiment before its trials train, unless it is there; returns it.

    Args:
        plan: The plan.
        name: The directory of the experiment.
        inventory: What the store has.
        warn: Takes a warning if the record was corrupted. Its file is kept under another name.
    """
    stored, runs = inventory.experiments.get(name), inventory.root
    if stored is not None and stored.cause is not None and not stored.outdated:
        _keep_corrupted(stored, warn)
    record = with_history(experiment_record(plan, runs / "experiments" / name), plan, inventory)
    if inventory.pending(plan.trials) or not record_is_current(stored, record):
        write_experiment(runs, record)
    return record


def _keep_corrupted(stored: ExperimentRecord, warn: Callable[[str], None]) -> None:
    """Rename the file of a record that is corrupted.

    Raises:
        UserError: If it is there and cannot be read or has a newer format, or if it cannot be renamed.
    """
    path = stored.folder / "experiment.json"
    if not os.path.lexists(path):
        return
    if not stored.corrupted:
        raise UserError("damaged-record", f"{stored.folder}: {stored.cause}.")
    try:
        change = rename_corrupted(path)
    except OSError as error:
        text = f"{path}: cannot be renamed: {error.strerror or error}. Make its directory writable."
        raise UserError("unwritable", text) from None
    warn(
        f"{stored.folder}: {stored.cause} ({change.action}). A new record is written, without earlier interim analyses. "
        "Claims count as added after the results that exist."
    )


def with_history(record: ExperimentRecord, plan: Plan, inventory: Inventory) -> ExperimentRecord:
    """Add when the experiment was first run, its cost so far, and whether its claims were added after results.

    Claims are late if a trial of the plan was finished before an experiment with the same claims was recorded.
    """
    stored = inventory.experiments.get(record.name)
    if stored is not None and stored.cause is None:
        return replace(
            record,
            created=stored.created,
            seconds=stored.seconds or 0.0,
            claims_late=stored.claims_late,
            looks=stored.looks,
            runs=stored.runs,
        )
    intact = [other for other in inventory.experiments.values() if other.cause is None]
    equal = [other for other in intact if other.claims_hash == record.claims_hash]
    early = any(not other.claims_late for other in equal)
    return replace(
        record,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        claims_late=bool(plan.claims) and not early and len(inventory.pending(plan.trials)) < len(plan.trials),
    )


def write_end(runs: Path, record: ExperimentRecord, used: RunRecord | None, seconds: float = 0.0) -> None:
    """Write the record of an experiment after a run of some seconds. Another process may have added looks, time, and runs."""
    try:
        stored = Store(runs).experiment(record.name)
    except UserError:  # it was removed
        stored = record
    if stored.cause is None:
        record = replace(record, seconds=stored.seconds, looks=stored.looks, runs=stored.runs)
    total = (record.seconds or 0.0) + seconds
    write_experiment(runs, replace(record, seconds=total, runs=latest((*record.runs, used)) if used else record.runs))


def _resolved(plan: Plan) -> JsonObject:
    """Every option that the trials share, with defaults, and their parents by role; by role if there are several."""
    shared: dict[str, Levels] = {}
    roles = {trial.hash: condition.role for condition in plan.conditions for trial in condition.trials}
    for condition in plan.conditions:
        trial = condition.trials[0]
        left_out = ("format", "seed", "parents", "plugins")  # the digests of plugins are provenance
        content = {key: value for key, value in trial.content.items() if key not in left_out}
        if trial.teachers:
            content["teacher"] = [roles[teacher.hash] for teacher in trial.teachers]
        if trial.start is not None:
            content["start"] = roles[trial.start.hash]
        if offset := trial.seed - plan.seeds[0]:
            content["seed_offset"] = offset
        options = flatten_keys(content)
        previous = shared.setdefault(condition.role, options)
        shared[condition.role] = {
            key: value for key, value in previous.items() if key in options and options[key] == value
        }
    nested: dict[str, Any] = {}
    for role, options in shared.items():
        for key, value in options.items():
            set_path(nested, key if len(shared) == 1 else f"{role}.{key}", value)
    return nested | {"factors": {key: list(levels) for key, levels in plan.factors.items()}, "seeds": list(plan.seeds)}
