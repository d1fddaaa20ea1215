"""Compares JSON documents with the keys of docs/reference/json.md."""

from typing import Any

from reference.json_keys import Keys

TYPES = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "null": type(None)}


def is_a(value: Any, kind: str) -> bool:
    """Whether a value has a documented type."""
    if kind == "any":
        return True
    if " or " in kind:
        return any(is_a(value, part) for part in kind.split(" or "))
    if kind.startswith("list of "):
        return isinstance(value, list) and all(is_a(item, kind.removeprefix("list of ")[:-1]) for item in value)
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def differences(value: dict[str, Any], keys: Keys) -> set[str]:
    """Keys that are missing, not documented, or of another type."""
    missing = {f"missing: {key.name}" for key in keys if key.name not in value and not key.optional}
    new = {f"not documented: {name}" for name in value.keys() - {key.name for key in keys}}
    return (
        missing
        | new
        | {
            f"no {key.kind}: {key.name}"
            for key in keys
            if not is_a(value.get(key.name), key.kind) and key.name in value
        }
    )


def items(document: Any, place: str) -> list[dict[str, Any]]:
    """The objects at a place such as `verdicts[].values[]`."""
    values = [document]
    for name in filter(None, place.replace("[]", ".[]").split(".")):
        values = [
            item for value in values for item in (value if name == "[]" else [value.get(name)]) if item is not None
        ]
    return values


def is_optional(place: str, tables: "dict[str, Keys]") -> bool:
    """Whether a document may lack the key of a place, or one that contains it."""
    parent, _, name = place.removesuffix("[]").rpartition(".")
    listed = any(key.name == name and key.optional for key in tables.get(parent, ()))
    return listed or (bool(parent) and is_optional(parent, tables))


def wrong_keys(document: Any, tables: "dict[str, Keys]", strict: bool = False) -> dict[str, set[str]]:
    """Differences by place; places without an object are differences, too, unless they are optional and not `strict`."""
    wrong = {}
    for place, keys in tables.items():
        objects = items(document, place)
        none = {"no object"} if strict or not is_optional(place, tables) else set[str]()
        wrong[place] = set().union(*(differences(item, keys) for item in objects)) if objects else none
    return {place: texts for place, texts in wrong.items() if texts}
