"""The options of trials as the fairness audit compares them, and which differences follow from a factor."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fathomlab.base.codec import JsonObject
from fathomlab.base.labels import flatten_keys
from fathomlab.base.options import parse
from fathomlab.models import MODELS
from fathomlab.plan.trial import parent_hashes

Options = Mapping[str, Any]  # by dotted key
PARENT = re.compile(r"(?:(?:teacher|start)\d*\.)+")  # in front of the options of a parent
REPLACED = {  # by a loss with a name
    "training.loss": ("training.criterion", "training.label_smoothing"),
    "distillation.loss": ("distillation.temperature", "distillation.alpha"),
}
ROLE = re.compile(r"^roles\.[^.]+\.")


def options_with_parents(
    content: JsonObject,
    contents: Mapping[str, JsonObject],
    ignored: Sequence[str] = ("format", "seed"),
    ignored_in_parents: Sequence[str] = ("format", "seed", "data", "probes"),
) -> dict[str, Any]:
    """Options by dotted key. Those of a parent follow its kind, as in `teacher.model.type`; unknown parents are left out.

    Args:
        content: Of a trial.
        contents: Of other trials, by hash.
        ignored: Sections of the trial that are left out.
        ignored_in_parents: Sections of its parents that are left out.
    """
    options = flatten_keys({key: value for key, value in content.items() if key not in (*ignored, "parents")})
    kinds = Counter[str]()
    for kind, name in parent_hashes(content):
        kinds[kind] += 1
        prefix = kind if kinds[kind] == 1 else f"{kind}{kinds[kind]}"
        if name not in contents:
            continue
        inherited = options_with_parents(contents[name], contents, ignored_in_parents, ignored_in_parents)
        options |= {f"{prefix}.{key}": value for key, value in inherited.items()}
    return options


def follows(factor: str, key: str) -> bool:
    """Whether an option is the factor itself, or an option of the component that the factor names."""
    inherited = PARENT.match(key)
    own_key = key.removeprefix(inherited[0]) if inherited else key
    if factor == "role":
        return inherited is not None or key.split(".")[0] in ("distillation", "model", "plugins")
    if factor.startswith("roles.") and ".parents." in factor:
        return inherited is not None or key.startswith("distillation.")
    if own_key == "data.sha256":  # the content of a user's dataset
        return _sectioned(factor).startswith(("data.name", "data.params."))
    section, _, last = _sectioned(factor).rpartition(".")
    if own_key.startswith("plugins.") or own_key in REPLACED.get(f"{section}.{last}".removesuffix(".type"), ()):
        return last in ("type", "name", "loss")  # the component may come from a plugin, or replace other options
    named = f"{last}_params" in key.split(".") or (last in ("type", "name") and key.startswith(f"{section}.params."))
    named = named or own_key.startswith(f"{section}.{last}.")
    of_parent = factor.startswith(("teacher_", "training_teacher", "roles."))
    return named or (own_key == _sectioned(factor) and (inherited is None or of_parent))


def is_unused(key: str, group: Sequence[Options], other: Sequence[Options]) -> bool:
    """Whether a model option does nothing at one level, so that its value there says nothing.

    Plain networks ignore how residual branches start, for example, and their trials hold the default.
    """
    prefix, _, name = key.rpartition(".")
    if not prefix.endswith("model.params"):
        return False
    values = [options.get(key) for options in other]
    return all(_ignores(options, prefix, name, value) for options in group for value in values)


def _ignores(options: Options, params: str, name: str, value: Any) -> bool:
    """Whether the model whose options are below `params` does not use this value of an option."""
    component = MODELS.get(str(options.get(f"{params.removesuffix('.params')}.type")))
    if component is None:
        return False
    given = {key.removeprefix(f"{params}."): item for key, item in options.items() if key.startswith(f"{params}.")}
    model = parse(component, {**given, name: value}, "", [])
    return isinstance(model, component) and name in dict(model.unused_options())


def was_tuned(key: str, tuned: Sequence[str], roles: Sequence[str]) -> bool:
    """Whether an option is a tuned factor, or belongs to the component that one names, so that levels may differ in it.

    Args:
        key: Dotted key of the option.
        tuned: Full keys of the factors that were tuned for the conditions of a level.
        roles: The roles of these conditions.
    """
    own_sections = tuple(f"roles.{role}." for role in roles)
    inherited = PARENT.match(key)
    option = key.removeprefix(inherited[0]) if inherited else key
    for factor in tuned:
        is_own = factor.startswith(own_sections) or not factor.startswith(("roles.", "teacher_", "training_teacher"))
        if is_own != bool(inherited) and follows(_sectioned(factor), option):
            return True
    return False


def touches(factor: str, *names: str) -> bool:
    """Whether a factor is, or belongs to, one of these."""
    return bool(set(_sectioned(factor).split(".")) & set(names))


def _sectioned(factor: str) -> str:
    """A factor as trials name it: the sections of roles are `model` and `training`."""
    factor = ROLE.sub("", factor)
    section, _, rest = factor.partition(".")
    names = {"student_model": "model", "teacher_model": "model"}
    section = names.get(section, section.removesuffix("_student").removesuffix("_teacher"))
    return f"{section}.{rest}" if rest else section
