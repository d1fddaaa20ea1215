"""A plan: the conditions of an experiment with their trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fathomlab.base.codec import to_plain
from fathomlab.base.identity import content_hash
from fathomlab.base.labels import Levels
from fathomlab.config.load import Loaded
from fathomlab.config.schema import TuneOptions
from fathomlab.plan.trial import Trial


@dataclass(frozen=True)
class Condition:
    """One level of each factor, and one trial per seed of the experiment, in their order."""

    label: str
    role: str
    factors: Levels
    depth: int | None
    trials: tuple[Trial, ...]


@dataclass(frozen=True, repr=False)
class Plan:
    """Everything that an experiment needs.

    Attributes:
        loaded: The experiment as requested.
        conditions: In the order of the factors.
        seeds: Replicates.
        factors: Dotted keys that vary, in order, with their levels.
        notices: Messages for the user, such as an option that has no effect.
        tune: The factors that are tuned, by their full keys, and the metric of the choice; None if there are none.
        equal_compute: Role to the role whose training MACs it spends on longer training.
    """

    loaded: Loaded
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...]
    factors: Mapping[str, tuple[Any, ...]]
    notices: tuple[str, ...]
    tune: TuneOptions | None = None
    equal_compute: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial once, parents before the trials that build on them."""
        ordered: dict[Trial, None] = {}

        def add(trial: Trial) -> None:
            if trial not in ordered:
                for _, parent in trial.parents:
                    add(parent)
                ordered[trial] = None

        for condition in self.conditions:
            for trial in condition.trials:
                add(trial)
        return tuple(ordered)

    @property
    def labels(self) -> dict[str, str]:
        """Trial hash to condition and seed in words."""
        return {
            trial.hash: f"{condition.label} seed={seed}"
            for condition in self.conditions
            for seed, trial in zip(self.seeds, condition.trials, strict=True)
        }

    @cached_property
    def hash(self) -> str:
        """Identity of the plan: its trials and questions."""
        return content_hash([[trial.hash for trial in self.trials], self.questions])

    @property
    def claims(self) -> list[Any]:
        """The claims as plain data."""
        return self.loaded.document.data.get("claims") or []

    @property
    def questions(self) -> list[Any]:
        """The claims as plain data, and how the conditions that they compare are chosen."""
        return self.claims if self.tune is None else [self.claims, to_plain(self.tune)]

    def __repr__(self) -> str:
        """Source and numbers in one line."""
        source, counts = self.loaded.name, (len(self.trials), len(self.conditions), len(self.seeds))
        return "<plan of {}: {} trials, {} conditions, {} seeds>".format(source, *counts)
