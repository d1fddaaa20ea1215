"""The command that trains a trial of a store again."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fathomlab.api.planning import bundled, find_file, load
from fathomlab.base.errors import UserError
from fathomlab.config.overrides import SEEDS, spelled, without_keys
from fathomlab.config.yaml_reader import read_yaml
from fathomlab.store.records import ConditionRecord, ExperimentRecord

DIRECTORY = "repeat"  # another results directory, because this one has the result


@dataclass(frozen=True)
class RunCommand:
    """The command that trains a trial again, and what to know about it; each may be `""`."""

    command: str = ""
    note: str = ""


def run_command(trial: str, experiment: ExperimentRecord | None, condition: ConditionRecord) -> RunCommand:
    """The shortest command whose plan contains the trial.

    Code of plugins does not run here, so the commands of experiments with plugins are not checked.

    Args:
        trial: Its hash.
        experiment: An experiment that contains it; None if there is none.
        condition: Its condition in that experiment.
    """
    if experiment is None or experiment.cause is not None:
        return RunCommand(note="No readable experiment contains this trial, so no command is known.")
    overrides = [text for text in experiment.overrides if not text.startswith("-")]
    if not experiment.yaml:
        call = f"fathomlab.run(MAPPING{''.join(f', {text!r}' for text in overrides)})"
        return RunCommand(note=f"The experiment was a mapping in Python. Pass it again: {call}")
    file, path = _file(experiment.source)
    seed = next((pair.seed for pair in condition.trials if pair.trial == trial), None)
    candidates = [_narrowed(overrides, condition, seed), _with_seeds(overrides, experiment), overrides]
    quick = experiment.quick
    if path is None:
        note = f"{file} is not here. Its text is the key `yaml` of {experiment.folder / 'experiment.json'}."
        return RunCommand(_command(file, candidates[0], quick), note)
    if _runs_code(path, experiment, overrides):
        return RunCommand(_command(file, candidates[0], quick), "Not checked: the experiment has plugins or images.")
    for candidate in candidates:
        try:
            plan = load(path, candidate, quick)
        except UserError:
            continue
        if any(planned.hash == trial for planned in plan.trials):
            return RunCommand(_command(file, candidate, quick))
    note = f"{file} has changed: it no longer plans this trial. The text that did is the key `yaml` of "
    return RunCommand(note=f"{note}{experiment.folder / 'experiment.json'}.")


def _file(source: str) -> tuple[str, Path | None]:
    """The file of an experiment, as `fathomlab run` finds it; None if it is not there."""
    name = Path(source).name
    if Path(name).is_file():
        return name, Path(name)
    short = Path(name).stem.removeprefix("config_exp")
    return (short, find_file(short)) if short in bundled() else (name, None)


def _runs_code(path: Path, experiment: ExperimentRecord, overrides: Sequence[str]) -> bool:
    """Whether planning would run code of plugins or read folders of images."""
    if any(text.startswith("plugins") or "folder" in text for text in overrides):
        return True
    try:
        texts = (path.read_bytes(), experiment.yaml.encode(errors="replace"))
        documents = [read_yaml(text, path.name).data for text in texts]
    except (OSError, UserError):
        return True
    # A role, a factor, and `quick` may name the dataset, too.
    return any(data.get("plugins") or '"folder"' in json.dumps(data, default=str) for data in documents)


def _narrowed(overrides: Sequence[str], condition: ConditionRecord, seed: int | None) -> list[str]:
    """Overrides that leave one condition and one seed."""
    fixed = {key: spelled(level) for key, level in condition.factors.items()}
    fixed |= {} if seed is None else {"seed": str(seed), "experiment.seeds": "1"}
    return [*without_keys(overrides, (*fixed, *SEEDS) if seed is not None else tuple(fixed)), *_assigned(fixed)]


def _with_seeds(overrides: Sequence[str], experiment: ExperimentRecord) -> list[str]:
    """Overrides that leave all conditions, with the seeds to which the experiment has been extended."""
    fixed = {"experiment.seeds": spelled(list(experiment.seeds))}
    return [*without_keys(overrides, SEEDS), *_assigned(fixed)]


def _assigned(values: dict[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _command(file: str, overrides: Sequence[str], quick: bool) -> str:
    return shlex.join(["fathomlab", "run", file, *(["--quick"] if quick else []), *overrides, "--runs", DIRECTORY])
