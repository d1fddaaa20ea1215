"""The tables of an experiment: the built-in components, and those of its plugins.

A kind of component that a plugin can define is one line in `KINDS`.
"""

import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, reduce
from typing import Any, get_args

from fathomlab.base.errors import UserError, definition_location, format_value
from fathomlab.base.table import Table
from fathomlab.config.datasets import UserData
from fathomlab.config.plugins import Plugin, load_module
from fathomlab.config.signatures import UnusableError, check_dataclass, make_component, options_of, parameters_of
from fathomlab.data import NAMED_DATASETS
from fathomlab.data.arrays import Arrays
from fathomlab.data.users import FunctionDataset
from fathomlab.losses import LOSSES, Need
from fathomlab.losses.defaults import LossDefaults
from fathomlab.losses.function import SIGNALS, FunctionLoss
from fathomlab.models import MODELS
from fathomlab.models.opaque import UserModel
from fathomlab.optim import OPTIMIZERS, SCHEDULES
from fathomlab.optim.user import is_optimizer, is_schedule, optimizer_defect, schedule_defect
from fathomlab.probes import PROBES
from fathomlab.probes.user import LOGS, UserProbe, probe_facts


@dataclass(frozen=True)
class Kind:
    """A kind of component that a plugin can define.

    Attributes:
        table: Field of `Components`.
        matches: Whether an object of a plugin is of this kind.
        component: Returns the component of an object. Raises UnusableError.
    """

    table: str
    matches: Callable[[Any], bool]
    component: Callable[[Any], type]


@dataclass(frozen=True)
class Components:
    """Tables of components.

    Attributes:
        models: For `model.type`.
        losses: For `training.loss` and `distillation.loss`.
        optimizers: For `training.optimizer`.
        schedules: For `training.scheduler`.
        probes: For `experiment.probes`.
        datasets: For `data.name`.
        plugins: The plugins whose components the tables contain.
        unusable: Names of the plugins' other classes and functions, with the reason why they are not components.
        user_data: Loads users' datasets.
    """

    models: Table[Any] = field(default_factory=lambda: MODELS)
    losses: Table[Any] = field(default_factory=lambda: LOSSES)
    optimizers: Table[Any] = field(default_factory=lambda: OPTIMIZERS)
    schedules: Table[Any] = field(default_factory=lambda: SCHEDULES)
    probes: Table[Any] = field(default_factory=lambda: PROBES)
    datasets: Table[Any] = field(default_factory=lambda: NAMED_DATASETS)
    plugins: tuple[Plugin, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    user_data: UserData = field(default_factory=UserData)

    def unsupported(self, table: Table[Any], name: object) -> str:
        """Return the problem of a name that is not in the table, or `""`."""
        problem, text = table.unsupported(name), str(name)
        if not problem or text in self.unusable:
            return problem and self.unusable[text]
        tables: list[Table[Any]] = [getattr(self, name) for name in dict.fromkeys(kind.table for kind in KINDS)]
        others = (other.kind for other in tables if other is not table and text in other)
        return problem + "".join(f" {text} is {'an' if kind[0] in 'aeiou' else 'a'} {kind}." for kind in others)

    def extended(self, plugin: Plugin) -> "Components":
        """Return tables that also contain the components of a plugin, which is loaded.

        Raises:
            UserError: If the plugin raises an error, or if it has the name of another plugin, defines a name that is already in
                a table, or imports a local module that differs from another plugin's module of the same name.
        """
        if clash := self._clash(plugin):
            raise UserError("duplicate-name", f"{plugin.name}: {clash}; rename one")
        result, module = replace(self, plugins=(*self.plugins, plugin)), load_module(plugin)
        _check_tables(plugin.name, module)
        for name, value in list(vars(module).items()):
            if not _is_defined_in(value, name, module):
                continue
            try:
                kind = _kind_of(value) or OTHER
                component = kind.component(value)
            except UnusableError as reason:
                where = definition_location(getattr(value, "__init__", None) if isinstance(value, type) else value)
                text = f"{where or f'{plugin.name}: '}{reason}"
                result = replace(result, unusable={**result.unusable, name: text})
                continue
            table: Table[Any] = getattr(result, kind.table)
            if name in table:
                raise UserError("duplicate-name", f"{plugin.name}: there is a {table.kind} {name} already; rename one")
            result = replace(result, **{kind.table: table.extended(name, component)})
        return result

    def _clash(self, plugin: Plugin) -> str:
        """What another plugin has that this one cannot have, too."""
        if plugin.name in {other.name for other in self.plugins}:
            return "another plugin has this file name"
        modules = {local.name: local for other in self.plugins for local in other.modules}
        different = [local.name for local in plugin.modules if modules.get(local.name, local) != local]
        return f"another plugin imports a different module {different[0]}" if different else ""


def with_plugins(plugins: Iterable[Plugin]) -> Components:
    """Return the built-in components and those of the plugins.

    Raises:
        UserError: As `Components.extended`.
    """
    return reduce(Components.extended, plugins, Components())


def _is_defined_in(value: Any, name: str, module: types.ModuleType) -> bool:
    """Whether a plugin defines this public object itself, under this name, so that what it imports does not count."""
    if name not in vars(module).get("__all__", [name]):
        return False
    origin = getattr(value, "__module__", None), getattr(value, "__name__", None)
    return not name.startswith("_") and origin == (module.__name__, name)


def _kind_of(value: Any) -> Kind | None:
    return next((kind for kind in KINDS if kind.matches(value)), None)


def _check_tables(file: str, module: types.ModuleType) -> None:
    """Check the tables of a plugin, such as `OPTIMIZERS = {"Lion": Lion}`. They declare what its components are for.

    Raises:
        UserError: If a table is not a mapping of names to components of its kind.
    """
    for table in dict.fromkeys(kind.table for kind in KINDS):
        declared = vars(module).get(table.upper(), {})
        if not isinstance(declared, Mapping):
            text = f"{table.upper()} must be a mapping of names to components, got {format_value(declared)}"
            raise UserError("plugin-error", f"{file}: {text}")
        for name, value in declared.items():
            kind, reason = _kind_of(value), f"must be a component of {table}"
            if not _is_defined_in(value, str(name), module):
                reason = "must be the public name of a class or function that this file defines"
            elif kind is not None and kind.table == table:
                try:
                    kind.component(value)
                    continue
                except UnusableError as error:
                    reason = str(error)
            raise UserError("plugin-error", f"{file}: {table.upper()}[{name!r}]: {reason}")


def _is_module(value: Any) -> bool:
    torch: Any = sys.modules.get("torch")  # a plugin without torch has no modules
    return torch is not None and isinstance(value, type) and issubclass(value, torch.nn.Module)


def _returns_arrays(value: Any) -> bool:
    """Whether a function is annotated to return `Arrays`, as a type or as text. A decorator may have wrapped it."""
    if not callable(value) or isinstance(value, type):
        return False
    result = getattr(value, "__annotations__", {}).get("return")
    return result is Arrays or (isinstance(result, str) and result.strip("'\"").rpartition(".")[2] == Arrays.__name__)


def _is_loss_class(value: Any) -> bool:
    return isinstance(value, type) and is_dataclass(value) and callable(getattr(value, "terms", None))


@cache
def _model(module_class: type) -> type:
    """The component of a torch module: its options are the parameters of `__init__`."""
    options = options_of(module_class, parameters_of(module_class), UserModel)
    names = {name for name, *_ in options}
    axes = {f"{axis}_key": getattr(module_class, f"{axis}_key", axis if axis in names else "") for axis in AXES}
    facts = {"module_class": module_class, **axes}
    if hasattr(module_class, "default_dataset"):
        facts["default_dataset"] = module_class.default_dataset
    if "depth" not in names:
        facts["depth"] = property(lambda self: getattr(self, axes["depth_key"], None))
    return make_component(module_class, options, UserModel, facts)


@cache
def _dataset(function: Callable[..., Any]) -> type:
    """The component of a function that returns `Arrays`: its options are the parameters."""
    options = options_of(function, parameters_of(function), FunctionDataset)
    return make_component(function, options, FunctionDataset, {"function": staticmethod(function)})


@cache
def _function_loss(function: types.FunctionType) -> type:
    """The component of a loss function: its options are the keyword-only parameters."""
    parameters = parameters_of(function)
    inputs = tuple(each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD)
    if "logits" not in inputs or set(inputs) - set(SIGNALS):
        inputs_rule = "must have the parameter logits, may have labels, teacher_logits, and label_losses"
        rule = f"a loss function {inputs_rule}, and its options follow *"
        dataset = "" if set(inputs) & set(SIGNALS) else "a dataset needs the annotation -> fathomlab.Arrays; "
        raise UnusableError(f"{function.__name__}: {dataset}{rule}, got ({', '.join(inputs)})")
    keywords = [each for each in parameters if each.name not in inputs]
    facts = {
        "function": staticmethod(function),
        "inputs": inputs,
        "needs": frozenset({"teacher.logits"} if "teacher_logits" in inputs else ()),
    }
    return make_component(function, options_of(function, keywords, FunctionLoss), FunctionLoss, facts)


def _loss_class(component: type) -> type:
    """A dataclass with `terms`."""
    check_dataclass(component)
    name, options = component.__name__, {field.name for field in fields(component)}
    for attribute, value in vars(LossDefaults).items():
        if attribute in options:
            raise UnusableError(f"{name}: the option {attribute} has a reserved name; rename it")
        if not attribute.startswith("_") and not hasattr(component, attribute):
            setattr(component, attribute, value)
    facts: Any = component
    if not isinstance(facts.needs, set | frozenset | list | tuple):
        raise UnusableError(f"{name}: needs must be a frozenset of strings, got {format_value(facts.needs)}")
    facts.needs = frozenset(facts.needs)
    if unknown := facts.needs - set(get_args(Need)):
        raise UnusableError(f"{name} has unsupported needs: {', '.join(sorted(map(str, unknown)))}")
    if type(facts.min_classes) is not int:
        raise UnusableError(f"{name}: min_classes must be an integer, got {format_value(facts.min_classes)}")
    return component


@cache
def _probe(probe_class: type) -> type:
    """The component of a class with `measure`: its options are the parameters of `__init__`."""
    if probe_class.__name__.lower() in (*LOGS, *PROBES):  # file systems may ignore case
        raise UnusableError(f"{probe_class.__name__} is a reserved name of a probe; rename it")
    options = options_of(probe_class, parameters_of(probe_class), UserProbe)
    if "at" in {name for name, *_ in options}:
        raise UnusableError(f"{probe_class.__name__}: the parameter at has a reserved name; rename it")
    try:
        return make_component(probe_class, options, UserProbe, probe_facts(probe_class))
    except ValueError as error:
        raise UnusableError(str(error)) from None


def _other(value: Any) -> type:
    """Refuse an object that is no component."""
    text = "a model is a subclass of torch.nn.Module, a probe has measure, a loss has terms, and an optimizer has step"
    raise UnusableError(f"{value.__name__} is not a component: {text}")


def _with_methods(component: type, defect: Callable[[type], str]) -> type:
    """A dataclass whose methods have no defect."""
    if text := defect(check_dataclass(component)):
        raise UnusableError(f"{component.__name__}: {text}")
    return component


AXES = ("depth", "width")
OTHER = Kind("", lambda value: True, _other)
KINDS = (
    Kind("models", _is_module, _model),
    Kind("datasets", _returns_arrays, _dataset),
    Kind("losses", inspect.isfunction, _function_loss),
    Kind("losses", _is_loss_class, _loss_class),
    Kind("optimizers", is_optimizer, lambda value: _with_methods(value, optimizer_defect)),
    Kind("probes", lambda value: isinstance(value, type) and callable(getattr(value, "measure", None)), _probe),
    Kind("schedules", is_schedule, lambda value: _with_methods(value, schedule_defect)),
)
