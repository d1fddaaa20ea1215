"""What the page says about tuned factors and about roles with equal compute, in sentences."""

from statistics import fmean

from fathomlab.analysis.options import number
from fathomlab.analysis.study import Study
from fathomlab.base.labels import factor_name, format_level
from fathomlab.config.claims import METRIC_NAMES
from fathomlab.report.numbers import format_int, listed


def tuning_sentences(study: Study) -> str:
    """How conditions were tuned, and with how many tries; "" if no factor is tuned."""
    tune, choices = study.experiment.tune, study.choices
    if tune is None or not choices:
        return ""
    names = listed(list(dict.fromkeys(factor_name(key) for key in tune.over)))
    metric = METRIC_NAMES[tune.by].lower()
    return (
        f"Tuned on the validation images: {names}. For each tuned condition, the level with the highest mean {metric} over the "
        f"seeds is compared. {_tries(study)} Test accuracy had no part in the choice. The choice and the comparison use the "
        "same seeds. In the choice, a diverged trial counts as chance accuracy."
    )


def equal_compute_sentences(study: Study) -> str:
    """Which roles spend the training compute of others on longer training; "" if none does."""
    texts: list[str] = []
    for role, named in study.experiment.equal_compute.items():
        trials = [trial for condition in study.with_role(role) for _, trial in condition.trials]
        epochs = sorted({value for trial in trials if (value := number(trial, "training.epochs")) is not None})
        numbers = f" ({listed([format_int(value) for value in epochs])} epochs)" if epochs else ""
        texts.append(f"{role} spent the training MACs of {named} on longer training{numbers}")
    return f"At equal compute, {listed(texts)}." if texts else ""


def tuning_warnings(study: Study) -> list[str]:
    """Choices at the edge of what was tried, claims with unequal tries, and choices that may still change."""
    edges = [
        f"{condition.name} ({factor_name(key)} {format_level(choice.picked.levels[key])})"
        for condition, choice in study.choices
        for key in choice.edges
    ]
    texts: list[str] = []
    if edges:
        texts.append(f"Tuned to the edge of the levels that were tried, so that others may be better: {listed(edges)}.")
    for claim in study.claims:
        selected = [condition for level in claim.levels for condition in study.selected(claim, level)]
        tries = sorted({len(condition.choice.tries) if condition.choice else 1 for condition in selected})
        if study.choices and len(tries) > 1:
            numbers = listed([str(item) for item in tries])
            texts.append(f"\u201c{claim.name}\u201d compares conditions with different numbers of tries ({numbers}).")
    open_choices = [condition.name for condition, choice in study.choices if not choice.complete]
    if open_choices:
        texts.append(f"Some trials have no validation metric, so these choices may change: {listed(open_choices)}.")
    return texts


def mean_percent(values: list[float]) -> float | None:
    """Mean of fractions in percent; None without values."""
    return 100 * fmean(values) if values else None


def _tries(study: Study) -> str:
    tries = sorted({len(choice.tries) for _, choice in study.choices})
    if len(tries) == 1:
        return f"Each of them had {tries[0]} {'try' if tries[0] == 1 else 'tries'}."
    return f"They had {tries[0]} to {tries[-1]} tries."
