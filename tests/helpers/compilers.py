"""A compiler that fails."""

from typing import Any

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from fathomlab.prepare import machine


def use_failing_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer a compiler that fails at the first call, for example because its headers are missing."""

    def failing_compile(*_: Any, **__: Any) -> Any:
        def fail(*_: Any) -> Any:
            raise TorchDynamoException("no headers\nand more")

        return fail

    monkeypatch.setattr(torch, "compile", failing_compile)
    monkeypatch.setattr(machine, "has_compiler", lambda: True)
