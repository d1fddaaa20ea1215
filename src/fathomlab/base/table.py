"""Tables of components: one kind of component by name."""

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from fathomlab.base.errors import Issue, unknown_name
from fathomlab.base.options import INVALID, parse

T = TypeVar("T")


class Table(Mapping[str, type[T]], Generic[T]):
    """Components by name. A table is a value: `extended` returns a new one, so that no plugin changes what others see.

    Attributes:
        kind: What a component is, for messages, such as `model`.
    """

    def __init__(self, kind: str, components: Mapping[str, type[T]]):
        """Create a table; the order of `components` is the order of lists."""
        self.kind = kind
        self._components = dict(components)

    def __getitem__(self, name: str) -> type[T]:
        return self._components[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)

    def extended(self, name: str, component: type[T]) -> "Table[T]":
        """Return a table that also contains `component`.

        Raises:
            ValueError: If the table has this name.
        """
        if name in self:
            raise ValueError(f"there is a {self.kind} {name} already")
        return Table(self.kind, {**self._components, name: component})

    def unsupported(self, name: object) -> str:
        """Return the problem of a name that is not in the table, with the most similar name and all names; or `""`."""
        return unknown_name(self.kind, name, tuple(self))

    def make(self, name: str, options: Any, path: str, problems: list[Issue]) -> T | None:
        """Create the component `name` from its options, plain data at the dotted key `path`; None if a problem was added."""
        component = parse(self[name], options, path, problems)
        return None if component is INVALID else component
