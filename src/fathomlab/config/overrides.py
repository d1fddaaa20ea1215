"""Overrides of an experiment file, as the command line gives them."""

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

from fathomlab.base.errors import ConfigError, Issue, format_value
from fathomlab.config.limits import invalid_key_reason
from fathomlab.config.paths import get_path, set_path
from fathomlab.config.yaml_reader import Document, read_value

RANGE = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})")
CLAIM = re.compile(r"claims(?:\.([0-9]{1,6})|\[([0-9]{1,6})\])\.(.+)")
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_/-]*")
SEEDS = ("seed", "experiment.seeds")  # the keys that set the seeds
LISTS = ("experiment.depths", "experiment.widths", "experiment.seeds", "data.augment")


def apply_overrides(document: Document, overrides: Sequence[str], problems: list[Issue]) -> dict[str, Any]:
    """Apply `key.path=value` in order; a comma or a range (`0..9`) makes a factor.

    `claims.1.matters=0.05` (or `claims[1].matters`) changes the first claim. Two overrides of one key, and `seed` with several
    values together with `experiment.seeds`, contradict each other.

    Returns:
        The values of `run.*`, which are options of the run.
    """
    run: dict[str, Any] = {}
    first: dict[str, str] = {}
    for number, text in enumerate(overrides, start=1):
        location = f"override {number}"
        key = key_of(text)
        if key and key in first:
            problems.append(Issue("conflict", key, f"overridden twice (first by {first[key]}); remove one", location))
            continue
        first[key] = location
        _override(document, text, location, run, problems)
    if "seed" in first and "experiment.seeds" in first and document.locations.get("experiment.seeds") == first["seed"]:
        text = (
            f"`seed` with several values is the list of seeds, which {first['experiment.seeds']} also sets; remove one"
        )
        problems.append(Issue("conflict", "experiment.seeds", text, first["seed"]))
    elif "seed" in first and "experiment.seeds" in first and _several_seeds(overrides):
        text = f"`experiment.seeds` replaces the list of seeds that {first['seed']} sets; remove one"
        problems.append(Issue("conflict", "experiment.seeds", text, first["experiment.seeds"]))
    return run


def spelled(level: object) -> str:
    """A level as an override spells it.

    Example:
        >>> spelled("he"), spelled("true"), spelled([1, 1])
        ('he', '"true"', '[1, 1]')
    """
    if isinstance(level, str) and PLAIN.fullmatch(level) and level not in ("true", "false", "null"):
        return level
    return json.dumps(level)


def key_of(override: str) -> str:
    """The key that an override sets, also as a factor.

    Example:
        >>> key_of("training.lr=0.1"), key_of("experiment.factors.training.lr=0.1,0.2")
        ('training.lr', 'training.lr')
    """
    return override.partition("=")[0].strip().removeprefix("experiment.factors.")


def without_keys(overrides: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The overrides that set none of these keys."""
    return [text for text in overrides if key_of(text) not in keys]


def _several_seeds(overrides: Sequence[str]) -> bool:
    values = [text.partition("=")[2] for text in overrides if text.partition("=")[0].strip() == "seed"]
    return any("," in value or RANGE.fullmatch(value.strip()) for value in values)


def _override(document: Document, text: str, location: str, run: dict[str, Any], problems: list[Issue]) -> None:
    path, equals, value_text = text.partition("=")
    path = path.strip()
    if not equals or not path or not all(path.split(".")) or invalid_key_reason(path):
        problems.append(Issue("invalid-override", "", f"must be key.path=value, got {format_value(text)}", location))
        return
    try:
        value, several = _override_value(value_text, location)
    except ConfigError as error:
        problems.extend(Issue(problem.code, path, problem.message, location) for problem in error.problems)
        return
    if path.startswith("run."):
        document.locations[path] = location
        _override_run(document, path, value, value_text, run)
        return
    if match := CLAIM.fullmatch(path):
        _override_claim(document, int(match[1] or match[2]), match[3], value, location, problems)
        return
    if path == "seed" and several:
        path = "experiment.seeds"
    in_factors = path.startswith("experiment.factors.")
    key = path.removeprefix("experiment.factors.") if in_factors else path
    if path in LISTS or (in_factors and isinstance(value, list)):
        value = value if isinstance(value, list) or path == "experiment.seeds" else [value]
    elif several and not in_factors:
        in_factors = True
    if in_factors:
        _set_factor(document.data, key, value if isinstance(value, list) else [value])
        document.locations[f"experiment.factors.{key}"] = location
        return
    if varied := _factor_above(document, path):
        text = f"{varied} is varied by experiment.factors; set {varied}, or its levels in experiment.factors.{varied}"
        problems.append(Issue("conflict", path, text, location))
        return
    _forget_factor(document, path)
    _locate_sections(document, path, location)
    set_path(document.data, path, value)
    document.locations = {
        known: where for known, where in document.locations.items() if not known.startswith(f"{path}[")
    }
    document.locations[path] = location


def _override_run(document: Document, path: str, value: Any, text: str, run: dict[str, Any]) -> None:
    """Set an option of the run. Only `run.slurm` is a section; a comma is part of its values, such as partitions."""
    location = document.locations[path]
    if f"{path}.".startswith("run.slurm."):
        value = read_value(text, location)
        listed = [value] if path == "run.slurm.setup" and not isinstance(value, list) else value
        _locate_sections(document, path, location)
        set_path(document.data, path, listed)
    else:
        run[path.removeprefix("run.")] = value


def _override_claim(
    document: Document, number: int, key: str, value: Any, location: str, problems: list[Issue]
) -> None:
    """Change a key of a claim; claims are counted from 1."""
    claims = document.data.get("claims")
    count = len(claims) if isinstance(claims, list) else 0
    if not 1 <= number <= count or not isinstance(claims[number - 1], dict):  # type: ignore[index]
        have = f"the file has claims 1 to {count}" if count else "the file has no claims"
        problems.append(Issue("invalid-override", f"claims.{number}", f"no such claim; {have}", location))
        return
    claims[number - 1] = copy.deepcopy(claims[number - 1])  # type: ignore[index]
    set_path(claims[number - 1], key, value)  # type: ignore[index]
    document.locations[f"claims[{number - 1}].{key}"] = location


def _locate_sections(document: Document, path: str, location: str) -> None:
    """Sections that an override creates are located at the override."""
    above = path.rpartition(".")[0]
    while above and not isinstance(get_path(document.data, above), dict):
        document.locations[above] = location
        above = above.rpartition(".")[0]


def _set_factor(data: dict[str, Any], key: str, levels: list[Any]) -> None:
    """Add a factor. Anything else than a section is left for the schema to report."""
    if data.get("experiment") is None:
        data["experiment"] = {}
    experiment = data["experiment"]
    if isinstance(experiment, dict):
        if experiment.get("factors") is None:
            experiment["factors"] = {}
        if isinstance(experiment["factors"], dict):
            experiment["factors"][key] = levels


def _forget_factor(document: Document, path: str) -> None:
    """An override fixes a key, so remove the factor that varied it."""
    factors = get_path(document.data, "experiment.factors")
    if isinstance(factors, dict):
        factors.pop(path, None)


def _factor_above(document: Document, path: str) -> str:
    """The factor whose levels contain this key, which its base value does not change; `""` if there is none."""
    factors = get_path(document.data, "experiment.factors")
    known = [key for key in factors if isinstance(key, str)] if isinstance(factors, dict) else []
    return next((key for key in known if path.startswith(f"{key}.")), "")


def _override_value(text: str, location: str) -> tuple[Any, bool]:
    """The value, and whether it is a list of levels (by comma or range)."""
    span = RANGE.fullmatch(text.strip())
    if span:
        first, last = int(span[1]), int(span[2])
        if not 0 <= last - first <= 100_000:
            raise ConfigError(
                location,
                [Issue("invalid-override", "", f"invalid range {text}: must be ascending, at most 100,000 values")],
            )
        return list(range(first, last + 1)), True
    if ("," in text and not text.strip().startswith(("[", "{", '"', "'"))) or (
        text.strip().startswith("[") and "],[" in text
    ):
        flat = read_value(f"[{text}]", location)
        if isinstance(flat, list) and len(flat) > 1:
            return flat, True
    return read_value(text, location), False
