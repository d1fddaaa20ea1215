"""The effect of the first claim while a run trains. It is shown as "so far", never judged."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fathomlab.analysis.contrasts import contrast
from fathomlab.analysis.evidence import evaluate
from fathomlab.analysis.study import study
from fathomlab.analysis.wording import so_far
from fathomlab.config.claims import Claim
from fathomlab.execute.events import Effect, Emit, Event, Failed, Finished, Planned
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord

EVERY_SECONDS = 3.0
BURST_SECONDS = 0.5  # the trials of a pack end together
REST = 20.0  # seconds per second of computing: a large experiment spends at most 5% of the time on its effect


class CurrentEffect:
    """Adds `Effect` events to the events of a run, at most one per 3 s, fewer if the effect takes long to compute.

    One follows when a seed has all trials that the claim compares, and there is an interval. Each trial is read once.
    """

    def __init__(self, claims: Sequence[Claim], root: Path, name: str, report: Emit):
        """Add events about the first claim.

        Args:
            claims: Claims of the experiment; without one, nothing is added.
            root: The store.
            name: Name of the experiment.
            report: Takes all events.
        """
        self._claim = next(iter(claims), None)
        self._store, self._name, self._report = _Reader(root), name, report
        self._record: ExperimentRecord | None = None
        self._pending: set[str] = set()
        self._seeds: frozenset[int] = frozenset()
        self._changed, self._next_at = False, -math.inf

    def emit(self, event: Event) -> None:
        """Report an event, and the effect if it changed."""
        self._report(event)
        if self._claim is None:
            return
        try:
            if isinstance(event, Planned):
                self._record, self._pending = self._selected(self._claim), set(event.work)
                self._changed = True
            elif isinstance(event, Finished | Failed):
                self._pending.discard(event.trial)
                self._next_at = max(self._next_at, time.monotonic() + BURST_SECONDS)
                self._changed = True
            if self._changed and time.monotonic() >= self._next_at:
                self._changed, started = False, time.monotonic()
                self._update(self._claim)
                ended = time.monotonic()
                self._next_at = max(self._next_at, ended + REST * (ended - started))
        except Exception:  # a corrupted record, for example: verdicts and reports will name it
            self._claim = None

    def _selected(self, claim: Claim) -> ExperimentRecord:
        """The record of the experiment with the conditions that the claim compares."""
        record = self._store.experiment(self._name)
        fixed = record.fixed

        def compared(condition: ConditionRecord) -> bool:
            factors = {"role": condition.role, **condition.factors}
            return any(claim.selects(factors, level, fixed) for level in claim.levels)

        return replace(record, conditions=tuple(filter(compared, record.conditions)), claims=())

    def _update(self, claim: Claim) -> None:
        record = self._record
        if record is None or not record.conditions or not self._pending:  # verdicts follow the last trial
            return
        seeds = frozenset.intersection(
            *(
                frozenset(pair.seed for pair in condition.trials if pair.trial not in self._pending)
                for condition in record.conditions
            )
        )
        if seeds == self._seeds:
            return
        self._seeds, self._next_at = seeds, time.monotonic() + EVERY_SECONDS
        conditions = tuple(
            replace(condition, trials=tuple(pair for pair in condition.trials if pair.seed in seeds))
            for condition in record.conditions
        )
        effect = evaluate(contrast(study(self._store, replace(record, conditions=conditions)), claim)).effect
        if effect is not None and effect.low is not None and effect.high is not None:
            text = so_far(claim, effect)
            self._report(Effect(claim.name, effect.mean, effect.low, effect.high, effect.n, text))


class _Reader(Store):
    """A store that reads a trial once: only trials with an outcome are asked for."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.trial = cache(super().trial)  # type: ignore[method-assign]
