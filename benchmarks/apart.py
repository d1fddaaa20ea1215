"""Calls one function of the benchmarks in this process and prints what it returns as JSON.

python -m benchmarks.apart MODULE:FUNCTION ARGUMENTS, where ARGUMENTS is a JSON list
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


def held(function: Callable[..., Any], within: str = "fathomlab") -> Iterator[tuple[ModuleType, str]]:
    """Where a function is called from by its name: modules of `within` that are loaded, and its name there."""
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] == within:
            yield from ((module, own) for own, value in list(vars(module).items()) if value is function)


def main() -> None:
    """Call it; whatever else is printed meanwhile goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = sys.argv[1].partition(":")
    found = getattr(importlib.import_module(module), function)(*json.loads(sys.argv[2]))
    print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
