"""Layers, sizes, docstrings, public names, and documentation that matches the repository. A failure lists all offenders."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import fathomlab
from fathomlab.cli import app

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fathomlab"
FILES = sorted(SOURCE.rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
COMMANDS = ["bench", "data", "doctor", "export", "list", "new", "plan", "publish", "report", "run", "show", "store"]
COMMANDS += ["verify"]
IGNORED = {"__pycache__", "fathomlab.egg-info", "py.typed", "__init__.py"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, at any depth."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def undocumented(tree: ast.Module, name: str) -> list[str]:
    """Return public modules, classes, functions, and methods without a docstring. Nested functions are not public."""
    missing = [] if ast.get_docstring(tree) else [name]
    pending: list[tuple[str, ast.Module | ast.ClassDef]] = [(name, tree)]
    while pending:
        path, node = pending.pop()
        for inner in node.body:
            if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and inner.name[0] != "_":
                if ast.get_docstring(inner) is None:
                    missing.append(f"{path}.{inner.name}")
                if isinstance(inner, ast.ClassDef):
                    pending.append((f"{path}.{inner.name}", inner))
    return missing


def names(path: Path) -> str:
    """A file as messages name it."""
    return path.relative_to(ROOT).as_posix()


def test_import_layers_are_kept():
    """The contracts of import-linter in pyproject.toml, with torch among the external packages."""
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    result = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"Contracts: [2-9] kept, 0 broken", result.stdout)


def test_files_and_functions_are_short():
    """Files have at most 300 lines, functions at most 60."""
    assert len(FILES) > 40
    assert [names(path) for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > MAX_FILE_LINES] == []
    long = [
        f"{names(path)}: {function.name}"
        for path in FILES
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if function.end_lineno and function.end_lineno - function.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_public_names_have_docstrings():
    missing = [undocumented(ast.parse(path.read_text(encoding="utf-8")), names(path)) for path in FILES]
    assert [name for group in missing for name in group] == []


def test_module_names_say_what_is_inside():
    vague = {"utils", "util", "helpers", "common", "misc"}
    assert [names(path) for path in FILES if vague & set(path.relative_to(SOURCE).with_suffix("").parts)] == []


def test_public_names_are_listed():
    """What is added or removed here is a change that users see."""
    assert dir(fathomlab) == [
        "Arrays",
        "Column",
        "ConfigError",
        "Experiment",
        "Results",
        "RunInterrupted",
        "Runs",
        "StoredTrial",
        "Trials",
        "UserError",
        "__version__",
        "build_loss",
        "build_model",
        "load",
        "open_store",
        "run",
    ]
    with pytest.raises(AttributeError, match="module 'fathomlab' has no attribute 'nothing'"):
        fathomlab.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_public_names_are_loaded_lazily():
    """Each is loaded when it is first asked for."""
    for name in dir(fathomlab):
        assert getattr(fathomlab, name) is not None
    api = importlib.import_module("fathomlab.api")
    assert fathomlab.load is api.load
    assert fathomlab.open_store is api.open_store
    assert fathomlab.build_loss is api.build_loss
    assert fathomlab.build_model is api.build_model


def test_commands_are_listed():
    """And those of `data` and `store`."""
    command = typer.main.get_command(app)
    assert sorted(command.commands) == COMMANDS  # type: ignore[attr-defined]
    inner = command.commands["data"].commands  # type: ignore[attr-defined]
    assert sorted(inner) == ["download", "import", "list"]
    assert sorted(command.commands["store"].commands) == [  # type: ignore[attr-defined]
        *("check", "grade", "merge", "prune", "repair")
    ]


def test_every_command_has_a_json_option():
    """--json is on each of them."""
    command = typer.main.get_command(app)
    verbs = dict(command.commands)  # type: ignore[attr-defined]
    for group in ("data", "store"):
        verbs |= {f"{group} {name}": verb for name, verb in verbs.pop(group).commands.items()}
    assert [name for name, verb in verbs.items() if not any("--json" in option.opts for option in verb.params)] == []


def readme() -> str:
    """The README."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


def tree_paths(text: str) -> list[str]:
    """The first words of the fenced block that lists `src/fathomlab`: paths relative to the root."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    block = next((block for block in blocks if re.search(r"^src/fathomlab", block, re.MULTILINE)), None)
    assert block is not None, "docs/explanation/architecture.md has no block that lists src/fathomlab"
    return [line.split()[0] for line in block.splitlines() if line.strip()]


def test_architecture_page_lists_every_package():
    """Every path exists, none stands twice, and every folder and file of the first level of the package is there."""
    paths = [
        path.rstrip("/")
        for path in tree_paths((ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8"))
    ]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert len(paths) == len(set(paths))
    listed = set(paths)
    parts = [path for path in SOURCE.iterdir() if path.is_file() or any(path.glob("*.py"))]
    real = {names(path) for path in parts if path.name not in IGNORED and not path.name.startswith("__")}
    assert sorted(real - listed) == []


def test_readme_is_short_and_starts_with_a_command():
    """The first command by line 25, at most 120 lines."""
    lines = readme().splitlines()
    first = next(number for number, line in enumerate(lines, start=1) if re.match("```|    [a-z]", line))
    assert first <= 25
    assert len(lines) <= 120


def test_readme_commands_exist():
    """Each `fathomlab VERB` in a block is a verb."""
    verbs = set(re.findall(r"(?:^    |`)fathomlab ([a-z]+)", readme(), re.MULTILINE))
    assert verbs
    assert verbs <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_package_contains_its_data_files():
    """Templates, bundled data and the marker of types are where the installed package looks."""
    for path in ("py.typed", "data/mnist_sample.npz", "data/mnist_sample.md", "report/templates/report.html"):
        assert (SOURCE / path).is_file()


def test_components_and_plans_import_without_torch():
    """Options are validated and results are read without loading torch; methods of components import it."""
    packages = (
        "models",
        "losses",
        "optim",
        "config",
        "analysis",
        "report",
        "plan",
        "probes",
        "prepare",
        "export",
        "engine/backends",
    )
    modules = [
        f"fathomlab.{path.relative_to(SOURCE).with_suffix('').as_posix().replace('/', '.').removesuffix('.__init__')}"
        for path in FILES
        if path.relative_to(SOURCE).as_posix().startswith(packages) and path.stem not in ("norms", "outcome")
    ]
    assert len(modules) > 50
    code = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
