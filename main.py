"""The starter files' command: `python main.py --experiment 1_1 [--device auto|cpu|cuda] [key=value ...]`."""

import sys

if __name__ == "__main__":
    try:
        from fathomlab.cli import laboratory
    except ModuleNotFoundError as error:
        print(
            f"error: the module {error.name!r} is not installed for {sys.executable}. Run `make setup` and use "
            ".venv/bin/python main.py, or run `pip install .` in this environment.",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(laboratory())
