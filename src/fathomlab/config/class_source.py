"""Makes plugins of classes: finds the source of a class and of what it needs, in a script, a module, or a notebook.

The text is what the user wrote, so that errors show familiar lines. Only what the class needs is part of it, in an order that
does not depend on the rest of the script or notebook: a change elsewhere does not change the identity of a trial.
"""

import builtins
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import unwrap
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from fathomlab.base.errors import OBJECT_SOURCE, UserError, format_value
from fathomlab.config import definitions
from fathomlab.config.definitions import Definition, Needs, NoSourceError
from fathomlab.config.plugins import Plugin, make_plugin

REMEDY = "Write the class and what it uses to a file, and name the file in `plugins`"
CONTAINERS = (tuple, list, set, frozenset)


def plugins_of(model: Any) -> tuple[Plugin, ...]:
    """Return one plugin per class of `model=`: a class, or a sequence of classes.

    Raises:
        UserError: If one of them is not a subclass of `torch.nn.Module`, or its source cannot be stored.
    """
    classes = tuple(model) if isinstance(model, list | tuple) else (model,)
    return tuple(class_plugin(each) for each in classes)


def class_plugin(module_class: Any) -> Plugin:
    """Return a plugin that defines a class as a script, a module, or a notebook does.

    Raises:
        UserError: If it is not a subclass of `torch.nn.Module`, or its source cannot be stored.
    """
    torch: Any = sys.modules.get("torch")  # without torch there are no modules
    if torch is not None and isinstance(module_class, torch.nn.Module):
        name = type(module_class).__name__
        raise UserError(
            "wrong-type", f"model: must be a class, got an instance; pass model={name}, without parentheses."
        )
    if torch is None or not (isinstance(module_class, type) and issubclass(module_class, torch.nn.Module)):
        raise UserError(
            "wrong-type", f"model: must be a subclass of torch.nn.Module, got {format_value(module_class)}."
        )
    name = module_class.__name__
    try:
        source, directory = _Collector(module_class).text()
        return make_plugin(f"{name}.py", source, directory)
    except NoSourceError as reason:
        raise UserError("no-source", f"model: cannot store the source of {name}: {reason}. {REMEDY}.") from None


@dataclass(frozen=True)
class _Part:
    """A definition, and the names that it needs when it runs: at once, or only when it is called."""

    text: str
    needs: Needs


class _Collector:
    """Collects a class and everything that it needs from the module or notebook that defines it."""

    def __init__(self, module_class: type):
        self.target = module_class
        self.module = module_class.__module__
        self.names: Mapping[str, Any] = {}
        self.imports: set[str] = set()
        self.constants: dict[str, str] = {}
        self.parts: dict[str, _Part] = {}
        self.aliases: dict[str, str] = {}
        self.future = False

    def text(self) -> tuple[str, Path]:
        """Return the source, and the directory of the local modules that it imports."""
        name = self.target.__name__
        if not name.isidentifier() or name.startswith("_"):
            raise NoSourceError(f"its name must not begin with an underscore, got {name!r}")
        self._add_definition(name, self.target)
        head = [OBJECT_SOURCE.format(name)]
        head += ["from __future__ import annotations"] if self.future else []
        head += sorted(self.imports)
        head += ["", f"__all__ = [{name!r}]"]
        head += [f"{key} = {value}" for key, value in sorted(self.constants.items())]
        order: dict[str, None] = {}
        self._order(name, order)
        bodies = [
            f"\n\n{self.parts[each].text}" if each in self.parts else f"{each} = {self.aliases[each]}" for each in order
        ]
        return "\n".join([*head, *bodies]) + "\n", self._directory()

    def _add_definition(self, name: str, value: Any) -> None:
        definition = definitions.find(value, name)
        if value is self.target:
            self.names = definition.names
        self.future |= definition.future
        needs = definitions.needs(definition.text)
        self.parts[name] = _Part(definition.text, needs)
        for need in sorted(needs.all):
            self._add(need, definition, optional=need in needs.annotations)

    def _add(self, name: str, user: Definition, optional: bool) -> None:
        """Add what a name stands for in the script. A name that only an annotation uses may be missing."""
        known = name in self.parts or name in self.constants or name in self.aliases
        if known or (name.startswith("__") and name.endswith("__")):
            return
        if name not in user.names:
            if not optional and not hasattr(builtins, name):
                raise NoSourceError(f"{user.name} uses {name}, which is not defined")
            return
        value = user.names[name]
        if isinstance(value, ModuleType):
            self._add_module(name, value, user)
        elif (constant := _constant(value)) is not None:
            self.constants[name] = constant
        elif statement := self._import_of(name, value, user):
            self.imports.add(statement)
        elif self._is_defined_here(value):
            original = unwrap(value).__name__
            if original != name:
                self.aliases[name] = original
            if original not in self.parts:
                self._add_definition(original, value)
        else:
            raise NoSourceError(f"{user.name} uses {name}, {_described(value)}")

    def _add_module(self, name: str, module: ModuleType, user: Definition) -> None:
        dotted = module.__name__
        if dotted == self.module or not _is_importable(dotted):
            raise NoSourceError(f"{user.name} uses the module {name}, which cannot be imported")
        self.imports.add(f"import {dotted}" if dotted == name else f"import {dotted} as {name}")
        for attributes in definitions.attribute_chains(user.text, name):
            inner = dotted
            for attribute in attributes:  # import a.b.c binds a, and loads the others
                inner = f"{inner}.{attribute}"
                if not isinstance(sys.modules.get(inner), ModuleType):
                    break
                self.imports.add(f"import {inner}")

    def _import_of(self, name: str, value: Any, user: Definition) -> str:
        """Return the statement that imports a value under a name, or `""`."""
        origin, own_name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        candidates = [(origin, own_name)] if isinstance(origin, str) and isinstance(own_name, str) else []
        for module, attribute in [*candidates, *definitions.imported_as(name, user)]:
            if module == self.module or not attribute.isidentifier():
                continue
            if getattr(sys.modules.get(module), attribute, self) is value and _is_importable(module):
                return f"from {module} import {attribute}" + (f" as {name}" if attribute != name else "")
        return ""

    def _is_defined_here(self, value: Any) -> bool:
        inner = unwrap(value) if callable(value) else value
        return (
            isinstance(inner, type | FunctionType) and inner.__module__ == self.module and inner.__name__.isidentifier()
        )

    def _order(self, name: str, order: dict[str, None], path: tuple[str, ...] = ()) -> None:
        """Add a definition to the order: what it needs at once before it, what it needs when it is called after it."""
        if name in order or name in path or not (name in self.parts or name in self.aliases):
            return
        if name in self.aliases:
            self._order(self.aliases[name], order, (*path, name))
            order.setdefault(name)
            return
        needs = self.parts[name].needs
        for need in sorted(needs.at_once):
            self._order(need, order, (*path, name))
        order.setdefault(name)
        for need in sorted(needs.all - needs.at_once):
            self._order(need, order, path)

    def _directory(self) -> Path:
        """The directory that `import` statements of the script refer to."""
        file = self.names.get("__file__")
        if not isinstance(file, str) or not Path(file).is_file():
            return Path()
        package = self.names.get("__package__") or ""
        return Path(file).resolve().parents[len(package.split(".")) if package else 0]


def _constant(value: Any) -> str | None:
    """Return the source of a simple constant; None for other objects."""
    if value is None or type(value) in (bool, int, str, bytes):
        return repr(value)
    if type(value) in (float, complex):
        finite = all(part - part == 0 for part in (value.real, value.imag))
        return repr(value) if finite else f"{type(value).__name__}({str(value)!r})"
    items = list(_items(value))
    if type(value) not in (dict, *CONTAINERS) or None in items:
        return None
    if type(value) is dict:
        return "{" + ", ".join(f"{key}: {item}" for key, item in zip(items[::2], items[1::2], strict=True)) + "}"
    if type(value) in (set, frozenset):
        return f"{type(value).__name__}([{', '.join(sorted(map(str, items)))}])"
    inner = ", ".join(map(str, items))
    return f"[{inner}]" if type(value) is list else f"({inner}{',' * (len(items) == 1)})"


def _items(value: Any) -> Iterator[str | None]:
    if type(value) is dict:
        yield from (_constant(each) for pair in value.items() for each in pair)
    elif type(value) in CONTAINERS:
        yield from map(_constant, value)


def _described(value: Any) -> str:
    if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        return "which is a lambda; use def"
    if isinstance(value, type | FunctionType):
        return f"which {value.__module__} defines and which cannot be imported from there"
    return f"which is an object of type {type(value).__name__}"


def _is_importable(module: str) -> bool:
    """Whether a worker can import a module, too."""
    from importlib.util import find_spec

    if module == "__main__":
        return False
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
