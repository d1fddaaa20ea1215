"""The Python side of the commands: the same files, store and messages, without their exit statuses."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathomlab.analysis.tables import columns
from fathomlab.analysis.verdicts import verdicts
from fathomlab.base.problems import ConfigError, Problem, UserError, suggestion
from fathomlab.plan import Plan
from fathomlab.report.page import write_index, write_report
from fathomlab.run.experiment import How, Summary, experiment_name, run_experiment
from fathomlab.run.progress import Mode, showing
from fathomlab.run.resolve import architecture, build_part, prepare
from fathomlab.run.signals import listening
from fathomlab.store.lock import locked
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord

if TYPE_CHECKING:
    from fathomlab.models.module import Module

Source = str | os.PathLike[str] | Mapping[str, Any]


def default_runs() -> Path:
    """The store: `FATHOMLAB_RUNS`, or `runs` in the working folder."""
    return Path(os.environ.get("FATHOMLAB_RUNS") or "runs")


def load(source: Source, overrides: str | Sequence[str] = (), quick: bool = False) -> Plan:
    """Read and check an experiment and plan its trials; nothing is trained.

    Args:
        source: A path to an experiment file, the number of one of the laboratory's, or a mapping of the same format.
        overrides: `key.path=value`, one or several.
        quick: Lay the file's `quick` section over the rest.

    Raises:
        ConfigError: Every problem at once.
        UserError: The file cannot be read.
    """
    found = source if isinstance(source, Mapping) else find_file(os.fspath(source))
    return prepare(found, [overrides] if isinstance(overrides, str) else list(overrides), quick)


def existing_runs(runs: Path | None) -> Path:
    """The store that `--runs` names.

    Raises:
        UserError: There is none.
    """
    root = runs or default_runs()
    if not (root / "trials").is_dir():
        raise UserError(f"{root}: is no store of results. Name one with --runs.")
    return root


@contextmanager
def upkeep(root: Path) -> Iterator[None]:
    """Hold a store while it is repaired.

    Raises:
        UserError: Another process trains into it.
    """
    with locked(root, wait=False, say=lambda text: print(text, file=sys.stderr)):
        yield


def rewrite_reports(root: Path) -> list[str]:
    """Write the report of every experiment that can be read, and the index; returns their paths."""
    names = [record.name for record in Store(root).experiments() if record.cause is None]
    written = [str(write_reports(root, name)) for name in names]
    return [*written, str(write_index(Store(root)))]


def find_file(name: str) -> Path:
    """The experiment file that `name` means: a path, or the number of one of the laboratory's files.

    Raises:
        UserError: There is none.
    """
    path = Path(name)
    folders = [Path("configs"), Path(__file__).parents[2] / "configs"]
    candidates = [folder / spelling for folder in folders for spelling in (f"config_exp{name}.yaml", f"{name}.yaml")]
    found = next((candidate for candidate in (path, *candidates) if candidate.is_file()), None)
    if found is not None or path.parent != Path() or "\0" in name:
        return found or path
    known = sorted({file.stem.removeprefix("config_exp") for folder in folders for file in folder.glob("*.yaml")})
    raise UserError(f"{name}: no such file.{suggestion(name, known)} Experiments here: {', '.join(known) or 'none'}.")


def run(
    source: Source | Plan,
    *overrides: str | Sequence[str],
    runs: str | os.PathLike[str] | None = None,
    quick: bool = False,
    device: str = "auto",
    workers: str | int = "auto",
    progress: Mode = "auto",
    wait: bool = False,
    allow_drift: bool = False,
) -> "Results":
    """Train what the experiment needs and the store does not have, and write its report.

    Args:
        source: As `load` takes it, or a plan.
        overrides: Likewise.
        runs: The store.
        quick: Lay the file's `quick` section over the rest.
        device: auto, cpu or cuda.
        workers: Processes, or auto.
        progress: How to show what happens, on stderr.
        wait: Wait for another process that trains into the store, instead of refusing.
        allow_drift: Go on with trials that were begun under another torch, processor, device or code.

    Raises:
        ConfigError: Every problem of the experiment at once, before any training.
        UserError: The store cannot be written, or the data are not here.
        KeyboardInterrupt: Stopped by a signal; finished trials and checkpoints stay, and the same call goes on.
    """
    words = [word for given in overrides for word in ([given] if isinstance(given, str) else given)]
    plan = source if isinstance(source, Plan) else load(source, words, quick)
    root = Path(runs) if runs is not None else default_runs()
    how = How(device, workers, wait, allow_drift)
    log = root / "experiments" / experiment_name(plan) / "log.txt"
    with listening() as stop, showing(progress, trial_labels(plan), log=log) as emit:
        summary = run_experiment(plan, root, how, emit, stop)
    report = write_reports(root, summary.experiment)
    return Results(Store(root), plan, summary, report)


def write_reports(root: Path, experiment: str) -> Path:
    """Write an experiment's report and the index over all experiments; returns the report's path."""
    store = Store(root)
    record = store.experiment(experiment)
    try:
        path = write_report(store, experiment, verdicts(store, record))
        write_index(store)
    except OSError as error:
        raise UserError(f"{root}: the report cannot be written there: {error.strerror or error}.") from None
    return path


def trial_labels(plan: Plan) -> dict[str, str]:
    """Trial hash -> condition and seed in words."""
    return {
        trial.hash: f"{condition.label} seed={trial.seed}"
        for condition in plan.conditions
        for trial in condition.trials
    }


@dataclass(frozen=True)
class Results:
    """A finished run: iterate over its trials, or take them as columns."""

    store: Store
    plan: Plan
    summary: Summary
    report: Path

    def __iter__(self) -> Iterator[TrialRecord]:
        """The trials' records in the plan's order."""
        return (self.store.trial(trial.hash) for condition in self.plan.conditions for trial in condition.trials)

    def table(self) -> dict[str, list[Any]]:
        """Plain columns, one row a trial: experiment, condition, role, factors, seed, status, metrics."""
        return columns(self.store, [experiment_name(self.plan)])

    def to_pandas(self) -> Any:
        """The table as a pandas frame.

        Raises:
            ImportError: pandas is not installed; the message says how to install it.
        """
        return _frame("pandas", self.table())

    def to_polars(self) -> Any:
        """The table as a polars frame.

        Raises:
            ImportError: polars is not installed; the message says how to install it.
        """
        return _frame("polars", self.table())


@dataclass(frozen=True)
class Runs:
    """A store opened for reading."""

    store: Store

    @property
    def experiments(self) -> list[str]:
        """Names of the experiments."""
        return [record.name for record in self.store.experiments()]

    def trial(self, prefix: str) -> TrialRecord:
        """One trial by the first digits of its hash.

        Raises:
            UserError: None or several begin so.
        """
        return self.store.trial(self.store.find(prefix))

    def __iter__(self) -> Iterator[TrialRecord]:
        """Every trial's record."""
        return (self.store.trial(trial) for trial in self.store.trials())

    def table(self, *experiments: str) -> dict[str, list[Any]]:
        """Plain columns over the named experiments, all where none is named."""
        return columns(self.store, experiments or self.experiments)

    def to_pandas(self, *experiments: str) -> Any:
        """The table as a pandas frame; raises ImportError where pandas is not installed."""
        return _frame("pandas", self.table(*experiments))

    def to_polars(self, *experiments: str) -> Any:
        """The table as a polars frame; raises ImportError where polars is not installed."""
        return _frame("polars", self.table(*experiments))


def open_runs(runs: str | os.PathLike[str] | None = None) -> Runs:
    """Open a store, by default that of `FATHOMLAB_RUNS` or `runs`."""
    return Runs(Store(Path(runs) if runs is not None else default_runs()))


def build_model(model: Mapping[str, Any], seed: int = 0) -> "Module":
    """A torch module that maps a batch of images to logits, with the initial values of `seed`.

    Args:
        model: `{"type": ..., "params": ...}` as in an experiment file. The images are those of the model's own default
            data set (28 x 28 for an MLP of 784 inputs, 3 x 32 x 32 for a CNN).

    Raises:
        ConfigError: Every problem of the options at once.
    """
    from fathomlab.models.module import Module

    problems: list[Problem] = []
    part = build_part(model, problems)
    if part is None:
        raise ConfigError("the model", problems)
    if hasattr(part, "input_size"):
        return Module(part.normal_form().build((1, 1, part.input_size)), seed)
    return Module(architecture({**model, "params": model.get("params") or {}}, part.data), seed)


def _frame(library: str, table: Mapping[str, Any]) -> Any:
    import importlib

    try:
        module = importlib.import_module(library)
    except ImportError:
        raise ImportError(f"{library} is not installed; install it with: pip install {library}") from None
    return module.DataFrame(table)
