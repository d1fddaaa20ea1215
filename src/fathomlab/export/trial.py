"""What exporters of one trial get, and what they return. The network in plain torch is checked against the trial's module."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from fathomlab.base.errors import UserError
from fathomlab.base.libraries import library
from fathomlab.export.network_code import network_source
from fathomlab.store.records import Number

if TYPE_CHECKING:
    from pathlib import Path

    from fathomlab.models.architecture import Architecture
    from fathomlab.store.records import TrialRecord

Tensor: TypeAlias = Any  # of torch, which this package does not import
Module: TypeAlias = Any
TOLERANCE = 1e-6  # of the generated code, in float64, relative to the largest logit
CHECKED_INPUTS = 16


@dataclass(frozen=True)
class TestSet:
    """The test set of a trial.

    Attributes:
        pixels: Images as stored, uint8 from 0 to 255 or float32, (n, c, h, w).
        images: Images as the network gets them, (n, c, h, w).
        labels: Classes, (n,).
        mean: Mean per channel, on the scale of `pixels`, (c, 1, 1).
        scale: Inverse standard deviation per channel, on the same scale, (c, 1, 1).
    """

    __test__ = False  # no test case of pytest

    pixels: Tensor
    images: Tensor
    labels: Tensor
    mean: Tensor
    scale: Tensor


@dataclass(frozen=True)
class LoadedTrial:
    """A finished trial. Weights and images are read when a function is called.

    Attributes:
        record: Everything that the store contains about it.
        architecture: Its network.
        module: `last` or `best` to its module on the CPU in eval mode, with products in the precision of its parameters.
        test_set: Returns its test set.
        experiment: Title of its experiment, or the experiment's name; "" if it is part of none.
        condition: Label of its condition.
        role: Its role in that experiment.
        seed: Seed of that experiment; None if it is not known.
        accuracies: Test accuracies (fractions) after the last epoch of all finished trials of its condition, by seed.
    """

    record: "TrialRecord"
    architecture: "Architecture"
    module: Callable[[str], Module]
    test_set: Callable[[], TestSet]
    experiment: str = ""
    condition: str = ""
    role: str = "supervised"
    seed: int | None = None
    accuracies: Mapping[int, Number] = field(default_factory=dict[int, Number])

    @property
    def name(self) -> str:
        """The beginning of its hash."""
        return self.record.trial[:12]


@dataclass(frozen=True)
class Exported:
    """What an exporter of one trial wrote.

    Attributes:
        paths: The files.
        notes: Sentences for the user.
        size: Bytes of all files.
        differences: Largest absolute difference of logits by kind of input; empty if it was not measured.
    """

    paths: "tuple[Path, ...]"
    notes: tuple[str, ...] = ()
    size: int = 0
    differences: Mapping[str, float] = field(default_factory=dict[str, float])


def tensors_of(module: Module) -> dict[str, Tensor]:
    """Return learned tensors and running statistics by the names of the store."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach().clone().contiguous() for name, tensor in named.items()}


def plain_network(trial: LoadedTrial, module: Module) -> Module:
    """Return the network in plain torch, in eval mode: an instance of the generated class with the tensors of `module`.

    Raises:
        UserError: If the generated class computes something else, which would be an error in fathomlab.
    """
    network = generated_class(trial.architecture)().to(next(module.parameters()).dtype)
    network.load_state_dict(tensors_of(module))
    network.eval()
    difference = relative_difference(network, module, trial.architecture)
    if not difference <= TOLERANCE:  # also if it is not a number
        text = f"the code of the network differs from trial {trial.name} by {difference:.1e} of its largest logit."
        raise UserError("export-mismatch", f"{text} Nothing was written. Please report this.")
    return network


def generated_class(architecture: "Architecture") -> Any:
    """Return the generated class of a network, as `model.py` contains it."""
    names = {"torch": library("torch"), "nn": library("torch.nn"), "F": library("torch.nn.functional")}
    exec(compile(network_source(architecture), "<network>", "exec"), names)
    return names["Network"]


def relative_difference(network: Module, module: Module, architecture: "Architecture") -> float:
    """Largest difference of logits for random images, relative to the largest logit, computed in float64."""
    torch, copied = library("torch"), copy.deepcopy
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(CHECKED_INPUTS, *architecture.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        actual, expected = copied(network).double()(images), copied(module).double()(images)
    return float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-300))
