"""Runs an experiment: finished trials are reused, the others are packed and trained, every outcome is recorded."""

import json
import re
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fathomlab import data as datasets
from fathomlab.base.files import atomic_write
from fathomlab.base.identity import canonical_json, content_hash
from fathomlab.base.labels import dotted
from fathomlab.base.packing import signature
from fathomlab.base.problems import UserError
from fathomlab.config.paths import set_path
from fathomlab.plan import Plan, Trial, packs
from fathomlab.run import cost, provenance
from fathomlab.run.local import Where, run_packs
from fathomlab.run.resolve import recipe
from fathomlab.run.resume import begun_packs, check_drift, clear_finished, newest_step
from fathomlab.run.signals import Stop
from fathomlab.store.lock import locked
from fathomlab.store.reading import Store
from fathomlab.store.writing import check_room, open_store, same_record, write_experiment

Emit = Callable[[Mapping[str, Any]], None]
DONE = ("finished", "diverged")
WORTH_A_WORKER = 20.0


@dataclass(frozen=True)
class Summary:
    """What a run did: `trials = trained + cached`.

    Attributes:
        experiment: Name of the experiment's directory in the store.
        trials: Number of trials in the plan.
        trained: Trials that this run trained, whatever their outcome.
        cached: Trials that had their outcome before.
        failed: Trials of the plan that have no outcome because an error stopped them.
        diverged: Trials of the plan that diverged, now or before. This is an outcome.
        seconds: Wall time (s).
    """

    experiment: str
    trials: int
    trained: int
    cached: int
    failed: int
    diverged: int
    seconds: float


def experiment_name(plan: Plan, runs: Path) -> str:
    """The directory of a plan in the store: the existing one, or a name from the file's name and the plan's hash.

    The plan alone decides: a file that was renamed or is read under another locale continues its record and its looks.
    """
    suffix = f"-{plan.hash[:8]}"
    known = (name for name in Store(runs).experiment_names() if name.endswith(suffix))
    stem = unicodedata.normalize("NFKD", Path(plan.loaded.document.source).stem.lower())
    ascii_stem = re.sub(r"[^a-z0-9_]+", "-", stem.encode("ascii", "ignore").decode()).strip("-")[:40] or "experiment"
    return next(known, f"{ascii_stem}{'-quick' if plan.loaded.quick else ''}{suffix}")


def unfinished(plan: Plan, store: Store) -> list[Trial]:
    """The trials to train, teachers first. Failed trials are retried; diverged ones have their outcome."""
    return [trial for trial in plan.trials if not _done(trial, store)]


def worker_count(asked: str | int, packs_to_run: int, device: str = "cpu") -> int:
    """Number of worker processes for `--workers`: a number, or `auto` for one per core (one in total on a CUDA device).

    Raises:
        UserError: If the value is neither.
    """
    if str(asked) == "auto":
        return 1 if device == "cuda" else max(1, min(provenance.cores(), packs_to_run))
    if not str(asked).isdigit() or int(asked) < 1:
        raise UserError("invalid-option", f"--workers must be auto or a number >= 1, got {asked!r}.")
    return int(asked)


@dataclass(frozen=True)
class How:
    """Execution options. They are not part of a trial's identity.

    Attributes:
        device: auto, cpu, or cuda.
        workers: Number of processes, or auto.
        wait: Wait for another process that trains into the store instead of refusing.
        allow_drift: Resume trials in a different environment (PyTorch, processor, device, or code).
        name: The experiment's directory; derived from the plan if not given.
    """

    device: str = "auto"
    workers: str | int = "auto"
    wait: bool = False
    allow_drift: bool = False
    name: str | None = None


def run_experiment(plan: Plan, runs: Path, how: How, emit: Emit, stop: Stop) -> Summary:
    """Train the trials that the store does not have.

    Raises:
        UserError: If the store cannot be written or is in use, data or device are missing, a trial was started in another
            environment, or workers cannot start.
        Stopped: If `stop` requests it; progress is saved.
    """
    started = time.monotonic()
    if how.device not in ("auto", "cpu", "cuda"):
        raise UserError("invalid-option", f"--device must be auto, cpu, or cuda, got {how.device!r}.")
    worker_count(how.workers, 1)
    store = Store(open_store(runs))
    with locked(runs, how.wait, lambda text: emit({"event": "warning", "text": text})) as lock:
        known = {trial.hash: store.trial(trial.hash).status for trial in plan.trials}
        todo = [trial for trial in plan.trials if known[trial.hash] not in DONE]
        finished = [trial for trial in plan.trials if known[trial.hash] in DONE]
        clear_finished(runs, finished, lambda member: store.trial(member).status in DONE)
        name = how.name or experiment_name(plan, runs)
        groups = _prepared(plan, todo, runs, how)
        record = _record(plan) | _history(plan, store, name)
        if todo or not same_record(runs, name, record):
            write_experiment(runs, name, record)
        cached = len(plan.trials) - len(todo)
        count = worker_count(how.workers, len(groups), provenance.likely_device(how.device))
        counts = {"trials": len(plan.trials), "cached": cached, "packs": len(groups), "workers": count}
        work = {trial.hash: cost.planned_seconds(trial) for trial in todo}
        emit({"event": "planned", **counts, "work": work, "labels": plan.labels})
        if groups:
            _keep_patch(runs)
            every = plan.loaded.run.get("checkpoint_seconds")
            run_packs(groups, Where(runs, how.device, record["logging"], every, lock), count, emit, stop)
        known |= {trial.hash: store.trial(trial.hash).status for trial in todo}
        diverged = sum(status == "diverged" for status in known.values())
        failed = sum(status not in DONE for status in known.values())
        seconds = time.monotonic() - started
        if todo:
            write_experiment(runs, name, record | {"seconds": record["seconds"] + seconds})
    return Summary(name, len(plan.trials), len(todo), cached, failed, diverged, seconds)


def _prepared(plan: Plan, todo: list[Trial], runs: Path, how: How) -> list[list[Trial]]:
    """Check everything that must hold before training (device, data, disk space, environment), and form the packs."""
    device = provenance.likely_device(how.device)
    if todo and how.device == "cuda":
        from fathomlab.run.devices import choose_device

        choose_device("cuda")
    requesting = [trial for trial in todo if trial.content["training"]["precision"] == "bf16"]
    if requesting:
        from fathomlab.run.devices import check_precision

        check_precision(requesting, how.device)
    for name in dict.fromkeys(trial.content["data"]["name"] for trial in todo):
        if datasets.DATASETS[name].layout is not None:
            datasets.download(name)
    if not how.allow_drift:
        check_drift(runs, todo, device)
    workers = worker_count(how.workers, len(todo), device)
    groups = form_packs(plan, todo, runs, device, workers)
    check_room(runs, cost.disk_bytes(groups, workers))
    return groups


def form_packs(plan: Plan, trials: list[Trial], runs: Path, device: str, workers: int) -> list[list[Trial]]:
    """Group trials of one signature, as many as memory and the kind of network allow, or as `run.pack` says.

    Interrupted trials resume in their original pack, so that their results stay bit-identical.
    """
    forced = plan.loaded.run.get("pack")
    begun, fresh = ([], trials) if forced else begun_packs(runs, trials)

    def key(trial: Trial) -> object:
        return signature(recipe(trial)), canonical_json(trial.content["probes"]), forced and newest_step(runs, trial)

    made = packs(fresh, key, lambda trial: forced or cost.pack_limit(trial, device, workers))
    made = made if forced else _for_all(made, workers - len(begun))
    order = {trial.hash: place for place, trial in enumerate(trials)}
    return sorted(begun + made, key=lambda pack: min(order.get(trial.hash, len(order)) for trial in pack))


def _for_all(groups: list[list[Trial]], workers: int) -> list[list[Trial]]:
    """The packs; the longest is split while workers would be idle and half of it is worth starting one."""
    while len(groups) < workers:
        longest = max(groups, key=lambda group: cost.estimate(group, None, 1)["seconds"] * (len(group) > 1), default=[])
        if len(longest) < 2 or cost.estimate(longest, None, 1)["seconds"] < WORTH_A_WORKER:
            break
        half = -(-len(longest) // 2)
        place = groups.index(longest)
        groups = [*groups[:place], longest[:half], longest[half:], *groups[place + 1 :]]
    return groups


def known_seeds(runs: Path, name: str) -> int:
    """Number of seeds to which an experiment has been extended; 0 if it has not."""
    try:
        record = Store(runs).experiment(name)
    except UserError:
        return 0
    return len(record.seeds) if record.looks else 0


def amend_experiment(runs: Path, name: str, changes: Mapping[str, Any]) -> None:
    """Replace entries of an experiment's record."""
    about = json.loads((runs / "experiments" / name / "experiment.json").read_text(encoding="utf-8"))
    write_experiment(runs, name, about | changes)


def _keep_patch(runs: Path) -> None:
    """Store the difference from fathomlab's commit, once for all trials trained with it."""
    digest, folder = provenance.commit()["patch"], runs / "patches"
    if digest and not (folder / f"{digest}.patch").exists():
        folder.mkdir(exist_ok=True)
        atomic_write(folder / f"{digest}.patch", provenance.patch())


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
        "headline": "best" if options.primary_metric.startswith("best/") else "last",
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
    """When the experiment was first run, its cost so far, and whether its claims were added after results.

    Claims are late if a trial of the plan was finished before an experiment with the same claims was recorded.
    """
    records = {record.name: record for record in store.experiments()}
    known = records.get(name)
    if known is not None and known.cause is None:
        kept = {"created": known.created, "seconds": known.seconds or 0.0, "claims_late": known.claims_late}
        return kept | {"looks": list(known.looks)}
    same = [record for record in records.values() if record.claims_hash == content_hash(plan.claims)]
    early = any(not record.claims_late for record in same)
    late = bool(plan.claims) and not early and any(_done(trial, store) for trial in plan.trials)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "claims_late": late,
        "looks": [],
    }


def _resolved(plan: Plan) -> dict[str, Any]:
    """Every option that the trials share, with defaults; by role if there are several."""
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
