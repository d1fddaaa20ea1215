"""An experiment's numbers as plain data, which a report embeds, and the difference of two experiments."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from fathomlab.analysis.statistics import mean_interval
from fathomlab.analysis.verdicts import verdicts
from fathomlab.analysis.wording import MINUS
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord

FORMAT = 1
FATES = ("finished", "diverged", "failed")
DIGITS = 1e-12  # relative tolerance of equality


def summary(store: Store, experiment: ExperimentRecord) -> dict[str, Any]:
    """The numbers of an experiment.

    Returns:
        `format`, `name`, `title`, `headline`, `seeds`, `claims_hash`, `verdicts`, and `conditions`: each with label, role,
        factors, seeds, trials by status, and `metrics`: name -> `{mean, low, high, n}` over finished trials. The ends of the
        95% t interval are None for one trial. Diverged trials have no metrics; `trials` counts them.
    """
    return {
        "format": FORMAT,
        "name": experiment.name,
        "title": experiment.title,
        "headline": experiment.headline,
        "seeds": list(experiment.seeds),
        "claims_hash": experiment.claims_hash,
        "conditions": [_condition(store, condition) for condition in experiment.conditions],
        "verdicts": verdicts(store, experiment),
    }


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows in which two summaries can be compared.

    Returns:
        `{"what", "metric", "first", "second", "change", "state"}` for each metric of each condition, the numbers of trials,
        and each verdict. `state` is `only first`, `only second`, `changed`, or `equal`; `change` is second minus first (None
        if one is missing or not a number).
    """
    rows = []
    for what, one, other in _joined(_by_condition(first), _by_condition(second)):
        if one is None or other is None:
            rows.append(_row(what, "", None if one is None else "", None if other is None else ""))
            continue
        for fate in FATES:
            counts = one.get("trials", {}).get(fate, 0), other.get("trials", {}).get(fate, 0)
            rows.append(_row(what, f"trials {fate}", *counts))
        for metric, here, there in _joined(one.get("metrics", {}), other.get("metrics", {})):
            rows.append(_row(what, metric, here and here["mean"], there and there["mean"]))
    for name, one, other in _joined(_by_claim(first), _by_claim(second)):
        for key in ("verdict", "effect"):
            rows.append(_row(f"claim: {name}", key, one and one.get(key), other and other.get(key)))
    return rows


def lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per row that is not equal, and the number of equal rows."""
    equal = sum(row["state"] == "equal" for row in rows)
    changed = [_line(row) for row in rows if row["state"] != "equal"]
    return [*changed, f"{equal} of {len(rows)} numbers are equal."]


def _condition(store: Store, condition: ConditionRecord) -> dict[str, Any]:
    trials = [store.trial(trial) for _, trial in condition.trials]
    values: dict[str, list[float]] = {}
    for trial in trials:
        for name, value in trial.metrics.items() if trial.status == "finished" else ():
            if value is not None:
                values.setdefault(name, []).append(value)
    means = {name: mean_interval(found) for name, found in sorted(values.items())}
    return {
        "label": condition.label,
        "role": condition.role,
        "factors": dict(condition.factors),
        "seeds": [seed for seed, _ in condition.trials],
        "trials": {fate: sum(trial.status == fate for trial in trials) for fate in FATES},
        "metrics": {
            name: {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
            for name, found in means.items()
        },
    }


def _by_condition(about: Mapping[str, Any]) -> dict[str, Any]:
    return {str(condition["label"]): condition for condition in about.get("conditions", [])}


def _by_claim(about: Mapping[str, Any]) -> dict[str, Any]:
    return {str(verdict["name"]): verdict for verdict in about.get("verdicts", [])}


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Every key of either mapping with both values, None if missing."""
    return [(key, first.get(key), second.get(key)) for key in dict.fromkeys((*first, *second))]


def _row(what: str, metric: str, first: Any, second: Any) -> dict[str, Any]:
    numbers = all(isinstance(value, int | float) for value in (first, second))
    change = cast(float, second) - cast(float, first) if numbers else None
    if first is None and second is None:
        state = "equal"
    elif first is None or second is None:
        state = "only second" if first is None else "only first"
    elif change is not None:
        state = "equal" if abs(change) <= DIGITS * max(abs(first), abs(second)) else "changed"
    else:
        state = "equal" if first == second else "changed"
    return {"what": what, "metric": metric, "first": first, "second": second, "change": change, "state": state}


def _line(row: Mapping[str, Any]) -> str:
    about = ", ".join(text for text in (row["what"], row["metric"]) if text)
    if row["state"] != "changed":
        value = _text(row["metric"], row["first"] if row["state"] == "only first" else row["second"])
        return f"{about}{f': {value},' if value else ':'} {row['state'].replace('only', 'only in the')}"
    here, there = (_text(row["metric"], row[key]) for key in ("first", "second"))
    change = "" if row["change"] is None else f" ({_change(row['metric'], row['change'])})"
    return f"{about}: {here} -> {there}{change}"


def _text(metric: str, value: Any) -> str:
    if isinstance(value, float):
        text = f"{100 * value:.2f}%" if metric.endswith("accuracy") else f"{value:.6g}"
        return text.replace("-", MINUS)
    return str(value)


def _change(metric: str, change: float) -> str:
    text = f"{100 * change:+.2f} points" if metric.endswith("accuracy") else f"{change:+.4g}"
    return text.replace("-", MINUS)
