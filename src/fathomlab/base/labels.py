"""How factors and their levels are called in labels and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    made: dict[str, Any] = {}
    for key, inner in value.items():
        made |= dotted(inner, f"{path}.{key}" if path else str(key))
    return made


def condition_label(role: str, levels: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A condition in words: its role, where it is not the only one, and the level of each factor."""
    parts = [f"{names[key]}={level_text(level)}" for key, level in levels.items()]
    return " ".join([role] * (role != "supervised") + parts) or "the network as given"


def describe_level(key: str, level: Any) -> str:
    """A factor's level as readers say it: "residual networks", "depth 40", "the baseline student".

    Example:
        >>> describe_level("model.params.residual", False), describe_level("layers_dim", 32)
        ('plain networks', 'width 32')
    """
    tail = key.rsplit(".", 1)[-1]
    if tail == "residual" and isinstance(level, bool):
        return "residual networks" if level else "plain networks"
    if tail == "role":
        return ROLE_PHRASES.get(str(level), str(level))
    if isinstance(level, bool):
        return f"{DISPLAY_NAMES.get(tail, tail.replace('_', ' '))} {'on' if level else 'off'}"
    return f"{DISPLAY_NAMES.get(tail, tail.replace('_', ' '))} {level_text(level)}"
