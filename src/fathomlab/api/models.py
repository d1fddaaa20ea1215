"""Networks by themselves, as torch modules."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fathomlab.base.errors import ConfigError, Issue
from fathomlab.data import DATASETS
from fathomlab.plan import sections

if TYPE_CHECKING:
    from fathomlab.engine.torch_model import TorchModel


def build_model(model: Mapping[str, Any], seed: int = 0) -> "TorchModel":
    """Build a torch module that maps a batch of images to logits, with the initial values of `seed`.

    The parameters are float32, rounded from the float64 values that a trial of the same model and seed starts from. The caller's
    default dtype, default device, and inference mode do not affect them.

    Args:
        model: `{"type": ..., "params": ...}` as in an experiment file. The image shape is that of the model's default dataset:
            1 x 1 x `input_size` for an MLP, 3 x 32 x 32 for a CNN. Other shapes cannot be chosen here.
        seed: The random seed of the initial values.

    Raises:
        ConfigError: Lists every problem of the options.
    """
    from fathomlab.engine.torch_model import TorchModel
    from fathomlab.execute.pack.settings import deterministic_mode

    problems: list[Issue] = []
    network = sections.network(model, "", problems, {})
    if network is None:
        raise ConfigError("the model", problems)
    info = DATASETS[network.component.default_dataset].info
    size = getattr(network.component, "input_size", None)
    shape = (1, 1, size) if size is not None else (info.channels, info.height, info.width)
    with deterministic_mode():
        return TorchModel(network.component.build(shape), seed)
