"""How factors and their levels are called in labels and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

Levels = Mapping[str, Any]  # of the factors of a condition, by dotted key
DISPLAY_NAMES = {
    "hidden_layers_num": "depth",
    "layers_dim": "width",
    "batch_norm": "batch norm",
    "lr": "learning rate",
    "layers": "blocks",
    "init": "initialization",
}
ROLE_PHRASES = {
    "teacher": "the teacher",
    "baseline": "the baseline student",
    "distilled": "the distilled student",
}


def last_part(key: str) -> str:
    """The last part of a dotted key: `residual` of `model.params.residual`."""
    return key.rsplit(".", 1)[-1]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each dotted key that no other key shares."""
    names = {}
    for key in keys:
        parts = key.split(".")
        endings = (".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1))
        names[key] = next(
            ending for ending in endings if sum(other == ending or other.endswith(f".{ending}") for other in keys) <= 1
        )
    return names


def level_text(level: Any) -> str:
    """A level as labels and tables print it: 1-1-1-1 for a list of numbers, true and false as in the file."""
    if isinstance(level, bool) or level is None:
        return str(level).lower() if level is not None else "none"
    if isinstance(level, list | tuple):
        return "-".join(level_text(item) for item in level)
    return f"{level:g}" if isinstance(level, float) else str(level)


def dotted(value: Any, path: str = "") -> dict[str, Any]:
    """Nested options by dotted key; an empty section stays as it is."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    options: dict[str, Any] = {}
    for key, inner in value.items():
        options |= dotted(inner, f"{path}.{key}" if path else str(key))
    return options


def condition_label(role: str, levels: Levels, names: Mapping[str, str]) -> str:
    """A condition in words: its role, where it is not the only one, and the level of each factor."""
    parts = [f"{names[key]}={level_text(level)}" for key, level in levels.items()]
    return " ".join([role] * (role != "supervised") + parts) or "the network as given"


def describe_level(key: str, level: Any) -> str:
    """A factor's level as readers say it: "residual networks", "depth 40", "the baseline student".

    Example:
        >>> describe_level("model.params.residual", False), describe_level("layers_dim", 32)
        ('plain networks', 'width 32')
    """
    tail = last_part(key)
    if tail == "residual" and isinstance(level, bool):
        return "residual networks" if level else "plain networks"
    if tail == "role":
        return ROLE_PHRASES.get(str(level), str(level))
    if isinstance(level, bool):
        return f"{DISPLAY_NAMES.get(tail, tail.replace('_', ' '))} {'on' if level else 'off'}"
    return f"{DISPLAY_NAMES.get(tail, tail.replace('_', ' '))} {level_text(level)}"


def format_factor_level(key: str, level: Any) -> str:
    """A factor's level in the name of a condition.

    Example:
        >>> format_factor_level("model.params.residual", False), format_factor_level("layers_dim", 32)
        ('plain', 'width 32')
    """
    tail = last_part(key)
    if tail == "residual":
        return "residual" if level else "plain"
    if isinstance(level, bool):
        level = "on" if level else "off"
    if isinstance(level, list | tuple):
        level = "-".join(str(item) for item in level)
    if isinstance(level, float):
        level = level_text(level)
    return f"{DISPLAY_NAMES.get(tail, tail.replace('_', ' '))} {level}"


def factor_name(key: str) -> str:
    """A factor for readers: "depth", "residual connections", "learning rate"."""
    tail = last_part(key)
    return "residual connections" if tail == "residual" else DISPLAY_NAMES.get(tail, tail.replace("_", " "))
