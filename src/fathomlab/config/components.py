"""The tables of an experiment: the built-in components, and those of its plugins.

A kind of component that a plugin can define is one line in `KINDS`.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass, make_dataclass, replace
from functools import cache, reduce
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fathomlab.base.errors import Issue, UserError, format_value
from fathomlab.base.options import INVALID, option_types, parse, to_dict
from fathomlab.base.table import Table
from fathomlab.config.datasets import UserData
from fathomlab.config.plugins import Plugin, load_module
from fathomlab.data import NAMED_DATASETS
from fathomlab.data.arrays import Arrays
from fathomlab.data.users import FunctionDataset
from fathomlab.losses import LOSSES, Need
from fathomlab.losses.function import SIGNALS, FunctionLoss
from fathomlab.models import MODELS
from fathomlab.models.opaque import UserModel

OPTION_TYPES = (bool, int, float, str, type(None))


class UnusableError(ValueError):
    """Why an object of a plugin cannot be a component. It is reported when an experiment names the object."""


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
        datasets: For `data.name`.
        plugins: The plugins whose components the tables contain.
        unusable: Names of the plugins' other objects of these kinds, with the reason why they are not components.
        user_data: Loads users' datasets.
    """

    models: Table[Any] = field(default_factory=lambda: MODELS)
    losses: Table[Any] = field(default_factory=lambda: LOSSES)
    datasets: Table[Any] = field(default_factory=lambda: NAMED_DATASETS)
    plugins: tuple[Plugin, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    user_data: UserData = field(default_factory=UserData)

    def unsupported(self, table: Table[Any], name: object) -> str:
        """Return the problem of a name that is not in the table, or `""`."""
        problem, text = table.unsupported(name), str(name)
        if not problem or text in self.unusable:
            return problem and self.unusable[text]
        others = (f" {text} is a {other.kind}." for other in (self.models, self.losses, self.datasets) if text in other)
        return problem + "".join(others)

    def extended(self, plugin: Plugin) -> "Components":
        """Return tables that also contain the components of a plugin, which is loaded.

        Raises:
            UserError: If the plugin raises an error, or if it has the name of another plugin, defines a name that is already in
                a table, or imports a local module that differs from another plugin's module of the same name.
        """
        if clash := self._clash(plugin):
            raise UserError("duplicate-name", f"{plugin.name}: {clash}; rename one")
        result, module = replace(self, plugins=(*self.plugins, plugin)), load_module(plugin)
        for name, value in list(vars(module).items()):
            kind = _kind_of(value) if _is_defined_in(value, name, module) else None
            if kind is None:
                continue
            table: Table[Any] = getattr(result, kind.table)
            try:
                component = kind.component(value)
            except UnusableError as reason:
                result = replace(result, unusable={**result.unusable, name: f"{plugin.name}: {reason}"})
                continue
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
    origin = getattr(value, "__module__", None), getattr(value, "__name__", None)
    return not name.startswith("_") and origin == (module.__name__, name)


def _kind_of(value: Any) -> Kind | None:
    return next((kind for kind in KINDS if kind.matches(value)), None)


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
    options = _options(module_class.__name__, module_class.__init__, _parameters(module_class.__init__)[1:], UserModel)
    names = {name for name, *_ in options}
    axes = {f"{axis}_key": getattr(module_class, f"{axis}_key", axis if axis in names else "") for axis in AXES}
    facts = {"module_class": module_class, **axes}
    if hasattr(module_class, "default_dataset"):
        facts["default_dataset"] = module_class.default_dataset
    if "depth" not in names:
        facts["depth"] = property(lambda self: getattr(self, axes["depth_key"], None))
    return _component(module_class, options, UserModel, facts)


@cache
def _dataset(function: Callable[..., Any]) -> type:
    """The component of a function that returns `Arrays`: its options are the parameters."""
    options = _options(function.__name__, function, _parameters(function), FunctionDataset)
    return _component(function, options, FunctionDataset, {"function": staticmethod(function)})


@cache
def _function_loss(function: types.FunctionType) -> type:
    """The component of a loss function: its options are the keyword-only parameters."""
    parameters = _parameters(function)
    inputs = tuple(each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD)
    if "logits" not in inputs or set(inputs) - set(SIGNALS):
        rule = "a loss function must have the parameter logits, may have labels and teacher_logits, and its options follow *"
        raise UnusableError(f"{function.__name__}: {rule}, got ({', '.join(inputs)})")
    keywords = [each for each in parameters if each.name not in inputs]
    facts = {
        "function": staticmethod(function),
        "inputs": inputs,
        "needs": frozenset({"teacher.logits"} if "teacher_logits" in inputs else ()),
    }
    return _component(function, _options(function.__name__, function, keywords, FunctionLoss), FunctionLoss, facts)


def _loss_class(component: type) -> type:
    """A dataclass with `terms`, as it is."""
    name = component.__name__
    if not getattr(component, "__dataclass_params__").frozen:  # noqa: B009
        raise UnusableError(f"{name} must be a frozen dataclass: @dataclass(frozen=True)")
    try:
        hints = option_types(component)
    except (NameError, TypeError) as error:
        raise UnusableError(f"{name}: {error}") from None
    for option, hint in hints.items():
        _check_type(name, option, hint)
    if not hasattr(component, "needs"):
        component.needs = frozenset()  # type: ignore[attr-defined]
    if unknown := set(component.needs) - set(get_args(Need)):
        raise UnusableError(f"{name} has unsupported needs: {', '.join(map(str, unknown))}")
    return component


AXES = ("depth", "width")
KINDS = (
    Kind("models", _is_module, _model),
    Kind("datasets", _returns_arrays, _dataset),
    Kind("losses", inspect.isfunction, _function_loss),
    Kind("losses", _is_loss_class, _loss_class),
)


def _component(origin: Any, options: list[Any], base: type, facts: Mapping[str, Any]) -> type:
    """A frozen dataclass with these options that stands for an object of a plugin."""
    namespace = {**facts, "__doc__": origin.__doc__ or "", "__module__": origin.__module__}
    return make_dataclass(origin.__name__, options, bases=(base,), namespace=namespace, frozen=True)


def _parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _options(name: str, function: Any, parameters: Iterable[inspect.Parameter], base: type) -> list[Any]:
    """The fields of a component for the parameters of a function.

    Raises:
        UnusableError: If a parameter has no type, an unsupported type, or a default of another type.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise UnusableError(f"{name}: {error}") from None
    fields: list[Any] = []
    for parameter in parameters:
        option = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY or option not in hints:
            raise UnusableError(f"{name}: the parameter {option} needs a type, such as {option}: int")
        if option in (*dir(base), *base.__annotations__):
            raise UnusableError(f"{name}: the parameter {option} has a reserved name; rename it")
        _check_type(name, option, hints[option])
        if parameter.default is parameter.empty:
            fields.append((option, hints[option]))
            continue
        problems: list[Issue] = []
        default = parse(hints[option], to_dict(parameter.default), option, problems)
        if default is INVALID:
            raise UnusableError(f"{name}: the default of {'; '.join(map(str, problems))}")
        fields.append((option, hints[option], default))
    required = [each for each in fields if len(each) == 2]
    return [*required, *(each for each in fields if len(each) == 3)]


def _check_type(name: str, option: str, hint: Any) -> None:
    """Refuse types of options that no experiment file can contain, or that cannot be compared."""
    if get_origin(hint) in (Annotated, tuple, Union, types.UnionType):
        inner = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
        for each in inner:
            if each is not Ellipsis:
                _check_type(name, option, each)
    elif hint not in OPTION_TYPES and get_origin(hint) is not Literal:
        supported = "bool, int, float, str, Literal[...], tuple[T, ...], or T | None"
        raise UnusableError(f"{name}: the type of {option} must be {supported}, got {format_value(hint)}")
