"""Controlled experiments on deep networks: one YAML file in; trained networks, measurements, and a report out.

    import fathomlab
    results = fathomlab.run("configs/config_exp1_2.yaml", "experiment.seeds=5", quick=True)
    results.verdicts, results.plot("accuracy"), results.table()

Importing the package loads neither PyTorch nor any other large library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fathomlab.api import Experiment as Experiment
    from fathomlab.api import Results as Results
    from fathomlab.api import Runs as Runs
    from fathomlab.api import StoredTrial as StoredTrial
    from fathomlab.api import Trials as Trials
    from fathomlab.api import build_loss as build_loss
    from fathomlab.api import build_model as build_model
    from fathomlab.api import load as load
    from fathomlab.api import open_store as open_store
    from fathomlab.api import run as run
    from fathomlab.base.errors import ConfigError as ConfigError
    from fathomlab.base.errors import UserError as UserError
    from fathomlab.data.arrays import Arrays as Arrays
    from fathomlab.execute.signals import RunInterrupted as RunInterrupted
    from fathomlab.probes.columns import Column as Column

_LAZY_EXPORTS = {
    "load": ("fathomlab.api", "load"),
    "run": ("fathomlab.api", "run"),
    "open_store": ("fathomlab.api", "open_store"),
    "build_loss": ("fathomlab.api", "build_loss"),
    "build_model": ("fathomlab.api", "build_model"),
    "Results": ("fathomlab.api", "Results"),
    "Experiment": ("fathomlab.api", "Experiment"),
    "Runs": ("fathomlab.api", "Runs"),
    "Arrays": ("fathomlab.data.arrays", "Arrays"),
    "StoredTrial": ("fathomlab.api", "StoredTrial"),
    "Trials": ("fathomlab.api", "Trials"),
    "ConfigError": ("fathomlab.base.errors", "ConfigError"),
    "Column": ("fathomlab.probes.columns", "Column"),
    "RunInterrupted": ("fathomlab.execute.signals", "RunInterrupted"),
    "UserError": ("fathomlab.base.errors", "UserError"),
}
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module 'fathomlab' has no attribute {name!r}")
    import importlib

    module, attribute = _LAZY_EXPORTS[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*_LAZY_EXPORTS, "__version__"])
