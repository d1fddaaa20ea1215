"""The page of all commands, from typer."""

from collections.abc import Iterator
from typing import Any

import typer.main

from fathomlab.cli import app
from reference.markdown import table

INTRODUCTION = """\
# Command line

For everyone who uses a terminal. This page lists every command and option. `make reference` generates it from the source.

FILE is the path of an experiment file, or the name of a bundled experiment, such as `1_2`. EXPERIMENT is a name in the results
directory, its beginning, or a file, which means the experiment that was run with its text. TRIAL is the beginning of a hash.
`python -m fathomlab` is the same as `fathomlab`.
"""
EXIT_STATUSES = (
    ("0", "Success. Diverged trials are outcomes, and `run` exits with 0 whatever the verdicts."),
    (
        "1",
        "`run`: a trial failed. `verify FILE`: a claim is not supported, or trials are missing. `verify PAGE.html#TRIAL`: the "
        "repeated trial does not agree with the page. `doctor`: there is a problem. `store check`: a file is corrupted. "
        "`store merge`: there are conflicts.",
    ),
    ("2", "Usage or configuration error. With `--json`, standard output contains the [problems](json.md#errors)."),
    ("3", "Standard output cannot be written."),
    (
        "130, 143, 129",
        "Interrupted by Ctrl-C (or the limit of `--minutes`), SIGTERM, or SIGHUP. Run the same command to resume.",
    ),
)
VARIABLES = (
    ("FATHOMLAB_RUNS", "The results directory, if `--runs` is not given. Default: `runs` in the working directory."),
    (
        "FATHOMLAB_DATA",
        "The directory of datasets. Default: `~/.local/share/fathomlab` on Linux, `~/Library/Application Support/fathomlab` on "
        "macOS, and `%LOCALAPPDATA%\\fathomlab\\fathomlab` on Windows.",
    ),
    ("FATHOMLAB_OFFLINE", "`1`: never download. Missing datasets are errors with instructions."),
    ("RAY_ADDRESS", "Head of the Ray cluster that trains, `HOST:PORT` or `auto`."),
    (
        "WANDB_MODE",
        "`disabled`: runs are not logged in Weights & Biases unless `--log wandb` is given. Other values go to wandb.",
    ),
    ("CI, TERM", "`CI=true` or `TERM=dumb`: `--progress auto` prints plain lines instead of a table."),
    (
        "CUDA_DEVICE_ORDER",
        "`PCI_BUS_ID` counts GPUs as the driver does. Needed to use equal GPUs among different ones.",
    ),
    ("CUDA_VISIBLE_DEVICES", "The CUDA devices that PyTorch sees. Set it to an empty text to train on the CPU."),
    ("CXX", "The C++ compiler that the backend `native` uses."),
    ("SLURMD_NODENAME", "The name of the node, as Slurm sets it. Progress and provenance contain it."),
    (
        "ONEDNN_, MKL_, ...",
        "Variables that select kernels below PyTorch. A checkpoint resumes only with the values it was written with.",
    ),
)


def page() -> str:
    """The page as Markdown."""
    root: Any = typer.main.get_command(app)
    lines = [INTRODUCTION]
    for name, command in commands(root):
        arguments = [parameter for parameter in command.params if not _is_option(parameter)]
        usage = " ".join(["fathomlab", name, *map(_usage, arguments), "[OPTIONS]"])
        lines += [f"## fathomlab {name}", "", str(command.help), "", "```text", usage, "```", ""]
        if arguments:
            rows = [(f"`{_placeholder(item)}`", *_default_and_help(item)) for item in arguments]
            lines += table(("argument", "default", "description"), rows)
        rows = [(f"`{_spelling(item)}`", *_default_and_help(item)) for item in command.params if _is_option(item)]
        lines += table(("option", "default", "description"), rows)
    lines += ["## All commands", "", "`fathomlab --version` prints the version. `--help` describes every command.", ""]
    lines += ["## Exit statuses", "", *table(("status", "meaning"), EXIT_STATUSES)]
    lines += ["## Environment variables", ""]
    lines += table(("variable", "effect"), [(f"`{name}`", text) for name, text in VARIABLES])
    lines += [
        "## Next steps",
        "",
        "- [JSON output](json.md): what `--json` and `--progress json` print.",
        "- [Experiment file](experiment-file.md): the keys that overrides set.",
    ]
    return "\n".join(lines) + "\n"


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its name, those of groups by their full name."""
    for name, command in group.commands.items():
        if getattr(command, "hidden", False):
            continue
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _is_option(parameter: Any) -> bool:
    return parameter.opts[0].startswith("-")


def _placeholder(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper() + ("..." if parameter.nargs == -1 else "")


def _spelling(parameter: Any) -> str:
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {_placeholder(parameter)}"


def _usage(argument: Any) -> str:
    text = _placeholder(argument)
    return text if argument.required or text.startswith("[") else f"[{text}]"


def _default_and_help(parameter: Any) -> tuple[str, str]:
    """The default, which a help text may contain in brackets, and the rest of the text."""
    text, _, bracket = (parameter.help or "").partition(" [default: ")
    value = "off" if parameter.default is False else f"`{parameter.default}`" if parameter.default is not None else ""
    default = bracket.partition("]")[0] if bracket else value
    return "required" if parameter.required else default, text.removesuffix(".") + "."
