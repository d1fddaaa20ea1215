"""Golden files: what a change of the code must not change unnoticed.

`FATHOMLAB_REWRITE_GOLDEN=1 python -m pytest tests/golden` rewrites the files; review the difference.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def golden() -> Callable[[str, Any], Any]:
    """`golden(name, value)` returns what the JSON file `name` contains, after replacing it with `value` if requested."""

    def read(name: str, value: Any) -> Any:
        path = HERE / name
        if os.environ.get("FATHOMLAB_REWRITE_GOLDEN"):
            path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    return read
