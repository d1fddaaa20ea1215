"""Makes a message of an import of PyTorch that fails, wherever a command imports it."""

import traceback
from collections.abc import Callable
from typing import Any

from fathomlab.base.errors import UserError


def call(command: Callable[[], Any]) -> Any:
    """Call a command.

    Raises:
        UserError: If PyTorch is missing or broken.
    """
    try:
        return command()
    except Exception as error:  # a broken installation raises anything
        if not _is_failed_import(error):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
        text = f"PyTorch cannot be imported: {text}. Check this computer with: fathomlab doctor"
        raise UserError("no-pytorch", text) from None


def _is_failed_import(error: Exception) -> bool:
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    missing = isinstance(error, ImportError) and error.name == "torch"
    return missing or any(
        frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "torch" for frame in frames
    )
