"""The Python side of the commands: the same files, store and messages, without their exit statuses."""

from fathomlab.api.answers import compare, verify
from fathomlab.api.models import build_model
from fathomlab.api.planning import bundled, find_experiment, find_file, load
from fathomlab.api.results import Results, Runs, open_store
from fathomlab.api.running import run
from fathomlab.api.stores import default_runs, existing_runs, rewrite_reports, upkeep, write_reports

__all__ = [
    "Results",
    "Runs",
    "build_model",
    "bundled",
    "compare",
    "default_runs",
    "existing_runs",
    "find_experiment",
    "find_file",
    "load",
    "open_store",
    "rewrite_reports",
    "run",
    "upkeep",
    "verify",
    "write_reports",
]
