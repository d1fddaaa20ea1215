"""Prepares the backend of a job, with the reference as the fallback, and chooses its precision."""

from collections.abc import Callable
from dataclasses import replace

import torch

from fathomlab.base.errors import UserError
from fathomlab.engine.backends import BACKENDS, FALLBACK, Machine, lanes
from fathomlab.engine.precision_choice import choose_precision
from fathomlab.engine.step_inputs import Predicts, StepFunction
from fathomlab.engine.training import PackTrainer
from fathomlab.prepare.jobs import Job
from fathomlab.prepare.machine import describe_machine


def initial_precision(job: Job, device: torch.device) -> str:
    """The precision of a job without a checkpoint. `auto` is fp32 if the backend is faster than bf16 in it."""
    recipe, machine = job.trials[0].recipe, Machine(device.type, compiler=True)
    backend = BACKENDS.get(job.backend)
    if recipe.precision == "auto" and backend:
        only_fp32 = job.backend == "native" and lanes.supports(recipe)
        if only_fp32 or backend.refuses([replace(recipe, precision="bf16")], machine):
            return "fp32"
    return choose_precision(recipe.precision, recipe.architecture, recipe.batch_size, device)


def prepare_backend(
    job: Job, saved: str | None, training: PackTrainer, warn: Callable[[str], None]
) -> tuple[str, StepFunction]:
    """Return the name of the backend that is used, and its step function.

    Args:
        job: The job; it names the backend for training from scratch.
        saved: The backend of the job's checkpoint, which is never replaced; None without a checkpoint.
        training: The pack before its first step.
        warn: Called with one line if the reference replaces the backend.

    Raises:
        UserError: If the backend fails and may not be replaced.
    """
    name = saved or job.backend
    try:
        step = _prepared(name, training, check=saved is None)
        training.predictor = step if isinstance(step, Predicts) else None
        return name, step
    except UserError as error:
        if saved is not None:
            fix = "Use `fathomlab store prune --unfinished` to restart from scratch."
            raise UserError(
                error.code, f"{error} The checkpoint cannot be resumed with another backend. {fix}"
            ) from error
        if not job.may_fall_back:
            raise
        warn(f"{error} {FALLBACK}")
        return "reference", BACKENDS["reference"].prepare(training)


def _prepared(name: str, training: PackTrainer, check: bool) -> StepFunction:
    """Prepare a backend. `check` asks first whether it refuses the pack on the device that was really chosen."""
    if name not in BACKENDS:
        raise UserError("unknown-name", f"backend {name}: this version of fathomlab has no such backend.")
    refusal = BACKENDS[name].refuses(training.recipes, describe_machine(training.device.type)) if check else ""
    if refusal:
        raise UserError("backend-refused", f"backend {name}: {refusal}.")
    try:
        return BACKENDS[name].prepare(training)
    except UserError as error:
        raise UserError(error.code, f"backend {name}: {error}.") from error
