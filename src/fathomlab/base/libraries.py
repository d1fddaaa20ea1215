"""Optional libraries."""

import importlib
from typing import Any


def library(module: str) -> Any:
    """Import a module of an optional library. Type checks run without these libraries, so their types are not used.

    Raises:
        ImportError: If the library is not installed.
    """
    return importlib.import_module(module)
