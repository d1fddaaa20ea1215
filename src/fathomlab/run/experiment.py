"""Runs an experiment: what is finished is reused, the rest is packed and trained, every fate is recorded."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fathomlab import data as datasets
from fathomlab.base.identity import content_hash
from fathomlab.base.labels import dotted
from fathomlab.base.problems import UserError
from fathomlab.config.load import set_path
from fathomlab.plan import Plan, Trial, packs
from fathomlab.run import cost, provenance
from fathomlab.run.local import Where, run_packs
from fathomlab.run.resolve import recipe
from fathomlab.store.reading import Store
from fathomlab.store.writing import open_store, write_experiment

Emit = Callable[[Mapping[str, Any]], None]
DONE = ("finished", "diverged")


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        experiment: Name of the experiment's folder in the store.
        trials: Trials of the plan.
        trained: Trials trained now, whatever their fate.
        cached: Trials that were finished before.
        failed: Trials of the plan that raised or diverged, now or before.
        seconds: Wall time.
    """

    experiment: str
    trials: int
    trained: int
    cached: int
    failed: int
    seconds: float


def experiment_name(plan: Plan) -> str:
    """A folder name from the file's name, with the plan's hash, so that no two plans share a folder."""
    stem = re.sub(r"[^a-z0-9_]+", "-", Path(plan.loaded.document.source).stem.lower()).strip("-")[:40] or "experiment"
    return f"{stem}{'-quick' if plan.loaded.quick else ''}-{plan.hash[:8]}"


def unfinished(plan: Plan, store: Store) -> list[Trial]:
    """The trials that must be trained, teachers first. A failed trial is tried again, a diverged one is an outcome."""
    return [trial for trial in plan.trials if not _done(trial, store)]


def worker_count(asked: str | int, packs_to_run: int) -> int:
    """Worker processes for `--workers`: a number, or `auto` for one a core.

    Raises:
        UserError: Neither.
    """
    if str(asked) == "auto":
        return max(1, min(provenance.cores(), packs_to_run))
    if not str(asked).isdigit() or int(asked) < 1:
        raise UserError(f"--workers should be auto or a number from 1 (got {asked!r}).")
    return int(asked)


def run_experiment(plan: Plan, runs: Path, device: str, workers: str | int, emit: Emit) -> Summary:
    """Train what the plan needs and the store does not have.

    Raises:
        UserError: The store cannot be written, the data are not here, or the device is not; nothing is trained then.
    """
    started = time.monotonic()
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device should be auto, cpu or cuda (got {device!r}).")
    worker_count(workers, 1)
    store = Store(open_store(runs))
    todo = unfinished(plan, store)
    if todo and device == "cuda":
        from fathomlab.run.pack import choose_device

        choose_device(device)
    for name in dict.fromkeys(trial.content["data"]["name"] for trial in todo):
        if datasets.DATASETS[name].layout is not None:
            datasets.download(name)
    name = experiment_name(plan)
    record = _record(plan) | _history(plan, store, name)
    write_experiment(runs, name, record)
    cached = len(plan.trials) - len(todo)
    groups = form_packs(plan, todo)
    count = worker_count(workers, len(groups))
    emit({"event": "planned", "trials": len(plan.trials), "cached": cached, "packs": len(groups), "workers": count})
    if groups:
        run_packs(groups, Where(runs, device, record["logging"]), count, emit)
    failed = sum(store.trial(trial.hash).status != "finished" for trial in plan.trials)
    seconds = time.monotonic() - started
    if todo:
        write_experiment(runs, name, record | {"seconds": record["seconds"] + seconds})
    return Summary(name, len(plan.trials), len(todo), cached, failed, seconds)


def form_packs(plan: Plan, trials: list[Trial]) -> list[list[Trial]]:
    """Trials of one signature together, as many as memory and the kind of network allow, or as `run.pack` says."""
    forced = plan.loaded.run.get("pack")

    def key(trial: Trial) -> object:
        return recipe(trial).signature(), tuple(trial.content["probes"])

    return packs(trials, key, lambda trial: forced or cost.pack_limit(trial))


def _done(trial: Trial, store: Store) -> bool:
    folder = store.root / "trials" / trial.hash
    return (folder / "result.json").exists() and store.trial(trial.hash).status in DONE


def _record(plan: Plan) -> dict[str, Any]:
    loaded = plan.loaded
    options = loaded.file.experiment
    conditions = [
        {
            "label": condition.label,
            "role": condition.role,
            "factors": dict(condition.factors),
            "depth": condition.depth,
            "trials": [{"seed": trial.seed, "trial": trial.hash} for trial in condition.trials],
        }
        for condition in plan.conditions
    ]
    return {
        "title": options.title or loaded.document.source,
        "question": options.question,
        "source": loaded.document.source,
        "yaml": loaded.text,
        "overrides": list(loaded.overrides),
        "quick": loaded.quick,
        "resolved": _resolved(plan),
        "factors": list(plan.factors),
        "headline": options.headline,
        "seeds": list(plan.seeds),
        "logging": {
            "project_name": loaded.file.logging.project_name,
            "log_gradients": loaded.file.logging.log_gradients,
        },
        "conditions": conditions,
        "claims": plan.claims,
        "claims_hash": content_hash(plan.claims),
    }


def _history(plan: Plan, store: Store, name: str) -> dict[str, Any]:
    """When the experiment was first run, what it has cost, and whether its claims came after a trial's result.

    Claims are late where a trial of the plan was finished before any experiment with the same claims had been written.
    """
    records = {record.name: record for record in store.experiments()}
    known = records.get(name)
    if known is not None and known.cause is None:
        return {"created": known.created, "seconds": known.seconds or 0.0, "claims_late": known.claims_late}
    same = [record for record in records.values() if record.claims_hash == content_hash(plan.claims)]
    early = any(not record.claims_late for record in same)
    late = bool(plan.claims) and not early and any(_done(trial, store) for trial in plan.trials)
    return {"created": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": 0.0, "claims_late": late}


def _resolved(plan: Plan) -> dict[str, Any]:
    """Every option that the trials share, defaults filled in; by role where there are several."""
    shared: dict[str, dict[str, Any]] = {}
    for condition in plan.conditions:
        own = dotted(
            {key: value for key, value in condition.trials[0].content.items() if key not in ("format", "seed")}
        )
        known = shared.setdefault(condition.role, own)
        shared[condition.role] = {key: value for key, value in known.items() if key in own and own[key] == value}
    nested: dict[str, Any] = {}
    for role, options in shared.items():
        for key, value in options.items():
            set_path(nested, key if len(shared) == 1 else f"{role}.{key}", value)
    return nested | {"factors": {key: list(levels) for key, levels in plan.factors.items()}, "seeds": list(plan.seeds)}
