"""Markdown from dataclasses: their docstrings, and tables of their fields."""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fathomlab.base.options import json_schema

JsonSchema = dict[str, Any]
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
KINDS = {"object": "mapping", "array": "list", "null": "none"}


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, and an empty line."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return [*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows), ""]


def options_table(component: type) -> list[str]:
    """The fields of a dataclass with values, default, and description. Fields that a file cannot set are left out."""
    schema, descriptions = json_schema(component), attributes(component)
    rows = []
    for field in dataclasses.fields(component):
        option = schema["properties"][field.name]
        if set(option) - {"default", "title"}:
            default = "required" if field.name in schema.get("required", ()) else _default(field, option)
            rows.append((f"`{field.name}`", values(option), default, descriptions.get(field.name, "")))
    return table(("key", "values", "default", "description"), rows) if rows else ["No options.", ""]


def summary(component: object) -> str:
    """The docstring up to its first section, in one line."""
    text = inspect.cleandoc(getattr(component, "__doc__", None) or "")
    return " ".join(re.split(r"\n(?:Attributes|Args|Example|Raises):", text)[0].split())


def attributes(component: type) -> dict[str, str]:
    """Option to its description in the docstring's `Attributes`."""
    text = inspect.cleandoc(component.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name: " ".join(description.split()) for name, description in entries}


def values(option: JsonSchema) -> str:
    """The values that an option of a JSON Schema accepts."""
    if "enum" in option:
        return ", ".join(f"`{value}`" for value in option["enum"])
    if choices := option.get("anyOf"):
        return " or ".join(values(choice) for choice in choices)
    if "$ref" in option:
        return "mapping"
    bounds = " and ".join(f"{sign} {_number(option[bound])}" for bound, sign in BOUNDS.items() if bound in option)
    kind = option.get("type", "any")
    items = f" of {_plural(values(option['items']))}" if kind == "array" and option.get("items") else ""
    return f"{KINDS.get(kind, kind)}{items} {bounds}".strip()


def _plural(kind: str) -> str:
    name, space, rest = kind.partition(" ")
    return f"{name}s{space}{rest}" if name in ("integer", "number", "string", "mapping", "list", "boolean") else kind


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _default(field: "dataclasses.Field[Any]", option: JsonSchema) -> str:
    if "default" in option:
        return "none" if option["default"] is None else f"`{json.dumps(option['default'])}`"
    return "empty" if field.default_factory is not dataclasses.MISSING else ""
