"""From a file or mapping, the quick overlay and overrides to one document with positions."""

import copy
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathomlab.base.catalogue import check, check_options, unknown_key
from fathomlab.base.identity import canonical_json
from fathomlab.base.problems import ConfigError, Problem, UserError, shown
from fathomlab.config.plain import key_fault, plain_copy, printable
from fathomlab.config.schema import Claim, ExperimentFile, Factor
from fathomlab.config.yaml_reader import LARGEST_BYTES, Document, read_value, read_yaml

RANGE = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})")
LISTS = ("experiment.depths", "experiment.widths", "experiment.seeds", "data.augment")


@dataclass(frozen=True)
class Loaded:
    """An experiment as it was asked for.

    Attributes:
        document: Plain data after the quick overlay and the overrides, with positions.
        file: The same as dataclasses; what parts own is still raw.
        text: The file as given, `""` for a mapping.
        overrides: The overrides as given.
        quick: Whether the quick overlay was laid on.
        run: Values of `run.*` overrides, which change how trials are trained but not what they are.
    """

    document: Document
    file: ExperimentFile
    text: str
    overrides: tuple[str, ...]
    quick: bool
    run: Mapping[str, Any]


def load(
    source: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    quick: bool = False,
    check_parts: Callable[[Mapping[str, Any], list[Problem]], None] = lambda data, problems: None,
) -> Loaded:
    """Read an experiment file (or a mapping of the same format) and check it.

    Args:
        source: A path or a mapping.
        overrides: `key.path=value`; a comma or a range (`0..9`) makes a factor.
        quick: Lay the file's `quick` section over the rest first.
        check_parts: Adds what the tables of parts find wrong, so that it is told together with the rest.

    Raises:
        ConfigError: All problems at once, each with its place.
        UserError: The file cannot be read.
    """
    document, text = _read(source)
    problems: list[Problem] = []
    if quick:
        overlay = document.data.get("quick") or {}
        if not isinstance(overlay, Mapping) or not overlay:
            raise UserError(
                "no-quick-section", f"{document.source}: has no `quick` section, so --quick cannot be used with it."
            )
        _check_keys(overlay, "quick", problems)
        known = ExperimentFile.__dataclass_fields__
        _merge(document.data, {key: value for key, value in overlay.items() if key in known}, "", document)
    asked: dict[str, Any] = {}
    for number, text_of in enumerate(overrides, start=1):
        _override(document, text_of, f"override {number}", asked, problems)
    file = check_options(ExperimentFile, document.data, "", problems)
    run = _check_run(asked, problems)
    if problems:
        check_parts(document.data, problems)
    raise_located(document, problems)
    return Loaded(document, file, text, tuple(overrides), quick, run)


def factors_of(file: ExperimentFile, document: Document) -> dict[str, Factor]:
    """The file's factors by dotted key, with levels as plain data.

    Raises:
        ConfigError: A factor has no levels or is not a list.
    """
    problems: list[Problem] = []
    made: dict[str, Factor] = {}
    for key, value in file.experiment.factors.items():
        path = f"experiment.factors.{key}"
        if not all(key.split(".")):
            problems.append(
                Problem("invalid-key", "experiment.factors", f"has a key with an empty part (got {shown(key)}).")
            )
            continue
        if key in ("seed", "experiment.seeds"):
            problems.append(
                Problem("seed-factor", path, "a seed is a replicate, never a treatment. Use experiment.seeds.")
            )
        options = value if isinstance(value, Mapping) else {"levels": value}
        factor = check_options(Factor, options, path, problems)
        if isinstance(factor, Factor):
            made[key] = factor
            if not factor.levels:
                problems.append(Problem("no-levels", path, "has no levels (got []). Give at least one."))
            if len({canonical_json(level) for level in factor.levels}) < len(factor.levels):
                problems.append(
                    Problem("duplicate-level", path, "names a level twice; equal levels are one condition. Remove one.")
                )
    raise_located(document, problems)
    return made


def raise_located(document: Document, problems: Sequence[Problem]) -> None:
    """Raise every problem with its place, in the order of the file, the overrides last.

    Raises:
        ConfigError: There is at least one problem.
    """
    if not problems:
        return
    unique = {(problem.path, problem.message): problem for problem in problems}
    located = [
        problem if problem.place else Problem(problem.code, problem.path, problem.message, document.place(problem.path))
        for problem in unique.values()
    ]

    def order(problem: Problem) -> tuple[int, int]:
        number = re.search(r"(\d+)$", problem.place)
        return (problem.place.startswith("override"), int(number.group()) if number else 10**9)

    raise ConfigError(document.source, sorted(located, key=order))


def set_path(data: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted key, making sections on the way; a value in the way of a section is replaced."""
    *sections, last = path.split(".")
    for name in sections:
        inner = data.get(name)
        if not isinstance(inner, dict):
            inner = data[name] = {}
        data = inner
    data[last] = value


def get_path(data: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value at a dotted key, or `default`."""
    value: Any = data
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return default
        value = value[name]
    return value


def with_levels(data: Mapping[str, Any], levels: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an experiment's data in which each factor has its level."""
    copy: dict[str, Any] = dict(data)
    for key, level in levels.items():
        section: dict[str, Any] = copy
        for name in key.split(".")[:-1]:
            inner = section.get(name)
            section[name] = dict(inner) if isinstance(inner, Mapping) else {}
            section = section[name]
        set_path(copy, key, level)
    return copy


def _read(source: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[Document, str]:
    if isinstance(source, Mapping):
        return Document("the mapping", plain_copy(source, "the mapping")), ""
    path = Path(source)
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError("unreadable-file", f"{printable(str(path))}: cannot be read: {reason}.") from None
    return read_yaml(text, printable(path.name)), text.decode("utf-8-sig", errors="replace")


def _merge(target: dict[str, Any], overlay: Mapping[str, Any], path: str, document: Document) -> None:
    for key, value in overlay.items():
        inner = f"{path}.{key}" if path else str(key)
        place = document.places.get(f"quick.{inner}")
        if place:
            document.places[inner] = place
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value, inner, document)
        else:
            target[key] = copy.deepcopy(value)


def _check_keys(overlay: Mapping[str, Any], path: str, problems: list[Problem]) -> None:
    known = tuple(ExperimentFile.__dataclass_fields__)
    problems.extend(
        Problem("unknown-key", f"{path}.{key}", unknown_key(key, known)) for key in overlay if key not in known
    )


def _override(document: Document, text: str, place: str, run: dict[str, Any], problems: list[Problem]) -> None:
    path, equals, value_text = text.partition("=")
    path = path.strip()
    if not equals or not path or not all(path.split(".")) or key_fault(path):
        problems.append(Problem("invalid-override", "", f"should be key.path=value (got {shown(text)}).", place))
        return
    try:
        value, several = _override_value(value_text, place)
    except ConfigError as error:
        problems.extend(Problem(problem.code, path, problem.message, place) for problem in error.problems)
        return
    if path.startswith("run."):
        document.places[path] = place
        run[path.removeprefix("run.")] = value
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
        document.places[f"experiment.factors.{key}"] = place
        return
    if not in_factors:
        _forget_factor(document, path)
    _place_sections(document, path, place)
    set_path(document.data, path, value)
    document.places = {known: where for known, where in document.places.items() if not known.startswith(f"{path}[")}
    document.places[path] = place


def _place_sections(document: Document, path: str, place: str) -> None:
    """The sections that an override makes on its way, or puts in the place of a value, stand where it does."""
    above = path.rpartition(".")[0]
    while above and not isinstance(get_path(document.data, above), dict):
        document.places[above] = place
        above = above.rpartition(".")[0]


def _set_factor(data: dict[str, Any], key: str, levels: list[Any]) -> None:
    """Make a factor; empty sections are made, and what is no section is left for the schema to refuse."""
    if data.get("experiment") is None:
        data["experiment"] = {}
    experiment = data["experiment"]
    if isinstance(experiment, dict):
        if experiment.get("factors") is None:
            experiment["factors"] = {}
        if isinstance(experiment["factors"], dict):
            experiment["factors"][key] = levels


def _forget_factor(document: Document, path: str) -> None:
    """An override fixes a key: the factor that varied it is gone."""
    factors = get_path(document.data, "experiment.factors")
    if isinstance(factors, dict):
        factors.pop(path, None)


def _override_value(text: str, place: str) -> tuple[Any, bool]:
    """The value, and whether it is a list of levels by comma or range."""
    span = RANGE.fullmatch(text.strip())
    if span:
        first, last = int(span[1]), int(span[2])
        if not 0 <= last - first <= 100_000:
            raise ConfigError(
                place, [Problem("invalid-override", "", f"the range should go up by at most 100,000 (got {text}).")]
            )
        return list(range(first, last + 1)), True
    if ("," in text and not text.strip().startswith(("[", "{", '"', "'"))) or (
        text.strip().startswith("[") and "],[" in text
    ):
        flat = read_value(f"[{text}]", place)
        if isinstance(flat, list) and len(flat) > 1:
            return flat, True
    return read_value(text, place), False


@dataclass(frozen=True)
class RunOptions:
    """`run.*` overrides: how trials are trained; never part of what they are."""

    pack: int | None = None
    checkpoint_seconds: float | None = None


def _check_run(run: Mapping[str, Any], problems: list[Problem]) -> Mapping[str, Any]:
    options = check_options(RunOptions, run, "run", problems)
    if isinstance(options, RunOptions) and options.pack is not None and options.pack < 1:
        problems.append(Problem("out-of-range", "run.pack", f"should be at least 1 (got {options.pack})."))
    if isinstance(options, RunOptions) and (options.checkpoint_seconds or 0) < 0:
        problems.append(
            Problem(
                "out-of-range", "run.checkpoint_seconds", f"should be at least 0 (got {options.checkpoint_seconds})."
            )
        )
    return run


def check_claims(value: Any) -> tuple[Claim, ...]:
    """Claims from plain data that has been checked before, such as an experiment's record.

    Raises:
        ConfigError: It has been changed since.
    """
    problems: list[Problem] = []
    claims = check(tuple[Claim, ...], value, "claims", problems)
    if problems:
        raise ConfigError("the experiment's record", problems)
    return claims
