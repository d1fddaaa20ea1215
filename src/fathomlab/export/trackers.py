"""The table of trackers, and which of them log a run."""

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution

from fathomlab.base.errors import UserError
from fathomlab.base.table import Table
from fathomlab.export.tensorboard import TensorBoardTracker
from fathomlab.export.tracking import Tracker
from fathomlab.export.wandb import Wandb
from fathomlab.plan import Plan

TRACKERS: Table[Tracker] = Table("tracker", {"wandb": Wandb, "tensorboard": TensorBoardTracker})
MAX_TRIALS = 64  # larger plans are logged only if requested


def choose_trackers(plan: Plan, log: str | Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the trackers of a run, and notices.

    Args:
        plan: The plan.
        log: Names, or `none`. None chooses Weights & Biases if the file names a project, except for quick runs.

    Raises:
        UserError: If a requested tracker does not exist or is not installed.
    """
    names, notices = (_requested(log), ()) if log is not None else _by_default(plan)
    measured = any(probe.name == "gradients" for trial in plan.trials for probe in trial.probes)
    if names and plan.loaded.file.logging.log_gradients and not measured:
        text = "logging.log_gradients: gradients are not measured. Set experiment.analyze_gradients: true"
        notices = (*notices, text)
    return names, notices


def _requested(log: str | Sequence[str]) -> tuple[str, ...]:
    texts = log.split(",") if isinstance(log, str) else log
    names = tuple(dict.fromkeys(text.strip() for text in texts))
    if names == ("none",):
        return ()
    for name in names:
        if problem := TRACKERS.unsupported(name):
            raise UserError("unknown-tracker", f"--log: {problem} Use none for no tracker.")
        if not _installed(name):
            raise UserError("missing-extra", f"--log: {name} is not installed. {_install(name)}")
    return names


def _by_default(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    project = plan.loaded.file.logging.project_name
    if not project or plan.loaded.quick or os.environ.get("WANDB_MODE") == "disabled":
        return (), ()
    if not _installed("wandb"):
        return (), (f"W&B: project {project} is not logged, because wandb is not installed. {_install('wandb')}",)
    if len(plan.trials) > MAX_TRIALS:
        return (), (f"W&B: {len(plan.trials)} trials are logged only on request, with --log wandb",)
    return ("wandb",), ()


def _installed(name: str) -> bool:
    """Whether the library of a tracker is installed, without importing it."""
    try:
        distribution(TRACKERS[name].extra)
    except PackageNotFoundError:
        return False
    return True


def _install(name: str) -> str:
    return f'Install it with: pip install "fathomlab[{TRACKERS[name].extra}]"'
