"""`python -m reference [DIRECTORY]`: writes all generated files, into the repository by default."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from reference import command_line, components, experiment_file, json_output, python_api

ROOT = Path(__file__).parents[1]
FILES: Mapping[str, Callable[[], str]] = {
    "configs/experiment.schema.json": experiment_file.schema_text,
    "docs/reference/experiment-file.md": experiment_file.page,
    "docs/reference/components.md": components.page,
    "docs/reference/command-line.md": command_line.page,
    "docs/reference/python-api.md": python_api.page,
    "docs/reference/json.md": json_output.page,
}


def main(root: Path = ROOT) -> None:
    """Write every file below `root`."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
