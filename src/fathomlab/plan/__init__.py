"""From an experiment to its trials, each with its components."""

from fathomlab.plan.build import Condition, Plan, prepare, with_seeds
from fathomlab.plan.factors import Role
from fathomlab.plan.recipe import Recipe
from fathomlab.plan.trial import Trial, decode_trial, encode_trial, read_trial

__all__ = [
    "Condition",
    "Plan",
    "Recipe",
    "Role",
    "Trial",
    "decode_trial",
    "encode_trial",
    "prepare",
    "read_trial",
    "with_seeds",
]
