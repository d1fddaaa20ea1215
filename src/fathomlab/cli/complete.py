"""Values that a shell completes; typer selects those that begin with what was typed.

They are found by listing directories, because every press of the key starts a process.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import typer

PACKAGE = Path(__file__).parents[1]
PREFIX = "config_exp"
HASH_SHOWN = 12
KINDS = ("model", "dataset", "loss", "probe", "optimizer", "experiment")
# The tables with these names take time to import; a test compares them.
TRIAL_EXPORTERS = ("onnx", "hub")
EXPORTERS = ("csv", "parquet", "bundle", "tensorboard", "wandb", *TRIAL_EXPORTERS)
STATUSES = ("finished", "diverged", "failed", "running", "interrupted", "waiting", "damaged", "outdated")
COMPLETED_TRIALS = 200  # more than a shell can show


def experiment_files(incomplete: str) -> list[str]:
    """Names of bundled experiments and experiment files, and directories on the way to them."""
    folder, slash, _ = incomplete.rpartition("/")
    return sorted({*(f"{folder}{slash}{name}" for name in _names(Path(f"{folder}{slash}"))), *_bundled()})


def experiments(context: typer.Context) -> list[str]:
    """Names of the experiments in the results directory, and the numbers of bundled ones that are there."""
    names = _directories(_runs(context) / "experiments")
    return sorted({*names, *(name.removeprefix(PREFIX).split("-")[0] for name in names if name.startswith(PREFIX))})


def trial_hashes(context: typer.Context, incomplete: str) -> list[str]:
    """Beginnings of the hashes of the trials in the results directory."""
    matches = [name for name in _directories(_runs(context) / "trials") if name.startswith(incomplete)]
    return [name[: max(HASH_SHOWN, len(incomplete))] for name in sorted(matches)[:COMPLETED_TRIALS]]


def subjects(context: typer.Context, incomplete: str) -> list[str]:
    """What the exporter that was typed exports: experiments, or trials."""
    if context.params.get("exporter") in TRIAL_EXPORTERS:
        return trial_hashes(context, incomplete)
    return experiments(context)


def kinds() -> tuple[str, ...]:
    """What `new` can write."""
    return KINDS


def exporters() -> tuple[str, ...]:
    """Names of the exporters."""
    return EXPORTERS


def statuses_of_trials() -> tuple[str, ...]:
    """The statuses of trials."""
    return STATUSES


def _runs(context: typer.Context) -> Path:
    return Path(context.params.get("runs") or os.environ.get("FATHOMLAB_RUNS") or "runs")


def _bundled() -> Iterator[str]:
    for folder in (Path("configs"), PACKAGE / "configs", PACKAGE.parents[1] / "configs"):
        yield from (
            name.removesuffix(".yaml").removeprefix(PREFIX) for name in _names(folder) if name.endswith(".yaml")
        )


def _names(folder: Path) -> list[str]:
    """The experiment files in a directory, and its directories with a slash; hidden ones are left out."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return []
    files = [entry.name for entry in entries if re.search(r"\.ya?ml$", entry.name)]
    return [*files, *(f"{entry.name}/" for entry in entries if entry.is_dir())]


def _directories(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
