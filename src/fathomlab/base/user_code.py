"""Runs users' code, which may be wrong in any way, and describes the errors that it raises."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import NoReturn

from fathomlab.base.errors import UserError, user_code_location

MAX_TEXT = 1000  # characters of an error's own text


@contextmanager
def user_code(name: str) -> Iterator[None]:
    """Run a block that calls code of a plugin, as `contained`.

    Args:
        name: What runs, for the message of an error.

    Raises:
        UserError: If the code raises an error or ends the process; names file and line of the plugin.
        KeyboardInterrupt: If the user interrupts it.
    """
    try:
        with contained():
            yield
    except (UserError, KeyboardInterrupt):  # UserError has a message already
        raise
    except BaseException as error:
        raise UserError("plugin-error", describe_error(error, name)) from error


@contextmanager
def contained() -> Iterator[None]:
    """Contain users' code: what it prints goes to standard error, and `os._exit` raises SystemExit instead of a silent end."""
    process, end = os.getpid(), os._exit

    def leave(status: int = 0) -> NoReturn:
        if os.getpid() != process:  # a child process of the plugin
            end(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = leave
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            yield
    finally:
        os._exit = end


def describe_error(error: BaseException, what: str = "") -> str:
    """Where an error happened in a plugin, and its kind and text: `my_parts.py:3: WHAT: ValueError: TEXT`."""
    try:
        text = str(error)
    except Exception as other:
        text = f"its text cannot be shown: {type(other).__name__}"
    text = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
    return f"{user_code_location(error)}{what and f'{what}: '}{type(error).__name__}{text and f': {text}'}"
