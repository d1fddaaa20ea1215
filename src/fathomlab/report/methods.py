"""What was done, as a paragraph that can be taken over: generated from the records, so that it says what was really done."""

from collections.abc import Mapping, Sequence
from typing import Any

from fathomlab.analysis.statistics import FEWEST_FOR_BOOTSTRAP
from fathomlab.base.labels import dotted, level_text
from fathomlab.data import DATASETS
from fathomlab.report.accounts import BROKEN, PENDING
from fathomlab.report.cost import sizes
from fathomlab.report.loose import entries, mapping, number
from fathomlab.report.numbers import NBSP, capital, count, listed
from fathomlab.report.study import Study, word

SMALL = 6  # listed one by one up to so many


def methods(study: Study, verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paragraphs: networks and data, training, numerics and seeds, statistics. Empty where no trial is known."""
    contents = [own for _, _, trial in study.trials if (own := _options(trial.content))]
    if not contents:
        return []
    told = _Told(contents)
    paragraphs = (
        f"{_design(study)} {_networks(study, told)} {_data(told)}",
        _training(told),
        f"{_seeds(study)} {_numerics(study, told)}",
        f"{_measure(study)} {_statistics(study, verdicts)} {_missing(study)}",
    )
    return [" ".join(text.replace(NBSP, " ").split()) for text in paragraphs]


def _options(content: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dotted(content) if content else {}
    except RecursionError:  # a record that nests without end says nothing
        return {}


class _Told:
    """The values that an option takes over the trials, each once, in order of appearance."""

    def __init__(self, contents: Sequence[Mapping[str, Any]]):
        self.contents = contents

    def values(self, key: str) -> list[Any]:
        found = {repr(content[key]): content[key] for content in self.contents if key in content}
        return list(found.values())

    def text(self, key: str, absent: str = "") -> str:
        values = [level_text(value) for value in self.values(key)]
        return listed(values) if values else absent

    def is_set(self, key: str) -> bool:
        return any(value not in (None, 0, 0.0, [], {}, False, "none", "None") for value in self.values(key))


def _design(study: Study) -> str:
    record = study.experiment
    levels: dict[str, list[str]] = {}
    for condition in study.conditions:
        for key, level in condition.record.factors.items():
            text = word(key, level)
            if text not in levels.setdefault(key, []):
                levels[key].append(text)
    varied = [listed(texts) for texts in levels.values() if len(texts) > 1]
    roles = list(dict.fromkeys(c.record.role for c in study.conditions if c.record.role != "supervised"))
    if roles:
        varied.append(f"networks in the roles {listed(roles)}")
    what = f", which vary {'; '.join(varied)}" if varied else ""
    who = "In its shortened form, which is no evidence, the experiment" if record.quick else "The experiment"
    return f"{who} has {count(len(study.conditions), 'condition')}{what}."


def _networks(study: Study, told: _Told) -> str:
    kinds = [f"{name}s" for name in map(str, told.values("model.type"))]
    found = sizes(list(study.conditions))
    if not kinds:
        return ""
    size = ""
    if found:
        size = f" with {found[0]:,} to {found[-1]:,} parameters" if len(found) > 1 else f" with {found[0]:,} parameters"
    options: list[str] = []
    for key, text in (
        ("activation", "activation {}"),
        ("init", "{} initialisation"),
        ("layers_dim", "width {}"),
        ("width", "base width {}"),
    ):
        if told.values(f"model.params.{key}"):
            options.append(text.format(told.text(f"model.params.{key}")))
    norm = told.values("model.params.batch_norm")
    if norm:
        options.append(
            "with batch normalisation" if norm == [True] else "without batch normalisation" if norm == [False] else ""
        )
    if told.is_set("model.params.dropout"):
        options.append(f"dropout {told.text('model.params.dropout')}")
    chosen = ", ".join(option for option in options if option)
    return f"The networks are {listed(kinds)}{size}{f' ({chosen})' if chosen else ''}."


def _data(told: _Told) -> str:
    said: list[str] = []
    for name in map(str, told.values("data.name")):
        known = DATASETS.get(name)
        if known is None:
            said.append(f"The data are {name}.")
            continue
        facts = known.facts
        limits = [f"{int(size):,}" for value in told.values("data.limit") if (size := number(value)) is not None]
        used = f"{facts.train_examples:,}"
        if limits:
            used = f"{listed(limits)} (each class in its share) of the {used}"
        said.append(
            f"The data are {facts.title}: {used} training and {facts.test_examples:,} test images of "
            f"{facts.height} x {facts.width} pixels in {facts.classes} classes, normalised with the mean and standard deviation "
            "of the training images."
        )
    if told.is_set("data.validation_split"):
        said.append(
            f"{told.text('data.validation_split')} % of the training images, each class in its share, were held out for "
            "validation, drawn anew for each seed."
        )
    augment = [level_text(value) for value in told.values("data.augment") if value]
    said.append(f"Training images were augmented ({listed(augment)})." if augment else "There was no augmentation.")
    return " ".join(said)


def _training(told: _Told) -> str:
    parts = [
        f"Training minimised {_spelled(told.text('training.criterion', 'the loss'))} with "
        f"{told.text('training.optimizer', 'the optimiser')} at learning rate {told.text('training.lr', '?')}, batches of "
        f"{told.text('data.batch_size', '?')} images and {told.text('training.epochs', '?')} epochs"
    ]
    schedules = told.text("training.scheduler", "none")
    parts.append(", without a schedule." if schedules == "none" else f"; the schedule was {schedules}.")
    if told.values("training.epochs") == [1] and schedules == "CosineAnnealingLR":
        parts.append("It is stepped once an epoch, so that in a single epoch it does nothing.")
    for key, text in (
        ("training.optimizer_params.weight_decay", "weight decay {}"),
        ("training.label_smoothing", "label smoothing {}"),
        ("training.gradient_clip", "gradients clipped at norm {}"),
        ("training.optimizer_params.momentum", "momentum {}"),
    ):
        if told.is_set(key):
            parts.append(f"{capital(text.format(told.text(key)))}.")
    if told.values("distillation.alpha"):
        parts.append(
            f"Distilled students learned from their seed's teacher with alpha {told.text('distillation.alpha')} at temperature "
            f"{told.text('distillation.temperature')}; the baseline student differs from them in the loss alone."
        )
    text = parts[0] + parts[1]
    return " ".join([text, *parts[2:]])


def _seeds(study: Study) -> str:
    seeds = list(study.experiment.seeds)
    named = (
        listed([str(seed) for seed in seeds]) if len(seeds) <= SMALL else f"{seeds[0]} to {seeds[-1]}" if seeds else ""
    )
    return (
        f"Every condition was trained with the same {count(len(seeds), 'seed')} ({named}). Split, order of the images and "
        "initial weights come from separate streams of the seed, so that conditions share at each seed what they have in common."
    )


def _numerics(study: Study, told: _Told) -> str:
    records = [trial.provenance for _, _, trial in study.trials if trial.provenance]
    if not records:
        return ""
    formats = _each(records, "precision") or told.text("training.precision")
    versions = list(dict.fromkeys(str(mapping(own.get("versions")).get("torch", "?")) for own in records))
    cpus = [
        str(mapping(own.get("hardware")).get("gpu") or mapping(own.get("hardware")).get("cpu", "?")) for own in records
    ]
    packs = [int(size) for own in records if (size := number(mapping(own.get("pack")).get("size"))) is not None]
    packed = (
        f" Up to {max(packs)} networks were trained at once as one tensor program." if packs and max(packs) > 1 else ""
    )
    gone_on = sum(bool(entries(own.get("resumed"))) for own in records)
    again = f" {count(gone_on, 'trial')} went on from a checkpoint after an interruption." if gone_on else ""
    return f"Numbers are {formats}, computed with torch {listed(versions)} on {listed(list(dict.fromkeys(cpus)))}.{packed}{again}"


def _measure(study: Study) -> str:
    weights = "after the last epoch" if study.metric == "test/accuracy" else "of the epoch that was best on validation"
    return f"The headline is the accuracy on the test set with the weights {weights}; the test set was read after training only."


def _statistics(study: Study, verdicts: Sequence[Mapping[str, Any]]) -> str:
    intervals = (
        "Intervals are 95 % t intervals over seeds; differences are paired by seed."
        if len(study.experiment.seeds) > 1
        else "One seed allows no interval."
    )
    if not verdicts:
        return f"{intervals} No claim was declared."
    late = " after the first trial, so that their verdicts are exploratory" if study.experiment.claims_late else ""
    early = "" if late else " before the first trial"
    claims = count(len(verdicts), "claim")
    kinds = {str(verdict.get("kind")) for verdict in verdicts}
    said = f"{capital(claims)} {'was' if len(verdicts) == 1 else 'were'} declared{early}{late}."
    tests = "Each is decided by one-sided tests against the smallest effect that matters, at 2.5 %"
    tests += " (a claim of no difference by two one-sided tests at 5 %)" if _equal(verdicts) else ""
    tests += ", Holm-adjusted over the claims" if len(verdicts) > 1 else ""
    used: list[str] = []
    if kinds & {"difference", "None"}:
        used.append("t tests on paired differences")
    if "trend" in kinds:
        used.append("t tests on each seed's least-squares slope per doubling")
    if "success" in kinds:
        used.append("exact tests on fractions of seeds with Wilson intervals")
    looks = len(study.experiment.looks)
    spent = f" The level was spent over {count(looks, 'look')} (group-sequential)." if looks else ""
    n = max((int(number(verdict.get("n")) or 0) for verdict in verdicts), default=0)
    boot = " Percentile bootstraps, labelled so, stand beside them." if n >= FEWEST_FOR_BOOTSTRAP else ""
    exact = " The exact sign-flip test is a check." if n else ""
    return f"{intervals} {said} {tests}; these are {listed(used)}.{exact}{boot}{spent}"


def _equal(verdicts: Sequence[Mapping[str, Any]]) -> bool:
    return any(verdict.get("expect") == "equal" for verdict in verdicts)


def _missing(study: Study) -> str:
    broken = sum(condition.count(*BROKEN) for condition in study.conditions)
    pending = sum(condition.count(*PENDING) for condition in study.conditions)
    parts = [f"{count(broken, 'trial')} gave no result"] * bool(broken) + [
        f"{count(pending, 'trial')} not done yet"
    ] * bool(pending)
    return f"{capital(listed(parts))}; means are over those that finished." if parts else "No trial failed."


def _each(records: Sequence[Mapping[str, Any]], key: str) -> str:
    return listed(list(dict.fromkeys(str(own[key]) for own in records if own.get(key))))


def _spelled(criterion: str) -> str:
    return {"CrossEntropyLoss": "the cross-entropy"}.get(criterion, criterion)
