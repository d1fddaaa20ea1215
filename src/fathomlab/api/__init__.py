"""The Python side of the commands: the same files, store, and messages, without their exit statuses.

Names are loaded when they are first used, so that no command imports what it does not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fathomlab.api.answers import compare as compare
    from fathomlab.api.answers import verify as verify
    from fathomlab.api.collection import Trials as Trials
    from fathomlab.api.exporting import export_experiment as export_experiment
    from fathomlab.api.exporting import export_trial as export_trial
    from fathomlab.api.losses import build_loss as build_loss
    from fathomlab.api.models import build_model as build_model
    from fathomlab.api.pages import split_address as split_address
    from fathomlab.api.planning import bundled as bundled
    from fathomlab.api.planning import find_experiment as find_experiment
    from fathomlab.api.planning import find_file as find_file
    from fathomlab.api.planning import load as load
    from fathomlab.api.publishing import publish_experiment as publish_experiment
    from fathomlab.api.publishing import rebuild_page as rebuild_page
    from fathomlab.api.repetition import repeat_trial as repeat_trial
    from fathomlab.api.results import Experiment as Experiment
    from fathomlab.api.results import Results as Results
    from fathomlab.api.results import Runs as Runs
    from fathomlab.api.results import open_store as open_store
    from fathomlab.api.running import run as run
    from fathomlab.api.stores import default_runs as default_runs
    from fathomlab.api.stores import existing_runs as existing_runs
    from fathomlab.api.stores import upkeep as upkeep
    from fathomlab.api.stores import write_combined_report as write_combined_report
    from fathomlab.api.stores import write_figures as write_figures
    from fathomlab.api.stores import write_index as write_index
    from fathomlab.api.stores import write_reports as write_reports
    from fathomlab.api.trials import StoredTrial as StoredTrial

_MODULES = {
    "Experiment": "results",
    "Results": "results",
    "Runs": "results",
    "StoredTrial": "trials",
    "Trials": "collection",
    "build_loss": "losses",
    "build_model": "models",
    "bundled": "planning",
    "compare": "answers",
    "default_runs": "stores",
    "existing_runs": "stores",
    "export_experiment": "exporting",
    "export_trial": "exporting",
    "find_experiment": "planning",
    "find_file": "planning",
    "load": "planning",
    "open_store": "results",
    "publish_experiment": "publishing",
    "rebuild_page": "publishing",
    "repeat_trial": "repetition",
    "run": "running",
    "split_address": "pages",
    "upkeep": "stores",
    "verify": "answers",
    "write_combined_report": "stores",
    "write_figures": "stores",
    "write_index": "stores",
    "write_reports": "stores",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'fathomlab.api' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fathomlab.api.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(_MODULES)
