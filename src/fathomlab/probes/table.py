"""The table of probes."""

from typing import Any

from fathomlab.probes.gradients import Gradients
from fathomlab.probes.noise import Noise
from fathomlab.probes.representation import Representation
from fathomlab.probes.updates import Updates

PROBES: dict[str, type[Any]] = {
    "gradients": Gradients,
    "noise": Noise,
    "representation": Representation,
    "updates": Updates,
}
