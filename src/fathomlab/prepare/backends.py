"""Chooses the backend of each pack."""

from collections.abc import Sequence
from dataclasses import replace

from fathomlab.base.errors import UserError
from fathomlab.config.load import run_choice
from fathomlab.engine.backends import BACKENDS, FALLBACK, Machine
from fathomlab.engine.backends.native import library_of
from fathomlab.engine.backends.native_library import load_library, missing_compiler, start_build
from fathomlab.plan import Plan, Recipe, Trial
from fathomlab.store.inventory import Inventory


def requested_backend(plan: Plan) -> str:
    """Return `run.backend`: `auto` (the default), or the name of a backend.

    Raises:
        UserError: If no backend has this name.
    """
    return run_choice(plan.loaded, "backend", BACKENDS)


def check_build(pending: Sequence[Trial]) -> None:
    """Build what the native backend needs for the pending trials, if this machine does not have it.

    Raises:
        UserError: If it cannot be built.
    """
    try:
        for source, real in sorted({library_of(trial.recipe) for trial in pending}):
            load_library(real, source)
    except UserError as error:
        raise UserError(error.code, f"run.backend=native: {error}. Use run.backend=auto or reference.") from error


def start_native_build(plan: Plan, pending: Sequence[Trial], machine: Machine) -> None:
    """Build the native backend in the background if this machine does not have it and the pending trials will use it."""
    if requested_backend(plan) == "auto" and machine.compiler and supports_native(plan, machine):
        start_build(sorted({library_of(trial.recipe) for trial in pending}))


def fallback_notice(plan: Plan, machine: Machine) -> str:
    """Why `run.backend=auto` uses the reference on this machine, if only a compiler is missing; `""` otherwise."""
    if requested_backend(plan) != "auto" or machine.compiler:
        return ""
    with_compiler = replace(machine, compiler=True)
    return f"backend native: {missing_compiler()}. {FALLBACK}" if supports_native(plan, with_compiler) else ""


def supports_native(plan: Plan, machine: Machine) -> bool:
    """Whether the native backend can train every condition. Else none uses it: arms of a claim would differ."""
    return not any(_refuses("native", [condition.trials[0].recipe], machine) for condition in plan.conditions)


def choose_backend(
    pack: Sequence[Trial], inventory: Inventory, requested: str, machine: Machine, native: bool = True
) -> str:
    """Choose how the steps of a pack are computed: as its checkpoint says, as requested, or for `auto` what pays.

    Args:
        pack: The trials of the pack.
        inventory: Contains their checkpoints.
        requested: `auto`, or the name of a backend.
        machine: Where the pack is trained.
        native: Whether `auto` may choose the native backend.

    Raises:
        UserError: If the requested backend cannot train the pack on this machine.
    """
    checkpoints = (inventory.checkpoint(trial) for trial in pack)
    saved = next((checkpoint.backend for checkpoint in checkpoints if checkpoint and checkpoint.backend), None)
    if saved:
        return saved
    recipes = [trial.recipe for trial in pack]
    if requested == "auto":
        if machine.device == "cuda":
            return "reference" if BACKENDS["graph"].refuses(recipes, machine) else "graph"
        return "native" if native and not _refuses("native", recipes, machine) else "reference"
    refusal = _refuses(requested, recipes, machine)
    if refusal:
        raise UserError(
            "backend-refused",
            f"run.backend={requested} cannot train trial {pack[0].hash[:12]}: {refusal}. Use run.backend=auto.",
        )
    return requested


def _refuses(backend: str, recipes: Sequence[Recipe], machine: Machine) -> str:
    """Why a backend cannot train a pack. The precision `auto` is fp32 for MLPs in the native backend."""
    if backend == "native":
        recipes = [replace(recipe, precision="fp32") if recipe.precision == "auto" else recipe for recipe in recipes]
    return BACKENDS[backend].refuses(recipes, machine)
