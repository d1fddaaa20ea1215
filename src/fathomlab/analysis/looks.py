"""Interim analyses that the store remembers: which numbers of seeds were analyzed before these.

Every experiment in the store that asks the same question with other seeds is a look at the data, because a page with verdicts
was written for it. A decision made after such a look must share the error level with it, whether the seeds were added by
`--max-seeds`, which plans its looks, or by running the file again with more seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.sequential import Look
from fathomlab.base.codec import JsonObject, from_plain
from fathomlab.base.identity import canonical_json
from fathomlab.store.records import ExperimentRecord


@dataclass(frozen=True)
class LookHistory:
    """The looks at one question.

    Attributes:
        n: Number of different seeds analyzed up to this experiment.
        looks: Looks so far and later ones, with growing n; empty if this is the only look.
        earlier: Numbers of seeds of the earlier experiments.
        changed: Whether the seeds of this experiment were chosen after results of the same question existed.
    """

    n: int = 0
    looks: tuple[Look, ...] = ()
    earlier: tuple[int, ...] = ()
    changed: bool = False

    @property
    def number(self) -> int:
        """Number of this look, counted from 1; 0 if there is only one look."""
        return sum(look.n <= self.n for look in self.looks)


def planned_looks(looks: Sequence[JsonObject]) -> tuple[Look, ...]:
    """The looks that an experiment's record contains.

    Raises:
        ValueError: If they are not looks.
    """
    return from_plain(tuple[Look, ...], list(looks)) if looks else ()


def look_history(
    experiment: ExperimentRecord, experiments: Sequence[ExperimentRecord], planned: tuple[Look, ...]
) -> LookHistory:
    """The looks at the question of an experiment.

    Args:
        experiment: The experiment in question.
        experiments: All experiments in its store.
        planned: The looks that its record contains.
    """
    history = [record for record in experiments if _same_question(record, experiment)]
    history.sort(key=lambda record: (record.created, len(record.seeds)))
    before = [record for record in history if _came_before(record, experiment)]
    after = [record for record in history if record not in before]
    seen = set[int]()
    sizes = list[int]()
    for record in before:
        seen |= _seeds(record)
        sizes.append(len(seen))
    seeds = _seeds(experiment)
    seen |= seeds
    n = len(seen)
    if not history:
        return LookHistory(n, planned)
    later = list[int]()
    for record in after:
        seen |= _seeds(record)
        later.append(len(seen))
    budget = max([len(seen), *(look.of for look in planned)])
    numbers = sorted({*sizes, *(look.n for look in planned), n, *later})
    return LookHistory(
        n,
        looks=tuple(Look(number, budget) for number in numbers) if len(numbers) > 1 else planned,
        earlier=tuple(len(_seeds(record)) for record in before),
        changed=any(_seeds(record) != seeds for record in before),
    )


def _seeds(record: ExperimentRecord) -> set[int]:
    return {pair.seed for condition in record.conditions for pair in condition.trials}


def _came_before(record: ExperimentRecord, experiment: ExperimentRecord) -> bool:
    """Records of the same second are ordered by their number of seeds: a run that adds seeds comes later."""
    return (record.created, len(record.seeds)) < (experiment.created, len(experiment.seeds))


def _same_question(record: ExperimentRecord, experiment: ExperimentRecord) -> bool:
    """Whether two experiments make the same claims about the same networks, whatever their seeds."""
    return (
        record.name != experiment.name
        and record.cause is None
        and (record.folder / "report.html").is_file()  # without a page nobody has seen the results
        and record.claims_hash == experiment.claims_hash != ""
        and canonical_json(record.fixed) == canonical_json(experiment.fixed)
        and bool(_conditions(record) & _conditions(experiment))
    )


def _conditions(record: ExperimentRecord) -> set[str]:
    return {canonical_json([condition.role, dict(condition.factors)]) for condition in record.conditions}
