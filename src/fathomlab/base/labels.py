"""Names of factors, their levels, and counts in labels, tables, and messages."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Levels: TypeAlias = Mapping[str, object]  # level of each factor by dotted key; a level is any plain value
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


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 trial, 1,200 trials."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_bytes(number: float) -> str:
    """A size for people.

    Example:
        >>> format_bytes(738_568), format_bytes(1.5e9)
        ('0.7 MB', '1.5 GB')
    """
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


def last_part(key: str) -> str:
    """Return the last component of a dotted key: `residual` of `model.params.residual`."""
    return key.rsplit(".", 1)[-1]


def shortest_unique_suffixes(keys: Sequence[str]) -> dict[str, str]:
    """Map each dotted key to its shortest suffix that no other key has."""
    names = {}
    for key in keys:
        components = key.split(".")
        suffixes = (".".join(components[start:]) for start in range(len(components) - 1, -1, -1))
        names[key] = next(
            suffix for suffix in suffixes if sum(f".{candidate}".endswith(f".{suffix}") for candidate in keys) <= 1
        )
    return names


def format_level(level: Any) -> str:
    """Format a level for labels and tables: 1-1-1-1 for a list, focal(gamma=2) for a component, else as in the file."""
    if isinstance(level, bool) or level is None:
        return str(level).lower() if level is not None else "none"
    if isinstance(level, list | tuple):
        return "-".join(format_level(item) for item in level) or "none"
    if isinstance(level, Mapping):
        values = flatten_keys({key: value for key, value in level.items() if key != "type"})
        options = [f"{last_part(key)}={format_level(value)}" for key, value in values.items() if value != {}]
        return f"{level.get('type', '')}({', '.join(options)})" if options else str(level.get("type", "none"))
    return f"{level:g}" if isinstance(level, float) else str(level)


def flatten_keys(value: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested options to dotted keys. Empty sections are retained."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    options: dict[str, Any] = {}
    for key, inner in value.items():
        options |= flatten_keys(inner, f"{path}.{key}" if path else str(key))
    return options


def condition_label(role: str, levels: Levels, names: Mapping[str, str]) -> str:
    """Label of a condition: its role, unless it is `supervised`, and the level of each factor."""
    settings = [f"{names[key]}={format_level(level)}" for key, level in levels.items()]
    return " ".join([role] * (role != "supervised") + settings) or "the network as given"


def describe_level(key: str, level: Any) -> str:
    """Describe a factor's level in a sentence: "residual networks", "depth 40", "the baseline student".

    Example:
        >>> describe_level("model.params.residual", False), describe_level("layers_dim", 32)
        ('plain networks', 'width 32')
    """
    name = last_part(key)
    if name == "residual" and isinstance(level, bool):
        return "residual networks" if level else "plain networks"
    if name == "role":
        return ROLE_PHRASES.get(str(level), f"role {level}")
    if isinstance(level, bool):
        return f"{DISPLAY_NAMES.get(name, name.replace('_', ' '))} {'on' if level else 'off'}"
    return f"{DISPLAY_NAMES.get(name, name.replace('_', ' '))} {format_level(level)}"


def format_factor_level(key: str, level: Any) -> str:
    """Format a factor's level for the name of a condition.

    Example:
        >>> format_factor_level("model.params.residual", False), format_factor_level("layers_dim", 32)
        ('plain', 'width 32')
    """
    name = last_part(key)
    if name == "residual":
        return "residual" if level else "plain"
    if isinstance(level, bool):
        level = "on" if level else "off"
    return f"{DISPLAY_NAMES.get(name, name.replace('_', ' '))} {format_level(level)}"


def factor_name(key: str) -> str:
    """Name of a factor for readers: "depth", "residual connections", "learning rate"."""
    name = last_part(key)
    return "residual connections" if name == "residual" else DISPLAY_NAMES.get(name, name.replace("_", " "))
