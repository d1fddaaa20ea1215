"""YAML as plain data with positions: no aliases, tags, merge keys or duplicate keys; ambiguous scalars are refused by use."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from fathomlab.base.errors import ConfigError, Issue
from fathomlab.base.options import Ambiguous
from fathomlab.base.output import invalid_text_reason
from fathomlab.config.limits import MAX_DEPTH, MAX_VALUES, invalid_key_reason, paired

MAX_BYTES = 2**18
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
LITERALS = {"true": True, "True": True, "false": False, "False": False, "null": None, "~": None, "": None, "Null": None}
AMBIGUOUS_SCALARS = (
    (re.compile(r"(?i)yes|on|y"), "`true`, or quote it"),
    (re.compile(r"(?i)no|off|n"), "`false`, or quote it"),
    (re.compile(r"(?i)true|false|null"), "it in lower case, or quote it"),
    (re.compile(r"[-+]?0[0-9_]+"), "it without leading zeros, or quote it"),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+"), "a decimal number, or quote it"),
    (re.compile(r"[-+]?[0-9]+_[0-9_]*(\.[0-9_]*)?"), "the number without underscores, or quote it"),
    (re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?"), "a plain number, or quote it"),
    (re.compile(r"\d{4}-\d\d?-\d\d?([Tt ].*)?"), "it in quotes"),
    (re.compile(r"(?i)[-+]?\.?inf|\.?nan|[-+]?infinity"), "a finite number"),
    (re.compile(r"[-+]?[0-9]{19,}"), "a smaller number"),
)


@dataclass
class Document:
    """A document as plain data, and where each dotted key stands."""

    source: str
    data: dict[str, Any]
    locations: dict[str, str] = field(default_factory=dict)

    def location_of(self, path: str) -> str:
        """Where `path`, or the nearest key above it, stands; `""` for what no file or override wrote."""
        while path:
            if path in self.locations:
                return self.locations[path]
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        return ""


def read_yaml(text: str | bytes, source: str) -> Document:
    """Parse an experiment file.

    Raises:
        ConfigError: The text is not one mapping of plain data; all problems.
    """
    problems: list[Issue] = []
    node = _compose(text, source)
    document = Document(source, {})
    if node is None:
        raise ConfigError(
            source, [Issue("empty-file", "", "the file is empty. Add the experiment's sections, such as `model:`")]
        )
    data = _construct(node, "", document, problems, 0)
    if not isinstance(data, dict) and not problems:
        problems.append(Issue("wrong-type", "", "must be a mapping of sections, such as `model:` and `training:`"))
    if problems:
        raise ConfigError(source, problems)
    document.data = data
    return document


def read_value(text: str, location: str) -> Any:
    """One value as an override writes it, in YAML's flow form.

    Raises:
        ConfigError: It is not plain YAML.
    """
    problems: list[Issue] = []
    node = _compose(text, location)
    value = None if node is None else _construct(node, "", Document(location, {}), problems, 0)
    if problems:
        raise ConfigError(location, problems)
    return value


def scalar(text: str) -> Any:
    """A plain scalar as YAML 1.2 reads it; what YAML 1.1 reads otherwise stays `Ambiguous`."""
    if text in LITERALS:
        return LITERALS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    if DECIMAL.fullmatch(text):
        return float(text)
    for pattern, remedy in AMBIGUOUS_SCALARS:
        if pattern.fullmatch(text):
            return Ambiguous(text, remedy)
    return text


class _Loader(yaml.SafeLoader):
    """Refuses aliases, depth and crowds as it meets them; remembers on each node the tag that was written, if one was."""

    def __init__(self, text: str, source: str):
        super().__init__(text)
        self.source, self.depth, self.values = source, 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self._check_event(event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if node is not None:
            setattr(node, "written_tag", getattr(event, "tag", None))  # noqa: B010
        return node

    def _check_event(self, event: Any) -> None:
        self.values += 1
        message = ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            message = "anchors and aliases (& and *) are not supported; write out the value"
        elif isinstance(event, yaml.CollectionStartEvent) and self.depth >= MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
        elif self.values > MAX_VALUES:
            message = f"contains more than {MAX_VALUES:,} keys and values"
        if message:
            raise ConfigError(
                self.source, [Issue("unsupported-yaml", "", message, f"{self.source}:{event.start_mark.line + 1}")]
            )


def _compose(text: str | bytes, source: str) -> yaml.Node | None:
    if len(text) > MAX_BYTES:
        raise ConfigError(source, [Issue("too-large", "", f"larger than {MAX_BYTES:,} bytes")])
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return _one_document(_Loader(decoded, source))
    except UnicodeDecodeError as error:
        raise ConfigError(source, [Issue("invalid-yaml", "", f"not UTF-8 text (byte {error.start})")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        location = f"{source}:{mark.line + 1}" if mark else ""
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(source, [Issue("invalid-yaml", "", f"invalid YAML: {reason}", location)]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise ConfigError(source, [Issue("invalid-yaml", "", f"invalid YAML: {reason}")]) from None


def _one_document(loader: _Loader) -> yaml.Node | None:
    node = loader.get_node() if loader.check_node() else None
    if loader.check_node():
        loader.get_event()
        location = f"{loader.source}:{loader.peek_event().start_mark.line + 1}"
        raise ConfigError(
            loader.source,
            [Issue("unsupported-yaml", "", "contains several YAML documents; only one is allowed", location)],
        )
    return node


def _construct(node: yaml.Node, path: str, document: Document, problems: list[Issue], depth: int) -> Any:
    line = f"{document.source}:{node.start_mark.line + 1}"
    if path:
        document.locations.setdefault(path, line)
    tag = getattr(node, "written_tag", None)
    if tag is not None:
        problems.append(Issue("unsupported-yaml", path, f"tag {tag[:100]}: only plain values are supported", line))
        return None
    if isinstance(node, yaml.SequenceNode):
        return [
            _construct(item, f"{path}[{index}]", document, problems, depth + 1) for index, item in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, document, problems, depth)
    assert isinstance(node, yaml.ScalarNode)
    text = paired(node.value)
    fault = invalid_text_reason(text)
    if fault:
        problems.append(Issue("invalid-text", path, fault, line))
        return None
    return scalar(text) if node.style is None else text


def _construct_mapping(
    node: yaml.MappingNode, path: str, document: Document, problems: list[Issue], depth: int
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = f"{document.source}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode) or (key_node.style is None and key_node.value == "<<"):
            problems.append(Issue("invalid-key", path, "keys must be plain names", line))
            continue
        key = key_node.value
        fault = invalid_key_reason(key)
        if fault:
            problems.append(Issue("invalid-key", path, fault, line))
            continue
        inner = f"{path}.{key}" if path else key
        if key in result:
            first = document.locations.get(inner, "above")
            problems.append(Issue("duplicate-key", inner, f"duplicate key (first defined at {first})", line))
            continue
        document.locations[inner] = line
        result[key] = _construct(value_node, inner, document, problems, depth + 1)
    return result
