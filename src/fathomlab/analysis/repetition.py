"""Compares a trial of a report with the same trial trained again."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from fathomlab.analysis.recorded import RecordedTrial
from fathomlab.base.labels import count
from fathomlab.prepare.drift import environment_diff
from fathomlab.store.provenance import Provenance
from fathomlab.store.records import Number

ACCURACIES = ("test/accuracy", "best/test/accuracy")
MIN_SEEDS = 3
SPREADS = 4.0  # standard deviations between seeds; 2.9 were measured (LOG.md, 2026-11-29)
FEW_SEEDS_TOLERANCE = 0.1
MIN_TOLERANCE = 0.002


@dataclass(frozen=True)
class MetricRow:
    """A metric on the page and of the repeated trial; None if it has no finite value."""

    metric: str
    page: Number | None
    repeated: Number | None

    @property
    def difference(self) -> Number | None:
        """Repeated minus page; None if one of them has no value."""
        return None if self.page is None or self.repeated is None else self.repeated - self.page


@dataclass(frozen=True)
class Repetition:
    """A trial of a report, trained again.

    Attributes:
        trial: Its hash.
        condition: Label of its condition.
        seed: Its seed.
        page_status: Its status on the page.
        status: Its status after training again.
        rows: Every metric.
        identical: Whether status, parameters, and all metrics have the same bits.
        agrees: Whether it is identical, or, if something differs that changes the rounding, within the tolerance.
        tolerance: Largest difference of an accuracy that agrees (fraction); 0 if the bits must be equal.
        basis: Where the tolerance comes from; "" if it is 0.
        changes: What differs from the training of the page and changes the rounding; empty if the bits must be equal.
    """

    trial: str
    condition: str
    seed: int
    page_status: str
    status: str
    rows: tuple[MetricRow, ...]
    identical: bool
    agrees: bool
    tolerance: float
    basis: str
    changes: tuple[str, ...]


def compare_repetition(
    page: RecordedTrial, repeated: RecordedTrial, seeds: Sequence[RecordedTrial], changes: Sequence[str] = ()
) -> Repetition:
    """Compare a trial of a page with the repeated one.

    The bits must be equal if the same pack was trained in the same environment. Otherwise the rounding differs, and the
    difference grows during training until two runs differ like two seeds. Accuracies then agree within four standard deviations
    between the seeds of the condition; docs/explanation/reliability.md has measurements.

    Args:
        page: The trial on the page.
        repeated: The trial that was trained again.
        seeds: All trials of its condition on the page.
        changes: What else differs, such as the pack.
    """
    names = dict.fromkeys((*page.metrics, *repeated.metrics))
    rows = tuple(MetricRow(name, page.metrics.get(name), repeated.metrics.get(name)) for name in names)
    same_outcome = (page.status, page.parameters) == (repeated.status, repeated.parameters)
    identical = same_outcome and all(row.page == row.repeated for row in rows)
    changes = (*changes, *provenance_changes(page.provenance, repeated.provenance))
    tolerance, basis = _tolerance(seeds) if changes else (0.0, "")
    differences = [row.difference for row in rows if row.metric in ACCURACIES]
    close = same_outcome and all(value is None or abs(value) <= tolerance for value in differences)
    return Repetition(
        trial=page.trial,
        condition=page.condition,
        seed=int(page.content["seed"]),
        page_status=page.status or "",
        status=repeated.status or "",
        rows=rows,
        identical=identical,
        agrees=identical or (bool(changes) and close),
        tolerance=tolerance,
        basis=basis,
        changes=changes,
    )


def provenance_changes(before: Provenance, now: Provenance) -> tuple[str, ...]:
    """What differs between two trainings and changes the rounding, one phrase each."""
    changes = environment_diff(before.environment or {}, now.environment or {})
    if not before.environment:
        changes.append("the environment (not recorded then)")
    pairs = {
        "the processor": (before.hardware and before.hardware.cpu, now.hardware and now.hardware.cpu),
        "the precision": (before.precision, now.precision),
        "the backend": (before.backend and before.backend.name, now.backend and now.backend.name),
        "the build of the backend": (before.backend and before.backend.build, now.backend and now.backend.build),
    }
    changes += [f"{name} ({old or 'unknown'} then, {new} now)" for name, (old, new) in pairs.items() if old != new]
    files = (before.data.files if before.data else {}), (now.data.files if now.data else {})
    changes += [f"the data file {name}" for name in files[1] if files[0].get(name) != files[1][name]]
    if any(resumption.environment != before.environment for resumption in before.resumed):
        changes.append("it was resumed in another environment then")
    return tuple(changes)


def _tolerance(seeds: Sequence[RecordedTrial]) -> tuple[float, str]:
    """The largest difference of an accuracy, and where it comes from."""
    spreads: list[tuple[float, int]] = []
    for name in ACCURACIES:
        values = [value for item in seeds if (value := item.metrics.get(name)) is not None]
        spreads += [(stdev(values), len(values))] if len(values) >= MIN_SEEDS else []
    if not spreads:
        return FEW_SEEDS_TOLERANCE, f"fewer than {MIN_SEEDS} seeds"
    spread, number = max(spreads)
    return max(MIN_TOLERANCE, SPREADS * spread), f"{SPREADS:g} standard deviations of {count(number, 'seed')}"
