"""Exports an experiment from the store: tables, bundles, and trackers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fathomlab.analysis.study import study
from fathomlab.api.planning import readable_experiment
from fathomlab.api.stores import default_runs
from fathomlab.base.errors import ConfigError, Issue, UserError
from fathomlab.export import EXPORTERS
from fathomlab.store.reading import Store

T = TypeVar("T")


def export_experiment(
    name: str,
    experiment: str,
    to: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] | None = None,
    **options: Any,
) -> tuple[Path, ...]:
    """Export an experiment and return what was written.

    Args:
        name: csv, parquet, bundle, tensorboard, or wandb.
        experiment: A name in the store or its beginning, a file, or a bundled experiment.
        to: The directory or file to write; the exporter's default if it is None.
        runs: The results directory.
        options: Those of the exporter, such as `overwrite=True`.

    Raises:
        UserError: If there is no such exporter, option, or experiment; if the libraries of the exporter are not installed; if the
            target exists (nothing is written then); or if it cannot be written.
    """
    if problem := EXPORTERS.unsupported(name):
        raise UserError("unknown-exporter", problem)
    problems: list[Issue] = []
    exporter = EXPORTERS.make(name, options, "", problems)
    if exporter is None:
        raise ConfigError(f"export {name}", problems)
    store = Store(Path(runs) if runs is not None else default_runs())
    read = study(store, readable_experiment(store, experiment))
    return _explained(name, exporter.extra, lambda: exporter.export(read, Path(to) if to is not None else None))


def _explained(name: str, extra: str, export: Callable[[], T]) -> T:
    """Call `export`, with errors that say what to do."""
    try:
        return export()
    except ImportError as error:
        if not extra or (error.name or "").startswith("fathomlab"):
            raise
        text = f'{name} needs {error.name or extra}. Install it with: pip install "fathomlab[{extra}]"'
        raise UserError("missing-extra", text) from None
    except OSError as error:
        text = (
            f"{error.filename or name}: cannot be written: {error.strerror or error}. Choose another target with --to."
        )
        raise UserError("unwritable", text) from None
