"""The methods paragraphs, generated from the recorded settings."""

from collections.abc import Mapping, Sequence

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.options import options as options_of
from fathomlab.analysis.statistics import FEWEST_FOR_BOOTSTRAP
from fathomlab.analysis.study import FAILED_STATUSES, PENDING_STATUSES, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import factor_name, format_factor_level, format_level
from fathomlab.models import MODELS
from fathomlab.report.numbers import NBSP, capital, count, listed
from fathomlab.report.parents import frozen_parameters, has_own_roles, learned_from, seed_offsets, started_from
from fathomlab.report.section import Section
from fathomlab.report.tuning import equal_compute_sentences, tuning_sentences

PARAMS = "model.params."
SMALL = 6  # longer lists of seeds are shortened


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The paragraphs of the methods."""
    paragraphs = methods(study, verdicts)
    return Section("methods", "Methods", paragraphs) if paragraphs else None


def methods(study: Study, verdicts: Sequence[Verdict]) -> list[str]:
    """The paragraphs: networks and data, training, seeds and numerics, statistics. Empty if no trial is known."""
    contents = [options for _, _, trial in study.trials if (options := options_of(trial))]
    if not contents:
        return []
    options = _OptionValues(contents)
    paragraphs = (
        f"{_design(study)} {_networks(study, options)} {_data(study, options)}",
        f"{_training(study, options)} {equal_compute_sentences(study)} {tuning_sentences(study)}",
        f"{_seeds(study)} {_numerics(study, options)}",
        f"{_measure(study)} {_statistics(study, verdicts)} {_missing(study)}",
    )
    return [" ".join(text.replace(NBSP, " ").split()) for text in paragraphs]


class _OptionValues:
    """The distinct values of each option over the trials, in order of appearance."""

    def __init__(self, contents: Sequence[Mapping[str, object]]):
        self.contents = contents

    def values(self, key: str) -> list[object]:
        values = {repr(content[key]): content[key] for content in self.contents if key in content}
        return list(values.values())

    def text(self, key: str, absent: str = "") -> str:
        values = [format_level(value) for value in self.values(key)]
        return listed(values) if values else absent

    def is_set(self, key: str) -> bool:
        return any(value not in (None, 0, 0.0, [], {}, False, "none", "None") for value in self.values(key))


def _design(study: Study) -> str:
    record = study.experiment
    levels: dict[str, list[str]] = {}
    for condition in study.conditions:
        for key, level in condition.record.factors.items():
            text = format_factor_level(key, level).removeprefix(f"{format_factor_level(key, '').strip()} ")
            if text not in levels.setdefault(key, []):
                levels[key].append(text)
    varied = [f"{factor_name(key)} ({listed(texts)})" for key, texts in levels.items() if len(texts) > 1]
    roles = list(dict.fromkeys(c.record.role for c in study.conditions if c.record.role != "supervised"))
    if roles:
        varied.append(f"role ({listed(roles)})")
    what = f", varying {listed(varied)}" if varied else ""
    who = "The quick version of the experiment (not evidence)" if record.quick else "The experiment"
    return f"{who} has {count(len(study.conditions), 'condition')}{what}."


def _networks(study: Study, options: _OptionValues) -> str:
    kinds = [f"{name}s" for name in map(str, options.values("model.type"))]
    parameters = sorted({size for condition in study.conditions if (size := condition.total_parameters) is not None})
    if not kinds:
        return ""
    size = ""
    if parameters:
        largest = f" to {parameters[-1]:,}" if len(parameters) > 1 else ""
        size = f" with {parameters[0]:,}{largest} parameters"
    chosen = ", ".join(part for part in _model_options(options) if part)
    return f"The networks are {listed(kinds)}{size}{f' ({chosen})' if chosen else ''}."


def _model_options(options: _OptionValues) -> list[str]:
    """Options of the networks in words; those of plugins' modules, whose meaning is unknown, by their names."""
    groups: tuple[list[Mapping[str, object]], list[Mapping[str, object]]] = ([], [])
    for content in options.contents:
        groups[content.get("model.type") in MODELS].append(content)
    modules, networks = map(_OptionValues, groups)
    keys = dict.fromkeys(key for content in modules.contents for key in content if key.startswith(PARAMS))
    parts = [f"{key.removeprefix(PARAMS)} {modules.text(key)}" for key in keys]
    for key, text in (
        ("activation", "{} activation"),
        ("init", "{} initialization"),
        ("layers_dim", "width {}"),
        ("width", "base width {}"),
    ):
        if networks.values(f"{PARAMS}{key}"):
            parts.append(text.format(networks.text(f"{PARAMS}{key}")))
    norm = networks.values(f"{PARAMS}batch_norm")
    if norm:
        parts.append(
            "with batch normalization" if norm == [True] else "without batch normalization" if norm == [False] else ""
        )
    if networks.is_set(f"{PARAMS}dropout"):
        parts.append(f"dropout {networks.text(f'{PARAMS}dropout')}")
    return parts


def _data(study: Study, options: _OptionValues) -> str:
    known = dict.fromkeys(trial.dataset for _, _, trial in study.trials if trial.dataset is not None)
    named = {info.name for info in known}
    sentences = [f"The dataset is {name}." for name in map(str, options.values("data.name")) if name not in named]
    for info in known:
        limits = [f"{size:,}" for size in options.values("data.limit") if isinstance(size, int)]
        used = f"{info.train_examples:,}"
        if limits:
            used = f"a stratified subset of {listed(limits)} of the {used}"
        normalized = "normalized with the mean and standard deviation of the training images"
        sentences.append(
            f"The dataset is {info.title}: {used} training images and {info.test_examples:,} test images of "
            f"{info.height} x {info.width} pixels in {info.classes} classes, "
            f"{normalized if info.is_normalized else 'used as given'}."
        )
    sentences = list(dict.fromkeys(sentences))
    if options.is_set("data.validation_split"):
        sentences.append(
            f"{options.text('data.validation_split')}% of the training images (stratified, resampled per seed) were held out "
            "for validation."
        )
    augment = [format_level(value) for value in options.values("data.augment") if value]
    sentences.append(
        f"Training images were augmented ({listed(augment)})." if augment else "No data augmentation was used."
    )
    return " ".join(sentences)


def _training(study: Study, options: _OptionValues) -> str:
    schedules = options.text("training.scheduler", "none")
    parts = [
        f"learning rate {options.text('training.lr', '?')}",
        f"batch size {options.text('data.batch_size', '?')}",
        "no schedule" if schedules == "none" else _spelled(schedules),
    ]
    for key, text in (
        ("training.optimizer_params.momentum", "momentum {}"),
        ("training.optimizer_params.weight_decay", "weight decay {}"),
        ("training.label_smoothing", "label smoothing {}"),
        ("training.gradient_clip", "gradient norm clipped at {}"),
    ):
        if options.is_set(key):
            parts.append(text.format(options.text(key)))
    epochs = options.text("training.epochs", "?")
    sentences = [
        f"Networks were trained for {epochs} epoch{'' if epochs == '1' else 's'} with "
        f"{options.text('training.optimizer', 'the optimizer')} ({', '.join(parts)}) on "
        f"{_loss(options)}."
    ]
    if options.values("training.epochs") == [1] and schedules == "CosineAnnealingLR":
        sentences.append("The schedule steps once per epoch, so it has no effect in a one-epoch run.")
    teacher = "other networks with the same seed" if has_own_roles(study) else "the teacher with the same seed"
    if options.values("distillation.alpha"):
        only = "except for tuned options, only" if study.choices else "only"
        baseline = f"; the baseline differs {only} in the loss" if study.with_role("baseline") else ""
        sentences.append(
            f"Students were distilled from {teacher} (alpha {options.text('distillation.alpha')}, "
            f"temperature {options.text('distillation.temperature')}){baseline}."
        )
    if options.values("distillation.loss.type"):
        sentences.append(f"Students learned from {teacher}, with {_named(options, 'distillation')}.")
    if options.is_set("distillation.targets"):
        sentences.append(f"With augmentation, targets of some students were {options.text('distillation.targets')}.")
    if options.is_set("distillation.placebo"):
        placebos = options.text("distillation.placebo")
        sentences.append(f"As controls, some students learned from placebos for the teacher's outputs: {placebos}.")
    sentences += [learned_from(study), started_from(study), frozen_parameters(study)]
    return " ".join(sentences)


def _loss(options: _OptionValues) -> str:
    """The losses of all trainings, in words."""
    criteria = options.values("training.criterion")
    losses = [_spelled(options.text("training.criterion"))] if criteria else []
    losses += [_named(options, "training")] if options.values("training.loss.type") else []
    return " or ".join(losses) or "the loss"


def _named(options: _OptionValues, section: str) -> str:
    """The losses that a section names, with their options."""
    prefix = f"{section}.loss.params."
    keys = dict.fromkeys(key for content in options.contents for key in content if key.startswith(prefix))
    params = ", ".join(f"{key.removeprefix(prefix)} {options.text(key)}" for key in keys)
    return f"the loss {options.text(f'{section}.loss.type')}" + (f" ({params})" if params else "")


def _seeds(study: Study) -> str:
    seeds = list(study.experiment.seeds)
    if not seeds:
        return ""
    named = listed([str(seed) for seed in seeds]) if len(seeds) <= SMALL else f"{seeds[0]} to {seeds[-1]}"
    if len(study.conditions) < 2:
        return f"The network was trained with {count(len(seeds), 'seed')} ({named})."
    return (
        f"All conditions used the same {count(len(seeds), 'seed')} ({named}). With the same seed they share the data split, "
        f"image order, and initial weights. {seed_offsets(study)}"
    )


def _numerics(study: Study, options: _OptionValues) -> str:
    records = [trial.provenance for _, _, trial in study.trials if trial.provenance.versions]
    if not records:
        return ""
    formats = _distinct([record.precision for record in records]) or options.text("training.precision")
    versions = _distinct([record.versions.get("torch", "?") for record in records])
    names = _distinct([item.gpu or item.cpu or "?" for record in records if (item := record.hardware)])
    packs = [record.pack.size for record in records if record.pack]
    packed = f" Up to {max(packs)} networks were trained in one batched program." if packs and max(packs) > 1 else ""
    again = sum(bool(record.resumed) for record in records)
    resumed = f" {count(again, 'trial')} {'was' if again == 1 else 'were'} resumed from a checkpoint." if again else ""
    return f"Training used {formats} and PyTorch {versions} on {names}.{packed}{resumed}"


def _measure(study: Study) -> str:
    weights = "after the last epoch" if study.metric == "test/accuracy" else "at the best validation epoch"
    return f"The primary metric is test accuracy {weights}; the test set was used only after training."


def _statistics(study: Study, verdicts: Sequence[Verdict]) -> str:
    intervals = (
        "Intervals are 95% t intervals over seeds; differences are paired by seed."
        if len(study.experiment.seeds) > 1
        else "With 1 seed there are no confidence intervals."
    )
    if not verdicts:
        return f"{intervals} No claims were declared."
    late = "after" if study.experiment.claims_late else "before"
    were, each = ("was", "It") if len(verdicts) == 1 else ("were", "Each claim")
    declared = f"{capital(count(len(verdicts), 'claim'))} {were} declared {late} the first trial"
    declared += ", so the verdicts are exploratory." if study.experiment.claims_late else "."
    kinds = {verdict.claim.kind for verdict in verdicts}
    tests = [
        text
        for kind, text in (
            ("difference", "paired t tests"),
            ("trend", "t tests on the least-squares slope per doubling of each seed"),
            ("success", "exact tests of success rates with Wilson intervals"),
        )
        if kind in kinds
    ]
    looks = len(study.experiment.looks)
    spent = f" Seeds were added over {count(looks, 'interim analysis')}" if looks == 1 else ""
    spent = f" Seeds were added over {looks} interim analyses" if looks > 1 else spent
    spent += " with alpha spending." if looks else ""
    n = max(verdict.n for verdict in verdicts)
    checks = ""
    if n:
        boot = n >= FEWEST_FOR_BOOTSTRAP
        checks = "Bootstrap intervals and an exact sign-flip test serve" if boot else "An exact sign-flip test serves"
        checks = f" {checks} as robustness check{'s' * boot}."
    corrected = ", Holm-corrected" if len(verdicts) > 1 else ""
    equal = [verdict.claim.expect == "equal" for verdict in verdicts]
    sides, alpha = ("with two one-sided tests", 0.05) if all(equal) else ("one-sided", 0.025)
    tested = f"{each} was tested {sides} against its smallest effect of interest ({listed(tests)}; alpha = {alpha}{corrected})."
    tested += " Claims of no difference used two one-sided tests (alpha = 0.05)." * (any(equal) and not all(equal))
    return f"{intervals} {declared} {tested}{checks}{spent}"


def _missing(study: Study) -> str:
    diverged, broken, pending = (
        sum(condition.count(*statuses) for condition in study.conditions)
        for statuses in (("diverged",), FAILED_STATUSES, PENDING_STATUSES)
    )
    parts = [f"{count(diverged, 'trial')} diverged"] * bool(diverged)
    parts += [f"{count(broken, 'trial')} failed"] * bool(broken)
    parts += [f"{count(pending, 'trial')} {'is' if pending == 1 else 'are'} pending"] * bool(pending)
    if not parts:
        return "All trials finished."
    chance = (
        " In claims about accuracy, a diverged trial counts as chance accuracy or as a failure." if diverged else ""
    )
    return f"{capital(listed(parts))}; means include finished trials only.{chance}"


def _distinct(texts: Sequence[str | None]) -> str:
    return listed(list(dict.fromkeys(text for text in texts if text)))


def _spelled(name: str) -> str:
    names = {"CrossEntropyLoss": "cross-entropy loss", "CosineAnnealingLR": "cosine annealing"}
    return names.get(name, name)
