"""Exports from the store: experiments as tables, bundles, and to trackers; single trials as networks for other programs."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fathomlab.analysis.study import study
from fathomlab.analysis.tables import experiments_of
from fathomlab.api.planning import readable_experiment
from fathomlab.api.stores import default_runs
from fathomlab.base.errors import ConfigError, Issue, UserError
from fathomlab.export import EXPORTERS
from fathomlab.export.trial import Exported, LoadedTrial
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, Number, TrialRecord

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
    exporter = _exporter(name, "experiment", options)
    store = Store(Path(runs) if runs is not None else default_runs())
    read = study(store, readable_experiment(store, experiment))
    return _explained(name, exporter.extra, lambda: exporter.export(read, _path(to)))


def export_trial(
    name: str,
    trial: str,
    to: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] | None = None,
    plugins: Sequence[str | os.PathLike[str]] = (),
    **options: Any,
) -> Exported:
    """Export the trained network of a trial, check that it computes the same, and return what was written.

    Args:
        name: onnx or hub.
        trial: The beginning of the trial's hash, 4 or more digits.
        to: The file or directory to write; the exporter's default if it is None.
        runs: The results directory.
        plugins: The plugin files of the experiment, which may run. Plugins in the results directory never run by themselves.
        options: Those of the exporter, such as `preprocess=True`.

    Raises:
        UserError: If there is no such exporter, option, or trial; if the trial is not finished, or its weights or dataset are
            missing; if the libraries of the exporter are not installed; if the target exists; if the network cannot be exported,
            or computes something else (nothing is written then); or if it cannot be written.
    """
    exporter = _exporter(name, "trial", options)
    store = Store(Path(runs) if runs is not None else default_runs())
    record = store.trial(store.find(trial))
    return _explained(
        name,
        exporter.extra,
        lambda: _export_loaded(exporter, store, record, _path(to), [os.fspath(file) for file in plugins]),
    )


def _export_loaded(
    exporter: Any, store: Store, record: TrialRecord, target: Path | None, plugins: Sequence[str]
) -> Exported:
    from fathomlab.api import tensors  # imports torch
    from fathomlab.execute.pack.settings import deterministic_mode

    tensors.check_finished(record)
    precision = "fp32" if record.provenance.precision == "bf16" else None
    name, condition = next(iter(experiments_of(store).get(record.trial, ())), ("", ConditionRecord()))
    experiment = store.experiment(name) if name else ExperimentRecord("", record.folder)
    loaded = LoadedTrial(
        record,
        tensors.architecture(record, plugins),
        lambda which: tensors.load_model(record, which, plugins, precision),
        lambda: tensors.test_set(record),
        experiment.title or name,
        condition.label,
        condition.role,
        next((pair.seed for pair in condition.trials if pair.trial == record.trial), None),
        _accuracies(store, condition),
    )
    with deterministic_mode():
        return exporter.export(loaded, target)


def _accuracies(store: Store, condition: ConditionRecord) -> dict[int, Number]:
    """Test accuracy of each finished trial of a condition, by seed."""
    records = {pair.seed: store.trial(pair.trial) for pair in condition.trials}
    values = {
        seed: record.metrics.get("test/accuracy") for seed, record in records.items() if record.status == "finished"
    }
    return {seed: value for seed, value in values.items() if value is not None}


def _exporter(name: str, subject: str, options: dict[str, Any]) -> Any:
    """The exporter with these options.

    Raises:
        UserError: If there is none with this name, it exports something else, or an option is invalid.
    """
    if problem := EXPORTERS.unsupported(name):
        raise UserError("unknown-exporter", problem)
    if EXPORTERS[name].subject != subject:
        text = f"{name} exports one {EXPORTERS[name].subject}, not one {subject}."
        raise UserError("wrong-subject", f"{text} Exporters of one {subject}: {', '.join(exporters_of(subject))}.")
    problems: list[Issue] = []
    exporter = EXPORTERS.make(name, options, "", problems)
    if exporter is None:
        raise ConfigError(f"export {name}", problems)
    return exporter


def exporters_of(subject: str) -> list[str]:
    """Names of the exporters of an `experiment` or of one `trial`."""
    return [name for name, exporter in EXPORTERS.items() if exporter.subject == subject]


def _path(to: str | os.PathLike[str] | None) -> Path | None:
    return None if to is None else Path(to)


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
