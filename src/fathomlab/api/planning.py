"""From a file, its number or a mapping to a plan."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fathomlab.base.problems import UserError, suggestion
from fathomlab.plan import Plan
from fathomlab.run.resolve import prepare

Source = str | os.PathLike[str] | Mapping[str, Any]


def load(source: Source, overrides: str | Sequence[str] = (), quick: bool = False) -> Plan:
    """Read and check an experiment and plan its trials; nothing is trained.

    Args:
        source: A path to an experiment file, the number of one of the laboratory's, or a mapping of the same format.
        overrides: `key.path=value`, one or several.
        quick: Lay the file's `quick` section over the rest.

    Raises:
        ConfigError: Every problem at once.
        UserError: The file cannot be read.
    """
    found = source if isinstance(source, Mapping) else find_file(os.fspath(source))
    return prepare(found, [overrides] if isinstance(overrides, str) else list(overrides), quick)


def find_file(name: str) -> Path:
    """The experiment file that `name` means: a path, or the number of one of the laboratory's files.

    Raises:
        UserError: There is none.
    """
    path = Path(name)
    folders = [Path("configs"), Path(__file__).parents[3] / "configs"]
    candidates = [folder / spelling for folder in folders for spelling in (f"config_exp{name}.yaml", f"{name}.yaml")]
    found = next((candidate for candidate in (path, *candidates) if os.path.isfile(candidate)), None)
    if found is not None or path.parent != Path() or "\0" in name:
        return found or path
    known = sorted({file.stem.removeprefix("config_exp") for folder in folders for file in folder.glob("*.yaml")})
    raise UserError(
        "no-such-file",
        f"{name}: no such file.{suggestion(name, known)} Experiments here: {', '.join(known) or 'none'}.",
    )
