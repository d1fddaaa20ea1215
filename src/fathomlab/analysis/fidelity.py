"""How like its teacher a student is: agreement, divergence, and where its gain lies; and the calibration of both networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fathomlab.analysis.distillation import outcomes
from fathomlab.analysis.pairing import Paired, Student, paired
from fathomlab.analysis.study import Condition
from fathomlab.store.records import TrialRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Values = Mapping[int, float]


@dataclass(frozen=True)
class Fidelity:
    """How like its teacher a student is, by seed. Empty where predictions are not stored.

    Attributes:
        agreement: Fraction of test images for which student and teacher predict the same class.
        on_errors: The same over the images that the teacher gets wrong.
        baseline_agreement: Agreement of the baseline, which never saw the teacher, with it.
        baseline_on_errors: The same over the images that the teacher gets wrong.
        errors: Fraction of test images that the teacher gets wrong.
        gain_on_errors: Student minus baseline in accuracy over these images.
        gain_elsewhere: Student minus baseline in accuracy over the other images.
        teacher_kl: Mean KL(teacher || student) (nats).
        softened_kl: The same at the temperature of the loss (nats).
    """

    agreement: Values
    on_errors: Values
    baseline_agreement: Values
    baseline_on_errors: Values
    errors: Values
    gain_on_errors: Values
    gain_elsewhere: Values
    teacher_kl: Values
    softened_kl: Values

    @property
    def added_agreement(self) -> Paired:
        """Agreement of the student minus agreement of the baseline."""
        return paired(self.baseline_agreement, self.agreement)


@dataclass(frozen=True)
class Measure:
    """A number that says how far the probabilities of a network can be trusted.

    Attributes:
        name: What it is, with its unit in parentheses.
        raw: Its value from a trial.
        scaled: The same after temperature scaling on the validation images.
        scale: Factor for the page.
    """

    name: str
    raw: Callable[[TrialRecord], float | None]
    scaled: Callable[[TrialRecord], float | None]
    scale: float = 1.0


MEASURES = (
    Measure(
        "ECE (%)",
        lambda trial: trial.outcome.calibration_error,
        lambda trial: trial.outcome.scaled_calibration_error,
        100.0,
    ),
    Measure("NLL (nats)", lambda trial: trial.metrics.get("test/loss"), lambda trial: trial.outcome.scaled_loss),
    Measure("Brier score", lambda trial: trial.outcome.brier, lambda trial: trial.outcome.scaled_brier),
)


@dataclass
class Predictions:
    """Predictions of trials, each read once."""

    _read: "dict[str, tuple[NDArray[np.uint16] | None, NDArray[np.bool_] | None]]" = field(default_factory=dict)

    def of(self, trial: TrialRecord) -> "tuple[NDArray[np.uint16], NDArray[np.bool_]] | None":
        """The predicted class of each test image, and whether it is correct, (n,) each; None if they are not stored."""
        if trial.trial not in self._read:
            self._read[trial.trial] = (trial.predictions(), trial.correct())
        predicted, correct = self._read[trial.trial]
        return None if predicted is None or correct is None else (predicted, correct)


def fidelity(student: Student, predictions: Predictions | None = None) -> Fidelity:
    """Compare a student and its baseline with the student's teacher. Ensembles have no stored predictions."""
    known = predictions or Predictions()
    recorded = outcomes(student.condition, lambda outcome: outcome.agreement)
    columns: dict[str, dict[int, float]] = {name: {} for name in _IMAGES}
    for seed, trial in student.condition.trials:
        if student.teacher is not None and trial.status == "finished":
            before = dict(student.baseline.trials).get(seed) if student.baseline is not None else None
            for name, value in _compare(known, trial, before, dict(student.teacher.trials).get(seed)).items():
                columns[name][seed] = value
    agreement = {**columns.pop("agreement"), **recorded}
    return Fidelity(
        agreement=agreement,
        teacher_kl=outcomes(student.condition, lambda outcome: outcome.teacher_kl),
        softened_kl=outcomes(student.condition, lambda outcome: outcome.softened_kl),
        **columns,
    )


def measured(condition: Condition, value: Callable[[TrialRecord], float | None]) -> dict[int, float]:
    """Seed to a number, for each trial that finished with it."""
    values = {seed: value(trial) for seed, trial in condition.trials if trial.status == "finished"}
    return {seed: float(number) for seed, number in values.items() if number is not None}


_IMAGES = (
    "agreement",
    "on_errors",
    "baseline_agreement",
    "baseline_on_errors",
    "errors",
    "gain_on_errors",
    "gain_elsewhere",
)


def _compare(
    known: Predictions, student: TrialRecord, baseline: TrialRecord | None, teacher: TrialRecord | None
) -> dict[str, float]:
    """The numbers of one seed over the test images; without those that need predictions that are not stored."""
    mine, top = known.of(student), known.of(teacher) if teacher is not None else None
    if mine is None or top is None or len(mine[0]) != len(top[0]):
        return {}
    wrong = ~top[1]
    same = mine[0] == top[0]
    numbers = {"agreement": float(same.mean()), "errors": float(wrong.mean())}
    if wrong.any():
        numbers["on_errors"] = float(same[wrong].mean())
    low = known.of(baseline) if baseline is not None and baseline.status == "finished" else None
    if low is None or len(low[0]) != len(top[0]):
        return numbers
    also = low[0] == top[0]
    change = mine[1].astype(float) - low[1].astype(float)
    numbers["baseline_agreement"] = float(also.mean())
    for name, images in (("gain_on_errors", wrong), ("gain_elsewhere", ~wrong)):
        if images.any():
            numbers[name] = float(change[images].mean())
    if wrong.any():
        numbers["baseline_on_errors"] = float(also[wrong].mean())
    return numbers
