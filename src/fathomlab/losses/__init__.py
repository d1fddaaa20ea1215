"""Losses: the protocols and the tables. A new loss needs a file with a frozen dataclass, and a line in a table.

The training loss of an example is the sum of the loss's terms. The engine averages over the batch. Options marked `Varies`
may differ between the trials of a pack. In the engine they are then tensors of shape (k, 1).
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from fathomlab.base.errors import Issue
from fathomlab.base.table import Table
from fathomlab.losses.attention_transfer import AttentionTransfer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.defaults import Points
from fathomlab.losses.dist import DIST
from fathomlab.losses.distillation import Distillation
from fathomlab.losses.dkd import DKD
from fathomlab.losses.fitnet import FitNet
from fathomlab.losses.logit_mse import LogitMSE
from fathomlab.losses.logit_standardization import LogitStandardization
from fathomlab.losses.nkd import NKD
from fathomlab.losses.rkd import RKD
from fathomlab.losses.ttm import TTM, WTTM
from fathomlab.models.parameters import Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import Labels, Logits, PerExample

Need = Literal["teacher.logits", "features", "teacher.features"]


@runtime_checkable
class Signals(Protocol):
    """What a loss can read of one batch."""

    @property
    def logits(self) -> "Logits":
        """Outputs of the networks in training, (k, n, classes)."""
        ...

    @property
    def labels(self) -> "Labels":
        """Class of each example, (k, n)."""
        ...

    @property
    def teacher_logits(self) -> "Logits":
        """Outputs of the teachers for the same images, (k, n, classes), if the loss needs them."""
        ...

    @property
    def label_losses(self) -> "PerExample":
        """The loss on the labels of the student's training (nats), (k, n). Only networks with a teacher have it."""
        ...

    @property
    def features(self) -> "Mapping[str, Tensor]":
        """Outputs of the networks in training at each point, (k, n, d) or (k, n, c, h, w), if the loss needs them."""
        ...

    @property
    def teacher_features(self) -> "Mapping[str, Tensor]":
        """Outputs of the teachers at each point for the same images, if the loss needs them."""
        ...

    @property
    def parameters(self) -> "Mapping[str, Tensor]":
        """What the loss learns, by the names of `Loss.parameters`, each (k, *shape)."""
        ...


@runtime_checkable
class Loss(Protocol):
    """A frozen dataclass whose fields are the options of a loss.

    Attributes:
        needs: What the engine must provide in addition to logits and labels.
        min_classes: Smallest number of classes for which it is defined.
        compares_examples: Whether the loss of an example depends on the other examples of its batch, of the same replica.
        test_options: Options for the tests. Those that may vary in a pack differ from their defaults.
    """

    needs: ClassVar[frozenset[Need]]
    min_classes: ClassVar[int]
    compares_examples: ClassVar[bool]
    test_options: ClassVar[Mapping[str, object]]

    def mismatches(self, student: Points, teacher: Points) -> list[Issue]:
        """Return what its options and the features of two networks cannot do together; called if it needs features."""
        ...

    def batch_numbers(self, batch_size: int) -> int:
        """Return how many numbers it stores for the gradient of a batch, if they grow faster than with its size; an estimate."""
        ...

    def parameters(self, student: Points, teacher: Points) -> tuple[Parameter, ...]:
        """Return the tensors that it learns together with the student; called if it needs features."""
        ...

    def terms(self, signals: Signals) -> "Mapping[str, PerExample]":
        """Compute the weighted terms (per example), each of shape (k, n). That of the labels is `labels`."""
        ...


LOSSES: Table[Any] = Table(
    "loss",
    {
        "CrossEntropy": CrossEntropy,
        "Distillation": Distillation,
        "LogitMSE": LogitMSE,
        "DKD": DKD,
        "DIST": DIST,
        "NKD": NKD,
        "LogitStandardization": LogitStandardization,
        "TTM": TTM,
        "WTTM": WTTM,
        "RKD": RKD,
        "FitNet": FitNet,
        "AttentionTransfer": AttentionTransfer,
    },
)
# Losses on the labels, by their torch names. Each is created with `training.label_smoothing`.
CRITERIA: dict[str, Callable[[float], Loss]] = {"CrossEntropyLoss": CrossEntropy}
