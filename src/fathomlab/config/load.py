"""Reads an experiment: file or mapping, quick overlay, and overrides become one document with locations."""

import copy
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fathomlab.base.errors import ConfigError, Issue, UserError, did_you_mean, format_value, unknown_key
from fathomlab.base.files import shown_path
from fathomlab.base.identity import canonical_json
from fathomlab.base.options import INVALID, parse
from fathomlab.base.output import escape_control_chars
from fathomlab.config.components import Components
from fathomlab.config.datasets import user_data
from fathomlab.config.limits import copy_mapping
from fathomlab.config.overrides import apply_overrides
from fathomlab.config.plugins import Plugin, read_plugin
from fathomlab.config.schema import ExperimentFile, Factor, RunOverrides
from fathomlab.config.yaml_reader import MAX_BYTES, Document, read_yaml

OTHER_NETWORKS = {"roles", "teacher_model", "student_model"}


@dataclass(frozen=True)
class Loaded:
    """An experiment as requested.

    Attributes:
        document: Plain data after the quick overlay and the overrides, with locations.
        file: The same as dataclasses; options of components are still raw. Sections with problems have their defaults.
        text: The file's text; `""` for a mapping.
        path: Where the file is, as it was given; None for a mapping.
        overrides: The overrides as given.
        quick: Whether the quick overlay was applied.
        run: Values of `run.*` overrides: options of the run, not of the trials.
        components: The built-in components, and those of the file's plugins.
        problems: Problems of the sections so far; `raise_config_error` reports them with the others.
    """

    document: Document
    file: ExperimentFile
    text: str
    path: Path | None
    overrides: tuple[str, ...]
    quick: bool
    run: RunOverrides
    components: Components
    problems: tuple[Issue, ...] = ()

    @property
    def name(self) -> str:
        """The name of the file, without its directory, as records keep it; "the mapping" without a file."""
        return self.document.source if self.path is None else escape_control_chars(self.path.name)


def load(
    source: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    quick: bool = False,
    models: Sequence[Plugin] = (),
    data: Any = None,
) -> Loaded:
    """Read an experiment file (or a mapping of the same format), check its sections, and load its plugins.

    Args:
        source: A path or a mapping.
        overrides: `key.path=value`; a comma or a range (`0..9`) makes a factor.
        quick: Apply the file's `quick` section first.
        models: Plugins of classes that were passed as objects. A single one is the default of `model.type`.
        data: The dataset as an object; see `fathomlab.data.objects.as_arrays`. The file then names none.

    Raises:
        ConfigError: If the text is not a mapping of plain data, or a plugin cannot be loaded.
        UserError: If the file cannot be read, or `data` is not a dataset.
    """
    document, text = _read(source)
    problems: list[Issue] = []
    if (
        len(models) == 1
        and not document.data.keys() & OTHER_NETWORKS
        and isinstance(document.data.get("model", {}), dict)
    ):
        document.data.setdefault("model", {}).setdefault("type", Path(models[0].name).stem)
    if quick:
        overlay = document.data.get("quick") or {}
        if not isinstance(overlay, Mapping) or not overlay:
            raise UserError("no-quick-section", f"{document.source}: --quick requires a `quick` section.")
        _check_keys(overlay, "quick", problems)
        known = ExperimentFile.__dataclass_fields__
        _merge(document.data, {key: value for key, value in overlay.items() if key in known}, "", document)
    run = parse(RunOverrides, apply_overrides(document, overrides, problems), "run", problems)
    file = _sections(document.data, problems)
    directory = Path() if isinstance(source, Mapping) else Path(source).parent
    components = Components(user_data=user_data(directory, data))
    components = _load_plugins(directory, components, file.plugins, models, problems)
    if any(problem.path.partition("[")[0] == "plugins" for problem in problems):
        raise_config_error(document, problems)  # the components of the plugins are unknown
    return Loaded(
        document,
        file,
        text,
        None if isinstance(source, Mapping) else Path(source),
        tuple(overrides),
        quick,
        replace(RunOverrides() if run is INVALID else run, slurm=file.run.slurm),
        components,
        tuple(problems),
    )


def _load_plugins(
    directory: Path, components: Components, names: Sequence[str], models: Sequence[Plugin], problems: list[Issue]
) -> Components:
    """Add the plugins of an experiment, which are relative to its file, or to the working directory for a mapping."""
    for index, name in enumerate(names):
        try:
            components = components.extended(read_plugin(directory / name))
        except UserError as error:
            problems.append(Issue(error.code, f"plugins[{index}]", escape_control_chars(str(error))))
    for model in models:
        try:
            components = components.extended(model)
        except UserError as error:
            problems.append(Issue(error.code, "plugins", escape_control_chars(str(error))))
    return components


def _sections(data: Mapping[str, Any], problems: list[Issue]) -> ExperimentFile:
    """The file's sections; one with problems gets its default, so that the others can still be judged."""
    file = parse(ExperimentFile, data, "", problems)
    if isinstance(file, ExperimentFile):
        return file
    sections: dict[str, Any] = {}
    for name in ExperimentFile.__dataclass_fields__:
        if name in data:
            section = parse(ExperimentFile, {name: data[name]}, "", [])
            if isinstance(section, ExperimentFile):
                sections[name] = getattr(section, name)
    return ExperimentFile(**sections)


def parse_factors(file: ExperimentFile, problems: list[Issue]) -> dict[str, Factor]:
    """The file's factors by dotted key, with levels as plain data; adds what is wrong with others to `problems`."""
    factors: dict[str, Factor] = {}
    for key, value in file.experiment.factors.items():
        path = f"experiment.factors.{key}"
        if not all(key.split(".")):
            problems.append(
                Issue("invalid-key", "experiment.factors", f"invalid key {format_value(key)}: has an empty part")
            )
            continue
        if key in ("seed", "experiment.seeds"):
            problems.append(Issue("seed-factor", path, "seeds cannot be a factor; set experiment.seeds instead"))
        options = value if isinstance(value, Mapping) else {"levels": value}
        factor = parse(Factor, options, path, problems)
        if isinstance(factor, Factor):
            factors[key] = factor
            if not factor.levels:
                problems.append(Issue("no-levels", path, "must have at least one level, got []"))
            if len({canonical_json(level) for level in factor.levels}) < len(factor.levels):
                problems.append(Issue("duplicate-level", path, "duplicate level; remove one"))
    return factors


def raise_config_error(document: Document, problems: Sequence[Issue]) -> None:
    """Raise all problems with their locations, in the order of the file, overrides last.

    Raises:
        ConfigError: If there is at least one problem.
    """
    if not problems:
        return
    unique = {(problem.path, problem.message): problem for problem in problems}
    for path, message in list(unique):  # a value of the quick form is reported once, where it is applied
        if path.startswith("quick.") and (path.removeprefix("quick."), message) in unique:
            del unique[path, message]
    located = [
        problem
        if problem.location
        else Issue(problem.code, problem.path, problem.message, document.location_of(problem.path))
        for problem in unique.values()
    ]

    def order(problem: Issue) -> tuple[int, int]:
        number = re.search(r"(\d+)$", problem.location)
        return (problem.location.startswith("override"), int(number.group()) if number else 10**9)

    raise ConfigError(document.source, sorted(located, key=order))


def _read(source: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[Document, str]:
    if isinstance(source, Mapping):
        return Document("the mapping", copy_mapping(source, "the mapping")), ""
    text = _read_bytes(source)
    return read_yaml(text, escape_control_chars(shown_path(source))), _decoded(text)


def file_text(path: str | os.PathLike[str]) -> str:
    """The text of an experiment file, as it is stored with its results.

    Raises:
        UserError: If the file cannot be read.
    """
    return _decoded(_read_bytes(path))


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError("unreadable-file", f"{escape_control_chars(str(path))}: cannot read file: {reason}.") from None


def _decoded(text: bytes) -> str:
    return text.decode("utf-8-sig", errors="replace")


def _merge(target: dict[str, Any], overlay: Mapping[str, Any], path: str, document: Document) -> None:
    for key, value in overlay.items():
        inner = f"{path}.{key}" if path else str(key)
        location = document.locations.get(f"quick.{inner}")
        if location:
            document.locations[inner] = location
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value, inner, document)
        else:
            target[key] = copy.deepcopy(value)


def _check_keys(overlay: Mapping[str, Any], path: str, problems: list[Issue]) -> None:
    known = tuple(ExperimentFile.__dataclass_fields__)
    problems.extend(
        Issue("unknown-key", f"{path}.{key}", unknown_key(key, known)) for key in overlay if key not in known
    )


def run_choice(loaded: Loaded, key: str, names: Iterable[str]) -> str:
    """Return the value of `run.KEY`: `auto` (the default), or one of `names`.

    Raises:
        UserError: If it is another name.
    """
    name, names = getattr(loaded.run, key), ["auto", *names]
    if name not in names:
        text = f"run.{key} must be one of {', '.join(names)}, got {name!r}.{did_you_mean(name, names)}"
        raise UserError("unknown-name", text)
    return name
