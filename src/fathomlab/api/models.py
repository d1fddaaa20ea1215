"""Networks by themselves, as torch modules."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fathomlab import data as datasets
from fathomlab.base.errors import ConfigError, Issue
from fathomlab.plan import sections

if TYPE_CHECKING:
    from fathomlab.engine.torch_model import TorchModel


def build_model(model: Mapping[str, Any], seed: int = 0, *, data: str | None = None) -> "TorchModel":
    """Build a torch module that maps a batch of images to logits, with the initial values of `seed`.

    The parameters are float32, rounded from the float64 values that a trial of the same model and seed starts from. The caller's
    default dtype, default device, and inference mode do not affect them.

    Args:
        model: `{"type": ..., "params": ...}` as in an experiment file.
        seed: The random seed of the initial values.
        data: Name of the dataset that determines the image shape. The model's default dataset is used if it is not given, which
            means 1 x 1 x `input_size` for an MLP and 3 x 32 x 32 for a CNN.

    Raises:
        ConfigError: Lists every problem of the options.
        UserError: If there is no such dataset.
    """
    from fathomlab.engine.torch_model import TorchModel
    from fathomlab.execute.pack.settings import deterministic_mode

    problems: list[Issue] = []
    network = sections.network(model, "", problems, {})
    if network is None:
        raise ConfigError("the model", problems)
    info = datasets.make(data or network.component.default_dataset).info
    size = getattr(network.component, "input_size", None) if data is None else None
    shape = (1, 1, size) if size is not None else (info.channels, info.height, info.width)
    if data is not None and (problems := network.component.validate_for(shape, info.classes)):
        raise ConfigError("the model", problems)
    with deterministic_mode():
        return TorchModel(network.component.build(shape), seed)
