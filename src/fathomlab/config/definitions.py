"""Finds the text of classes and functions, and the names that the text needs. No user code runs."""

import ast
import linecache
import symtable
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import unwrap
from pathlib import Path
from textwrap import dedent
from types import CodeType, FunctionType
from typing import Any, TypeAlias

FUTURE_ANNOTATIONS = 0x1000000  # __future__.annotations.compiler_flag
CELLS = ("<ipython-input-", "<cell")
Node: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class NoSourceError(ValueError):
    """Why the source of a class cannot be stored."""


@dataclass(frozen=True)
class Definition:
    """A class or function as it is written.

    Attributes:
        name: Its name.
        text: Its text, with decorators.
        files: Names of the files, as in tracebacks, that are searched for import statements.
        names: The global names that it sees.
        future: Whether its annotations are not evaluated.
    """

    name: str
    text: str
    files: tuple[str, ...]
    names: Mapping[str, Any]
    future: bool


@dataclass(frozen=True)
class Needs:
    """Global names that a definition needs.

    Attributes:
        at_once: When it is defined: bases, decorators, defaults, annotations, statements of a class.
        all: These, and what its functions use when they are called.
        annotations: Names in annotations that no function uses. They may be missing, such as what only type checkers import.
    """

    at_once: frozenset[str]
    all: frozenset[str]
    annotations: frozenset[str]


def find(value: Any, name: str) -> Definition:
    """Find the definition of a class or function under a name.

    Raises:
        NoSourceError: If there is none, or if its text has changed since it ran.
    """
    value = unwrap(value)
    if "<locals>" in value.__qualname__:
        raise NoSourceError(f"{name} is defined inside a function")
    if value.__qualname__ != name:
        raise NoSourceError(f"{name} is defined as {value.__qualname__}")
    functions = list(_functions(value))
    names = functions[0].__globals__ if functions else vars(sys.modules.get(value.__module__, sys))
    files = tuple(dict.fromkeys(function.__code__.co_filename for function in functions)) or _places(names)
    matches: dict[str, tuple[Node, str, str]] = {}
    for file in files:
        text = source_of(file)
        for node in _definitions(text, name):
            lines = [
                function.__code__.co_firstlineno for function in functions if function.__code__.co_filename == file
            ]
            if all(_start(node) <= line <= (node.end_lineno or 0) for line in lines):
                matches.setdefault(ast.dump(node), (node, text, file))
    if len(matches) != 1:
        raise NoSourceError(f"the source of {name} is {'not available' if not matches else 'ambiguous'}")
    node, text, file = next(iter(matches.values()))
    _check_unchanged(node, functions, text, file)
    _check_members(value, node, names)
    future = any(function.__code__.co_flags & FUTURE_ANNOTATIONS for function in functions)
    return Definition(name, _text(node, text), _related(file, names), names, future)


def needs(text: str) -> Needs:
    """Return the global names that the text of a definition needs."""
    tree = ast.parse(text)
    at_once, later, annotated = set[str](), set[str](), set[str]()

    def visit(table: symtable.SymbolTable, called: bool) -> None:
        called = called or table.get_type() == "function"
        for symbol in table.get_symbols():
            defined = table.get_type() == "module" and symbol.is_assigned()
            if symbol.is_referenced() and symbol.is_global() and not defined:
                (later if called else at_once).add(symbol.get_name())
        for child in table.get_children():
            visit(child, called)

    visit(symtable.symtable(text, "<definition>", "exec"), called=False)
    for annotation in _annotations(tree):
        annotated |= {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    itself = {getattr(tree.body[0], "name", "")}
    return Needs(
        frozenset(at_once - itself), frozenset((at_once | later | annotated) - itself), frozenset(annotated - later)
    )


def attribute_chains(text: str, root: str) -> Iterator[list[str]]:
    """Yield the attributes of each expression `root.a.b` in a text."""
    for node in ast.walk(ast.parse(text)):
        chain, inner = list[str](), node
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        if chain and isinstance(inner, ast.Name) and inner.id == root:
            yield chain


def imported_as(name: str, user: Definition) -> Iterator[tuple[str, str]]:
    """Yield module and attribute of each `from MODULE import ATTRIBUTE as name` in the files of a definition."""
    package = user.names.get("__package__") or ""
    for file in user.files:
        for node in ast.walk(_parsed(source_of(file))):
            if not isinstance(node, ast.ImportFrom):
                continue
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names if (alias.asname or alias.name) == name)


def source_of(file: str) -> str:
    """Return the text of a file, or of a notebook's cell, by its name in tracebacks; `""` if there is none."""
    linecache.checkcache(file)
    return "".join(linecache.getlines(file))


def _functions(value: Any) -> Iterator[FunctionType]:
    """Yield the functions whose code is in the text of a class, or the function itself."""
    members = [value] if isinstance(value, FunctionType) else list(vars(value).values())
    for member in members:
        inner = getattr(member, "__func__", getattr(member, "fget", member))
        function = unwrap(inner) if callable(inner) else inner
        defined_here = isinstance(function, FunctionType) and (
            function is value or function.__qualname__.startswith(f"{value.__qualname__}.")
        )
        if defined_here and function.__module__ == value.__module__ and function.__code__.co_filename != "<string>":
            yield function


def _places(names: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a class without functions may be written: the file of its module, or the cells of a notebook."""
    file = names.get("__file__")
    return (file,) if isinstance(file, str) else tuple(name for name in linecache.cache if _is_cell(name))


def _related(file: str, names: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that share the global names: of a notebook, all cells."""
    cells = (name for name in linecache.cache if _is_cell(name)) if _is_cell(file) else ()
    return tuple(dict.fromkeys((file, *cells)))


def _is_cell(file: str) -> bool:
    return file.startswith(CELLS) or "ipykernel_" in Path(file).parent.name


def _definitions(text: str, name: str) -> Iterator[Node]:
    """Yield the definitions of a name, except those inside functions and classes."""
    pending: list[ast.AST] = [_parsed(text)]
    while pending:
        node = pending.pop(0)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name == name:
                yield node
        else:
            pending += ast.iter_child_nodes(node)


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])


def _start(node: Node) -> int:
    return min((node.lineno, *(decorator.lineno for decorator in node.decorator_list)))


def _text(node: Node, text: str) -> str:
    """The lines of a definition as they are written; from its syntax tree if they cannot be moved to the left."""
    lines = dedent("".join(text.splitlines(keepends=True)[_start(node) - 1 : node.end_lineno])).rstrip()
    body = _parsed(lines).body
    return lines if len(body) == 1 and ast.dump(body[0]) == ast.dump(node) else ast.unparse(node)


def _check_unchanged(node: Node, functions: list[FunctionType], text: str, file: str) -> None:
    """Raise NoSourceError if the text is not that of the code, such as a file that was edited after its import."""
    alone = ast.Module([node], [])  # notebooks compile the statements of a cell one by one, which gives other code
    written = set[tuple[Any, ...]]()
    for source in (text, alone):
        codes = _codes(compile(source, file, "exec", dont_inherit=True))
        written |= {(code.co_qualname, code.co_firstlineno, code.co_code, code.co_names) for code in codes}
    for code in (function.__code__ for function in functions):
        if code.co_filename != file or "@pytest_ar" in code.co_names:  # pytest rewrites assert statements
            continue
        if (code.co_qualname, code.co_firstlineno, code.co_code, code.co_names) not in written:
            raise NoSourceError(f"{Path(file).name} has changed since {node.name} was defined; reload it")


def _check_members(value: Any, node: Node, names: Mapping[str, Any]) -> None:
    """Raise NoSourceError if a method of a class was added or replaced after its definition."""
    if not isinstance(node, ast.ClassDef):
        return
    plain = {part.name for part in node.body if isinstance(part, ast.FunctionDef) and not part.decorator_list}
    written = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    written |= {part.name for part in ast.walk(node) if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
    for name, member in vars(value).items():
        if not isinstance(member, FunctionType):
            continue
        generated = member.__code__.co_filename == "<string>"  # by a dataclass
        replaced = name in plain and member.__qualname__ != f"{value.__qualname__}.{name}"
        if replaced or (name not in written and member.__globals__ is names and not generated):
            raise NoSourceError(f"{value.__name__}.{name} was set after the class was defined")


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _annotations(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all annotations; those in quotes as the expressions that they contain."""
    for node in ast.walk(tree):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is None:
                continue
            yield annotation
            literals = [part for part in ast.walk(annotation) if _is_literal(part)]
            values = {inner for literal in literals for inner in ast.walk(literal)}
            for part in ast.walk(annotation):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part not in values:
                    yield _parsed(part.value)


def _is_literal(node: ast.AST) -> bool:
    """Whether an expression is `Literal[...]`, in which texts are values."""
    return isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "Literal"
