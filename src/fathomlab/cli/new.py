"""new: writes a working template of an experiment or of a component, with a test."""

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from fathomlab.base.errors import UserError, format_value, unknown_name
from fathomlab.cli.complete import KINDS, kinds
from fathomlab.cli.options import Json, print_json

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
FILES = {"py": "{}.py", "yaml": "{}.yaml", "test": "test_{}.py"}

app = typer.Typer()


@app.command()
def new(
    kind: Annotated[
        str, typer.Argument(help="model, dataset, loss, probe, optimizer, or experiment.", autocompletion=kinds)
    ],
    name: Annotated[str, typer.Argument(help="Name of the component or experiment, such as weight_norms.")],
    to: Annotated[Path, typer.Option("--to", help="Directory of the new files.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write a component or an experiment to begin with, and a test."""
    if text := unknown_name("kind", kind, KINDS):
        raise UserError("unknown-name", f"fathomlab new: {text}")
    from fathomlab.api.planning import SCHEMA, schema_text

    names = _names(kind, name)
    files = {
        to / FILES[part].format(names["name"]): Template(path.read_text(encoding="utf-8")).substitute(names)
        for part in FILES
        if (path := TEMPLATES / f"{kind}.{part}.txt").is_file()
    }
    if not (to / SCHEMA).is_file():  # the first line of each experiment file names it for editors
        files[to / SCHEMA] = schema_text()
    _write(to, files)
    if as_json:
        print_json({"kind": kind, **names, "files": [str(path) for path in files]})
        return
    for path in files:
        print(path)
    print(f"Next: fathomlab run {to / names['name']}.yaml\nTest: python -m pytest {to / 'test_'}{names['name']}.py")
    if importlib.util.find_spec("pytest") is None:
        print("pytest is not installed. Install it with: pip install pytest")


def _names(kind: str, name: str) -> dict[str, str]:
    """The name of the files and functions, such as weight_norms, and that of classes, such as WeightNorms.

    Raises:
        UserError: If it is not a name of Python, or is in use.
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    text = f"NAME must be letters, digits, and underscores, and begin with a letter, got {format_value(name)}"
    if not NAME.fullmatch(name) or len(name) > 60:
        raise UserError("invalid-name", f"fathomlab new: {text}. Example: weight_norms")
    if keyword.iskeyword(snake) or keyword.iskeyword(camel) or importlib.util.find_spec(snake) is not None:
        text = f"{snake} is a word or a module of Python, which a file {snake}.py would replace"
        raise UserError("invalid-name", f"fathomlab new: {text}. Choose another name, such as my_{snake}.")
    if taken := next((word for word in (snake, camel) if word.lower() in _existing(kind)), ""):
        raise UserError("duplicate-name", f"fathomlab new: there is a {kind} {taken} already. Choose another name.")
    return {"name": snake, "class_name": camel}


def _existing(kind: str) -> set[str]:
    """The names of built-in components of a kind, in lower case."""
    from fathomlab.data import DATASETS
    from fathomlab.losses import LOSSES
    from fathomlab.models import MODELS
    from fathomlab.optim import OPTIMIZERS
    from fathomlab.probes import PROBES

    tables = {
        "model": MODELS,
        "dataset": DATASETS,
        "loss": LOSSES,
        "probe": (*PROBES, "metrics"),
        "optimizer": OPTIMIZERS,
    }
    return {name.lower() for name in tables.get(kind, ())}


def _write(directory: Path, files: dict[Path, str]) -> None:
    """Write files, unless one of them exists.

    Raises:
        UserError: If one exists, or cannot be written.
    """
    if existing := [str(path) for path in files if path.exists() or path.is_symlink()]:
        text = f"{', '.join(existing)}: exists already. Choose another name, or another directory with --to."
        raise UserError("file-exists", text)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            with open(path, "x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except OSError as error:
        raise UserError("unwritable", f"{directory}: cannot write: {error.strerror or error}.") from None
