"""What the seeds of an experiment show, in plain sentences: its effects on test accuracy, without statistical terms."""

from collections.abc import Sequence

from fathomlab.analysis.pairing import emulated_mistakes
from fathomlab.analysis.study import Study
from fathomlab.report.effects import Effect, Panel, accuracy, effect_panels
from fathomlab.report.numbers import MINUS, capital, listed

MAX_LABELS = 6  # of one list in a sentence
MAX_FACTORS = 2
NO_SEED = "no common seed"
TONES = {"up": "higher", "down": "lower"}


def finding(study: Study) -> str:
    """The main result of an experiment: the effects of its first factors, or the accuracies of its conditions."""
    panels = main_panels(study)
    if not panels:
        return _accuracies(study)
    text = " ".join(map(panel_finding, panels[:MAX_FACTORS]))
    runs = "this quick run" if study.experiment.quick else "these runs"
    return f"In {runs}, {text[:1].lower()}{text[1:]}" if panels[0].known else text


def main_panels(study: Study) -> list[Panel]:
    """The effects that the experiment asks for, those with a number first.

    With residual connections or distillation, depth is a condition only.
    """
    panels = effect_panels(study)
    main = [panel for panel in panels if panel.name in ("gain", "residual")]
    others = [panel for panel in panels if panel not in main and not (main and panel.name == "depth")]
    return sorted([*main, *others], key=lambda panel: not panel.known)


def panel_finding(panel: Panel) -> str:
    """What one factor changes: where accuracy was higher, where it was lower, and where that is not clear."""
    known = panel.known
    if not known:
        reasons = [f"{effect.label}: {effect.excluded}" for effect in panel.effects if effect.excluded]
        why = f" ({listed_labels(reasons)})" if reasons else ""
        return f"The effect of {panel.subject} is unknown: no pair of trials has finished{why}."
    single = all(effect.interval is not None and effect.interval.low is None for effect in known)
    directions = [(item, _sign(item) if single else tone(item)) for item in known]
    groups = {word: [item for item, direction in directions if direction == word] for word in ("up", "down", "open")}
    parts = [
        f"{_sizes(group)} {TONES[word]}{panel.change}{_where(panel, group, clear=True)}"
        for word, group in groups.items()
        if group and word in TONES
    ]
    sentences = [f"Test accuracy was {' and '.join(parts)}."] if parts else []
    if groups["open"] and parts:
        sentences.append(f"The difference was not clear{_where(panel, groups['open'], clear=False)}.")
    elif groups["open"]:
        anywhere = panel.change or f" in any comparison of levels of {panel.subject}"
        sentences.append(f"Test accuracy was not clearly higher or lower{anywhere}.")
    if single:
        sentences.append("One seed cannot show whether this is more than chance.")
    empty = [f"{item.label} ({item.excluded or NO_SEED})" for item in panel.effects if item.interval is None]
    return " ".join([*sentences, *([f"No value: {listed_labels(empty)}."] if empty else [])])


def tone(effect: Effect) -> str:
    """The direction of an effect: "up", "down", or "open" if it is not clear."""
    return _sign(effect) if effect.clear else "open"


def listed_labels(labels: Sequence[str]) -> str:
    """Labels, or their number if there are many."""
    return "; ".join(labels) if len(labels) <= MAX_LABELS else f"{len(labels)} comparisons"


def _sign(effect: Effect) -> str:
    """The direction of the mean."""
    mean = effect.interval.mean if effect.interval is not None else 0.0
    return "up" if mean > 0 else "down" if mean < 0 else "open"


def _sizes(effects: Sequence[Effect]) -> str:
    """The sizes of effects: "5.44 points", "5.44 to 48.5 points"."""
    values = [abs(effect.interval.mean) for effect in effects if effect.interval is not None]
    low, high = (f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" for value in (min(values), max(values)))
    return f"{low} points" if low == high else f"{low} to {high} points"


def _where(panel: Panel, effects: Sequence[Effect], clear: bool) -> str:
    """For which of the comparisons: " at depth 5, 10, and 20"; "" for the only one."""
    labels = [effect.label for effect in effects]
    if len(panel.effects) == 1:
        return "" if panel.change else _contrasts(panel, effects, clear)
    if not panel.change:
        return _contrasts(panel, effects, clear)
    if len(effects) == len(panel.effects):
        return " in all comparisons" if len(labels) > 2 else f" {_preposition(labels)} {listed(labels)}"
    if len(labels) > MAX_LABELS:
        return f" in {len(labels)} of {len(panel.effects)} comparisons"
    words = [label.split() for label in labels]
    if all(len(pair) == 2 and pair[0] == words[0][0] for pair in words):
        return f" {_preposition(labels)} {words[0][0]} {listed([pair[1] for pair in words])}"
    return f" {_preposition(labels)} {_joined(labels)}"


def _contrasts(panel: Panel, effects: Sequence[Effect], clear: bool) -> str:
    """Comparisons of different levels: " for A than for B" if their direction is clear, otherwise " between A and B"."""
    if len(effects) > MAX_LABELS:
        return f" in {len(effects)} of {len(panel.effects)} comparisons"
    before, between = ("for", "than for") if clear else ("between", "and")
    labels = [item.label.replace(f" {MINUS} ", f" {between} ") for item in effects]
    return f" {_joined([f'{before} {label}' for label in labels])}"


def _joined(labels: Sequence[str]) -> str:
    return "; ".join(labels) if any("," in label for label in labels) else listed(labels)


def _preposition(labels: Sequence[str]) -> str:
    return "at" if all(label.startswith(("depth ", "width ")) for label in labels) else "for"


def _accuracies(study: Study) -> str:
    """The accuracy of the only condition, or the best and the worst."""
    correct = [item for item in study.conditions if not emulated_mistakes(item)] or study.conditions
    known = [(mean, item.name) for item in correct if (mean := accuracy(study, item)) is not None]
    if not known:
        return "No trial has finished."
    if len(known) == 1:
        return f"{capital(known[0][1])}: {known[0][0].mean:.1f}% test accuracy."
    (low, worst), (high, best) = (choose(known, key=lambda item: item[0].mean) for choose in (min, max))
    return f"Test accuracy was highest for {best} ({high.mean:.1f}%) and lowest for {worst} ({low.mean:.1f}%)."
