"""From an experiment to its trials, each with its components."""

from fathomlab.config.schema import Parent
from fathomlab.plan.build import prepare, with_seeds
from fathomlab.plan.plan import Condition, Plan
from fathomlab.plan.recipe import Recipe
from fathomlab.plan.trial import Trial, decode_trial, encode_trial, parent_hashes, read_trial

__all__ = [
    "Condition",
    "Parent",
    "Plan",
    "Recipe",
    "Trial",
    "decode_trial",
    "encode_trial",
    "parent_hashes",
    "prepare",
    "read_trial",
    "with_seeds",
]
