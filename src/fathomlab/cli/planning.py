"""plan: what an experiment needs and costs, and why a trial is not cached. Loads no torch."""

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathomlab.base.errors import UserError, format_value
from fathomlab.base.labels import count, format_bytes
from fathomlab.cli.options import Device, Executor, File, Json, Overrides, Quick, RunsFolder, Workers, print_json

if TYPE_CHECKING:
    from fathomlab.plan import Condition, Plan, Trial
    from fathomlab.prepare.memory import MemoryPlan
    from fathomlab.store.inventory import Inventory
    from fathomlab.store.reading import Store

app = typer.Typer()


@app.command()
def plan(
    file: File,
    overrides: Overrides = None,
    quick: Quick = False,
    runs: RunsFolder = None,
    why: Annotated[
        str | None,
        typer.Option(metavar="TRIAL", help="Explain why a trial is not cached (hash prefix)."),
    ] = None,
    trials: Annotated[bool, typer.Option("--trials", help="List every trial with its hash.")] = False,
    executor: Executor = None,
    workers: Workers = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show what would be trained, and its cost. Does not train."""
    from fathomlab import api
    from fathomlab.prepare.gpus import check_device

    check_device(device)
    planned = api.load(file, overrides or [], quick)
    root = runs or api.default_runs()
    from fathomlab.store.inventory import take_inventory
    from fathomlab.store.reading import Store

    inventory = take_inventory(root, planned.trials, planned.loaded.components)
    todo = {trial.hash for trial in inventory.pending(planned.trials)}
    if why is not None:
        _explain(planned, Store(root), why, todo, as_json)
        return
    document = _document(planned, inventory, todo, workers, device)
    preview = "" if executor is None else _preview(planned, inventory, executor, workers, device)
    if as_json:
        print_json(document)
        return
    from fathomlab.execute.round import duration

    estimate = document["estimate"]
    compiled = f" ({document['compiled_packs']} native)" if document["compiled_packs"] else ""
    print(
        f"{count(document['trials'], 'trial')} ({count(document['conditions'], 'condition')} x "
        f"{count(document['seeds'], 'seed')}): {document['cached']} cached, {len(todo)} to train in "
        f"{count(document['packs'], 'pack')}{compiled}, about {duration(estimate['seconds'])} ({estimate['basis']})"
    )
    for condition in planned.conditions:
        cached = sum(trial.hash not in todo for trial in condition.trials)
        longer = f" ({_longer(planned, condition)})" if condition.role in planned.equal_compute else ""
        print(f"  {condition.label}: {cached} cached, {len(condition.trials) - cached} to train{longer}")
        for seed, trial in zip(planned.seeds, condition.trials, strict=True) if trials else ():
            print(f"    {trial.hash[:12]}  seed {seed}  {'to train' if trial.hash in todo else 'cached'}")
    if planned.tune is not None:
        print(f"tuned by {planned.tune.by}: {_tuned(planned.tune.over, planned)}")
    _print_disk_space(document["disk"], len(todo))
    _print_memory(document)
    for notice in document["notices"]:
        print(f"note: {notice}")
    if preview:
        print(f"\n{preview}")


def _preview(planned: "Plan", inventory: "Inventory", name: str, workers: str, device: str) -> str:
    """What an executor would start or submit; nothing if nothing is to be trained."""
    from fathomlab.execute.executors import EXECUTORS, requested_executor, resolve_executor, with_executor
    from fathomlab.execute.executors.setting import Setting
    from fathomlab.prepare.jobs import form_jobs

    planned = with_executor(planned, name)
    pending = inventory.pending(planned.trials)
    if not pending:
        return ""
    executor = EXECUTORS[resolve_executor(requested_executor(planned))]
    setting = Setting(inventory.root, 1, device, run=planned.loaded.run)
    number = executor.count_workers(setting, workers, len(pending))
    jobs = form_jobs(planned, pending, inventory, device, number)
    return executor.preview(jobs, replace(setting, workers=min(number, len(jobs))))


def _document(
    planned: "Plan", inventory: "Inventory", todo: set[str], requested_workers: str, device: str
) -> dict[str, Any]:
    from fathomlab.execute.executors import requested_executor
    from fathomlab.execute.experiment import experiment_name
    from fathomlab.prepare import cost
    from fathomlab.prepare.backends import choose_backend, fallback_notice, requested_backend, supports_native
    from fathomlab.prepare.machine import available_memory, describe_machine, guess_device
    from fathomlab.prepare.memory import memory_notice
    from fathomlab.prepare.packing import form_packs, worker_count

    missing = [trial for trial in planned.trials if trial.hash in todo]
    number = worker_count(requested_workers, len(missing), device)
    groups = form_packs(planned, missing, inventory, device, number)
    requested_executor(planned)
    workers = max(1, min(number, len(groups)))
    machine, requested = describe_machine(guess_device(device)), requested_backend(planned)
    native = supports_native(planned, machine)
    backends = [choose_backend(group, inventory, requested, machine, native) for group in groups]
    compiled = {
        trial.hash for group, backend in zip(groups, backends, strict=True) if backend == "native" for trial in group
    }
    fallback = fallback_notice(planned, machine) if groups else ""
    memory = _memory(list(zip(groups, backends, strict=True)), workers, device)
    like = [trial for trial in planned.trials if trial.hash not in todo]
    seconds = {trial: inventory.trials[trial.hash].seconds for trial in like[:50]}
    measured = cost.measured_rate((cost.flops(trial), taken) for trial, taken in seconds.items())
    return {
        "experiment": experiment_name(planned, inventory.experiments),
        "trials": len(planned.trials),
        "cached": len(planned.trials) - len(todo),
        "packs": len(groups),
        "compiled_packs": backends.count("native"),
        "conditions": len(planned.conditions),
        "seeds": len(planned.seeds),
        "factors": {key: list(levels) for key, levels in planned.factors.items()},
        **_fairness(planned),
        "labels": [condition.label for condition in planned.conditions],
        "seed_list": list(planned.seeds),
        "claims": [claim.name for claim in planned.loaded.file.claims],
        "notices": [
            *planned.notices,
            *filter(None, [fallback, memory and memory_notice(memory)]),
            *_changed_datasets(planned, inventory.root),
            *_warnings(planned),
        ],
        "estimate": asdict(cost.estimate(missing, measured, workers, compiled)),
        "disk": {
            "stored_bytes": cost.disk_bytes(groups, 0),
            "peak_bytes": cost.disk_bytes(groups, workers),
            "free_bytes": _free_bytes(inventory.root),
        },
        **({} if memory is None else {"memory": {**asdict(memory), "available_bytes": available_memory()}}),
        "trial_list": _trial_list(planned, todo),
    }


def _trial_list(planned: "Plan", todo: set[str]) -> list[dict[str, Any]]:
    return [
        {
            "trial": trial.hash,
            "condition": condition.label,
            "role": condition.role,
            "seed": seed,
            "cached": trial.hash not in todo,
        }
        for condition in planned.conditions
        for seed, trial in zip(planned.seeds, condition.trials, strict=True)
    ]


def _memory(packs: Sequence[tuple[Sequence["Trial"], str]], workers: int, device: str) -> "MemoryPlan | None":
    """The predicted memory of a run; None if nothing is to be trained, or a GPU trains."""
    from fathomlab.prepare.machine import guess_device
    from fathomlab.prepare.memory import predict_memory

    return predict_memory(packs, workers) if packs and guess_device(device) == "cpu" else None


def _fairness(planned: "Plan") -> dict[str, Any]:
    """What is tuned, and the epochs of roles with equal compute."""
    longer = [condition for condition in planned.conditions if condition.role in planned.equal_compute]
    epochs = [
        {
            "condition": condition.label,
            "role": planned.equal_compute[condition.role],
            "epochs": condition.trials[0].recipe.epochs,
        }
        for condition in longer
    ]
    tune = {} if planned.tune is None else {"tune": asdict(planned.tune)}
    return {**tune, **({"equal_compute": epochs} if epochs else {})}


def _longer(planned: "Plan", condition: "Condition") -> str:
    """The epochs of a condition that also spends the training compute of another role."""
    epochs = count(condition.trials[0].recipe.epochs, "epoch")
    return f"{epochs}, with the training compute of {planned.equal_compute[condition.role]}"


def _tuned(keys: Sequence[str], planned: "Plan") -> str:
    """The tuned factors with the number of their levels."""
    return ", ".join(f"{key} ({count(len(planned.factors[key]), 'level')})" for key in keys)


def _free_bytes(root: Path) -> int:
    """Free space where the results are written."""
    path = Path(os.path.normpath(root))  # not absolute: the working directory may be deleted
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if os.path.exists(folder))).free


def _print_disk_space(disk: dict[str, int], trials: int) -> None:
    if not trials:
        return
    stored, peak, free = (disk[f"{name}_bytes"] for name in ("stored", "peak", "free"))
    print(
        f"disk space: about {format_bytes(stored / trials)} per trial, {format_bytes(stored)} in total, "
        f"up to {format_bytes(peak)} during training ({format_bytes(free)} free)"
    )
    if free < peak:
        print("note: the free disk space is not enough. Free some, or choose another directory with --runs.")


def _print_memory(document: dict[str, Any]) -> None:
    if "memory" in document:
        peak, worker, left = (
            format_bytes(document["memory"][f"{name}_bytes"]) for name in ("peak", "worker", "available")
        )
        print(f"memory: about {peak} at most, of which a worker has up to {worker} ({left} available)")


def _changed_datasets(planned: "Plan", root: Path) -> list[str]:
    """Functions that return other images than for the trials of the store. A run refuses them."""
    from fathomlab.data.users import UserDataset
    from fathomlab.store.datasets import change_of

    datasets = dict.fromkeys(trial.data.component for trial in planned.trials)
    return [text for item in datasets if isinstance(item, UserDataset) and (text := change_of(root, item))]


def _warnings(planned: "Plan") -> list[str]:
    """What this number of seeds cannot decide: the two-sided sign-flip test over n seeds has p >= 2 / 2^n."""
    claims, n = len(planned.claims), len(planned.seeds)
    if not claims:
        return []
    needed = math.ceil(math.log2(2 * claims / 0.05))
    if n < 2:
        return [f"With 1 seed no claim can be decided. Use {needed} or more."]
    if n >= needed:
        return []
    corrected = f" for {claims} claims" if claims > 1 else ""
    return [f"{n} seeds are too few for the distribution-free check{corrected}. Use {needed} or more."]


def _explain(planned: "Plan", store: "Store", prefix: str, todo: set[str], as_json: bool) -> None:
    """Print the fields in which a trial differs from the closest one in the store."""
    trials = [trial for trial in planned.trials if trial.hash.startswith(prefix.lower())]
    if len(trials) != 1:
        matches = f"{format_value(prefix)} matches {count(len(trials), 'trial')} of the plan"
        raise UserError("no-such-trial", f"--why: {matches}. List them with: fathomlab plan FILE --trials")
    trial = trials[0]
    nearest, fields = _nearest(trial, store)
    document = {"trial": trial.hash, "cached": trial.hash not in todo, "nearest": nearest, "fields": fields}
    if as_json:
        print_json(document)
    elif document["cached"]:
        print(f"Trial {trial.hash[:12]} is cached.")
    elif nearest is None:
        print(f"Trial {trial.hash[:12]} is new.")
    elif not fields:
        print(f'Trial {trial.hash[:12]} has status "{store.trial(trial.hash).status}" and will be retrained.')
    else:
        print(f"Trial {trial.hash[:12]} is new. Closest stored trial: {nearest[:12]}. Differences:")
        for field in fields:
            print(
                f"  {field['key']}: {format_value(field['stored'])} (stored), {format_value(field['planned'])} (requested)"
            )


def _nearest(trial: "Trial", store: "Store") -> tuple[str | None, list[dict[str, Any]]]:
    from fathomlab.analysis.expected import options_with_parents

    stored_contents = {name: content for name in store.trials() if (content := store.trial(name).content)}
    contents = stored_contents | {other.hash: other.content for other in trial.ancestors}
    requested, best = options_with_parents(trial.content, contents, (), ()), None
    for name, content in stored_contents.items():
        stored = options_with_parents(content, contents, (), ())
        keys = [key for key in (requested | stored) if requested.get(key) != stored.get(key)]
        fields = [{"key": key, "stored": stored.get(key), "planned": requested.get(key)} for key in keys]
        if best is None or len(fields) < len(best[1]):
            best = (name, fields)
    return best or (None, [])
