"""Finds experiments: files, numbers of bundled ones, and directories of the store."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fathomlab.base.errors import UserError, did_you_mean, format_value
from fathomlab.base.output import escape_control_chars
from fathomlab.config.load import file_text
from fathomlab.config.plugins import Plugin
from fathomlab.plan import Plan, prepare
from fathomlab.probes.user import UserProbe
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord

Source = str | os.PathLike[str] | Mapping[str, Any]
RESULTS = re.compile(r"-[0-9a-f]{8}$")
PACKAGE = Path(__file__).parents[1]
SCHEMA = "experiment.schema.json"


def load(
    source: Source,
    overrides: str | Sequence[str] = (),
    quick: bool = False,
    data: Any = None,
    model: type | Sequence[type] | None = None,
) -> Plan:
    """Read and check an experiment and plan its trials; nothing is trained.

    Args:
        source: A path to an experiment file, the name of a bundled one (such as 1_2), or a mapping of the same format.
        overrides: `key.path=value`, one or several.
        quick: Apply the file's `quick` section.
        data: The dataset, in place of `data.name` in the file: `fathomlab.Arrays`, or a dataset of (image, label) pairs as in
            torch and torchvision, of which 20% become the test set, or a tuple of such a training and a test dataset.
        model: Subclasses of `torch.nn.Module` for `model.type`, one or several. Their source becomes part of the trials. A
            single one is the model if the experiment has no section `model`.

    Raises:
        ConfigError: If the experiment has problems; all of them.
        UserError: If the file cannot be read, `data` is not a dataset, or a class cannot be stored or is not used.
    """
    path = source if isinstance(source, Mapping) else find_file(os.fspath(source))
    models: tuple[Plugin, ...] = ()
    if model is not None:
        from fathomlab.config.class_source import plugins_of

        models = plugins_of(model)
    plan = prepare(path, [overrides] if isinstance(overrides, str) else list(overrides), quick, models, data)
    used = {plugin for trial in plan.trials for plugin in trial.plugins}
    for plugin in models:
        if plugin not in used:
            name = Path(plugin.name).stem
            raise UserError("unused-model", f"model: no trial uses {name}; set model.type={name}, or do not pass it.")
    if any(isinstance(probe.component, UserProbe) for trial in plan.trials for probe in trial.probes):
        from fathomlab.execute.rehearsal import rehearse_probes

        rehearse_probes(plan)
    return plan


def find_file(name: str) -> Path:
    """The experiment file for a path, or for the name of a bundled experiment.

    Raises:
        UserError: If there is none.
    """
    path = Path(name)
    spellings = (f"config_exp{name}.yaml", f"{name}.yaml", name)
    candidates = [folder / spelling for folder in _folders() for spelling in spellings]
    match = next((candidate for candidate in (path, *candidates) if os.path.isfile(candidate)), None)
    if match is not None or path.parent != Path() or "\0" in name:
        return match or path
    known = bundled()
    hint = " It looks like a name of results: name the experiment file instead." if RESULTS.search(name) else ""
    beside = next((file for file in (f"{name}.yaml", f"{name}.yml") if os.path.isfile(file)), None)
    hint = hint or (f" Did you mean {beside!r}?" if beside else did_you_mean(name, known))
    message = f"{name}: no such file.{hint} Bundled experiments: {', '.join(known) or 'none'}."
    raise UserError("no-such-file", message)


def file_of(plan: Plan) -> str:
    """How a command names the file of a plan: one of `find_file`'s directories by its name, another one by its path."""
    path = plan.loaded.path
    return plan.loaded.name if path is None or path.parent in _folders() else str(path)


def bundled() -> list[str]:
    """Names of the bundled experiments, and of those in `configs/` of the working directory."""
    files = (file for folder in _folders() for file in folder.glob("*.yaml"))
    return sorted({file.stem.removeprefix("config_exp") for file in files})


def schema_text() -> str:
    """The JSON Schema of an experiment file, for editors."""
    match = next(path for folder in _folders()[1:] if (path := folder / SCHEMA).is_file())
    return match.read_text(encoding="utf-8")


def find_experiment(store: Store, name: str) -> str:
    """The directory in the store for the name of an experiment, its beginning, a file, or a bundled experiment.

    A file means the experiments that were run with its text.

    Raises:
        UserError: If there is none, or several, or the file cannot be read.
    """
    names = store.experiment_names()
    if name in names or not os.path.isfile(name):
        return match_experiment(names, name, str(store.root))
    text = file_text(name)
    same = [known for known in names if text and store.experiment(known).yaml == text]
    if len(same) == 1:
        return same[0]
    file = escape_control_chars(name)
    if same:
        message = f"{file}: was run in {len(same)} forms: {', '.join(same)}. Name one of them."
        raise UserError("ambiguous-experiment", message)
    near = [known for known in names if known.startswith(f"{Path(name).stem.lower()}-")] or names
    message = f"{file}: was not run with this text. Known: {', '.join(near) or 'none'}. Name one of them."
    raise UserError("no-such-experiment", message)


def match_experiment(names: Sequence[str], name: str, location: str) -> str:
    """The one of `names` that `name` means; see `find_experiment`.

    Args:
        names: All names.
        name: A name, its beginning, a file, or a bundled experiment.
        location: What contains them, for messages.

    Raises:
        UserError: If there is none, or several.
    """
    if name in names:
        return name
    stem = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    spellings = (f"config_exp{stem}-", f"{stem}-", f"config_exp{stem}", stem)
    for spelling in (spelling.lower() for spelling in spellings):
        matches = [known for known in names if known.startswith(spelling)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            text = f"{format_value(name)} matches {len(matches)} experiments: {', '.join(matches)}. Name one of them."
            raise UserError("ambiguous-experiment", text)
    near = did_you_mean(name, names) or f" Known: {', '.join(names) or 'none'}."
    raise UserError("no-such-experiment", f"no experiment {format_value(name)} in {location}.{near}")


def readable_experiment(store: Store, name: str) -> ExperimentRecord:
    """The record of an experiment, by a name as for `find_experiment`.

    Raises:
        UserError: If there is none, or several, or its record is corrupted or has another format.
    """
    return store.readable(find_experiment(store, name))


def _folders() -> tuple[Path, ...]:
    """Where experiment files are: the working directory's `configs`, the package's, and the repository's."""
    return Path("configs"), PACKAGE / "configs", PACKAGE.parents[1] / "configs"
