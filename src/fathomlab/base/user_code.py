"""Runs users' code, which may be wrong in any way."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from fathomlab.base.errors import UserError, user_code_location


@contextmanager
def user_code(name: str) -> Iterator[None]:
    """Run a block that calls code of a plugin. What it prints goes to standard error, because standard output is for results.

    Args:
        name: What runs, for the message of an error.

    Raises:
        UserError: If the code raises an error or calls `sys.exit`; names file and line of the plugin.
        KeyboardInterrupt: If the user interrupts it.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (UserError, KeyboardInterrupt):  # UserError has a message already
        raise
    except BaseException as error:
        text = f"{user_code_location(error)}{name}: {type(error).__name__}: {error}"
        raise UserError("plugin-error", text) from error
