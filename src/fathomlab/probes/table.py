"""The table of probes."""

from typing import Any

from fathomlab.probes.gradients import Gradients

PROBES: dict[str, type[Any]] = {"gradients": Gradients}
