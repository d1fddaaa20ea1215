"""Layers, sizes, docstrings, public names, and a README and folder tree that match the repository."""

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
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LONGEST_FILE = 300
LONGEST_FUNCTION = 60
IGNORED = {"__pycache__", "fathomlab.egg-info", "py.typed", "__init__.py"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, at any depth."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def undocumented(tree: ast.Module, name: str) -> list[str]:
    """Public modules, classes, functions and methods without a docstring; nested functions are not public."""
    found = [] if ast.get_docstring(tree) else [name]
    pending: list[tuple[str, ast.Module | ast.ClassDef]] = [(name, tree)]
    while pending:
        path, node = pending.pop()
        for inner in node.body:
            if not isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            inside = f"{path}.{inner.name}"
            if inner.name.startswith("_") and not inner.name.startswith("__"):
                continue
            dunder = inner.name.startswith("__")
            if ast.get_docstring(inner) is None and not dunder:
                found.append(inside)
            if isinstance(inner, ast.ClassDef):
                pending.append((inside, inner))
    return found


def names(path: Path) -> str:
    """A file as messages name it."""
    return path.relative_to(ROOT).as_posix()


def test_there_is_something_to_look_at():
    """An empty list of files would pass every test below."""
    assert len(FILES) > 40


def test_the_layers_hold_and_torch_stays_out_of_what_must_start_at_once():
    """import-linter's contracts of pyproject.toml, with torch among the external packages."""
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: [2-9] kept, 0 broken", done.stdout)


@pytest.mark.parametrize("path", FILES, ids=names)
def test_a_file_is_short_documented_and_ascii(path: Path):
    """At most 300 lines, functions of at most 60, a docstring on everything public."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST_FILE
    long = {
        function.name: function.end_lineno - function.lineno + 1
        for function in functions(tree)
        if function.end_lineno and function.end_lineno - function.lineno + 1 > LONGEST_FUNCTION
    }
    assert long == {}
    assert undocumented(tree, path.stem) == []


@pytest.mark.parametrize("path", FILES, ids=names)
def test_no_module_is_a_drawer(path: Path):
    """Names say what is inside."""
    assert not set(path.relative_to(SOURCE).with_suffix("").parts) & {"utils", "util", "helpers", "common", "misc"}


def test_the_public_names_are_these():
    """What is added or removed here is a change that users see."""
    assert dir(fathomlab) == [
        "ConfigError",
        "Results",
        "Runs",
        "UserError",
        "__version__",
        "build_model",
        "load",
        "open_store",
        "run",
    ]
    with pytest.raises(AttributeError, match="module 'fathomlab' has no attribute 'nothing'"):
        fathomlab.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_every_public_name_is_there():
    """Each is loaded when it is first asked for."""
    for name in dir(fathomlab):
        assert getattr(fathomlab, name) is not None
    api = importlib.import_module("fathomlab.api")
    assert fathomlab.load is api.load
    assert fathomlab.open_store is api.open_store
    assert fathomlab.build_model is api.build_model


def test_the_command_s_verbs_are_these():
    """And those of `data` and `store`."""
    command = typer.main.get_command(app)
    assert sorted(command.commands) == ["bench", "data", "list", "plan", "report", "run", "show", "store", "verify"]  # type: ignore[attr-defined]
    inner = command.commands["data"].commands  # type: ignore[attr-defined]
    assert sorted(inner) == ["download", "import", "list"]
    assert sorted(command.commands["store"].commands) == ["check", "prune", "repair"]  # type: ignore[attr-defined]


def test_every_verb_prints_json():
    """--json is on each of them."""
    command = typer.main.get_command(app)
    verbs = dict(command.commands)  # type: ignore[attr-defined]
    for group in ("data", "store"):
        verbs |= {f"{group} {name}": verb for name, verb in verbs.pop(group).commands.items()}
    assert [name for name, verb in verbs.items() if not any("--json" in option.opts for option in verb.params)] == []


def readme() -> str:
    """The README, or a visible reason why these tests are skipped."""
    path = ROOT / "README.md"
    if not path.exists():
        pytest.skip("README.md is not written yet")
    return path.read_text(encoding="utf-8")


def tree_paths(text: str) -> list[str]:
    """The first words of the fenced block that lists `src/fathomlab`: paths relative to the root."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    block = next((block for block in blocks if re.search(r"^src/fathomlab", block, re.MULTILINE)), None)
    assert block is not None, "docs/architecture.md has no block that lists src/fathomlab"
    return [line.split()[0] for line in block.splitlines() if line.strip()]


def test_the_tree_in_the_architecture_page_is_complete():
    """Every path exists, none stands twice, and every folder and file of the first level of the package is there."""
    paths = [path.rstrip("/") for path in tree_paths((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert len(paths) == len(set(paths))
    listed = set(paths)
    parts = [path for path in SOURCE.iterdir() if path.is_file() or any(path.glob("*.py"))]
    real = {names(path) for path in parts if path.name not in IGNORED and not path.name.startswith("__")}
    assert sorted(real - listed) == []


def test_the_readme_is_short_and_starts_with_a_command():
    """The first command by line 25, at most 120 lines."""
    lines = readme().splitlines()
    first = next(number for number, line in enumerate(lines, start=1) if re.match("```|    [a-z]", line))
    assert first <= 25
    assert len(lines) <= 120


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_links_of_a_page_resolve(page: Path):
    """Files and headings; addresses on the network are not asked."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file) if file else page
        if not path.exists() or (heading and path.suffix == ".md" and heading not in headings(path)):
            broken.append(target)
    assert broken == []


def headings(page: Path) -> set[str]:
    """Anchors as the usual renderers make them."""
    lines = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in lines}


def test_the_commands_of_the_readme_exist():
    """Each `fathomlab VERB` in a block is a verb."""
    verbs = set(re.findall(r"(?:^    |`)fathomlab ([a-z]+)", readme(), re.MULTILINE))
    assert verbs
    assert verbs <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_what_the_package_needs_is_in_the_package():
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
