"""The global random generators of Python, NumPy, and torch, which users' code may draw from."""

import contextlib
import random
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

DRAWS = "must not draw random numbers, because they depend on what ran before"
IMPORT_SEED = 67280421310721  # of torch's generator when torch is imported


def generator_states() -> tuple[object, ...]:
    """Return the states of the generators on the CPU. They differ if a random number was drawn in between."""
    import numpy as np

    torch: Any = sys.modules.get("torch")
    numpy: Any = np.random.get_state()  # noqa: NPY002
    state = None if torch is None else torch.random.get_rng_state().numpy().tobytes()
    return random.getstate(), numpy[1].tobytes(), numpy[2:], state


@contextlib.contextmanager
def seeded(seed: int, devices: "Sequence[torch.device]" = ()) -> Iterator[None]:
    """Seed the generators of Python, NumPy, and torch if it is loaded, and restore their states afterwards.

    Args:
        seed: The seed. With `IMPORT_SEED`, it does not matter whether the code in the block is the first to import torch.
        devices: CUDA devices whose generators are seeded, in addition to the CPU.
    """
    import numpy as np

    torch: Any = sys.modules.get("torch")
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with contextlib.nullcontext() if torch is None else torch.random.fork_rng(devices=list(devices)):
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            if torch is not None:
                torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed all CUDA devices
                for device in devices:
                    with torch.cuda.device(device):
                        torch.cuda.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
