"""Calls one function of the benchmarks in this process and prints what it returns as JSON.

python -m benchmarks.in_subprocess MODULE:FUNCTION ARGUMENTS, where ARGUMENTS is a JSON list
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any


def references(function: Callable[..., Any], within: str = "fathomlab") -> Iterator[tuple[ModuleType, str]]:
    """Yield the loaded modules of `within` that have a name for a function, and that name."""
    for module_name, module in sorted(sys.modules.items()):
        if module_name.split(".")[0] == within:
            yield from ((module, name) for name, value in list(vars(module).items()) if value is function)


def main() -> None:
    """Call it. Other output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), function)(*json.loads(sys.argv[2]))
    print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
