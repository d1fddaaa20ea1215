"""Exporters: the protocol and the table. A new exporter needs a file with a frozen dataclass, and a line in `EXPORTERS`.

An exporter reads the records of a finished or running experiment, or one trained network. It knows nothing of training.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from fathomlab.base.table import Table
from fathomlab.export.bundle import Bundle
from fathomlab.export.csv import Csv
from fathomlab.export.hub import Hub
from fathomlab.export.onnx import Onnx
from fathomlab.export.parquet import Parquet
from fathomlab.export.tensorboard import TensorBoard
from fathomlab.export.wandb import WandbExporter

if TYPE_CHECKING:
    from fathomlab.analysis.study import Study
    from fathomlab.export.trial import Exported, LoadedTrial


@runtime_checkable
class Exporter(Protocol):
    """Writes an experiment for other programs. The fields are the options. A second call duplicates nothing.

    Attributes:
        extra: Name of the optional dependencies that it needs; "" if there are none.
        subject: What it exports: "experiment".
    """

    extra: ClassVar[str]
    subject: ClassVar[Literal["experiment"]]

    def export(self, study: "Study", target: Path | None) -> tuple[Path, ...]:
        """Write the experiment and return what was written.

        Args:
            study: The experiment with the records of its trials.
            target: Where to write; None for the exporter's default.

        Raises:
            UserError: If the target exists and may not be replaced.
            ImportError: If the extra is not installed.
            OSError: If writing fails.
        """
        ...


@runtime_checkable
class TrialExporter(Protocol):
    """Writes one trained network for other programs. The fields are the options.

    Attributes:
        extra: Name of the optional dependencies that it needs; "" if there are none.
        subject: What it exports: "trial".
    """

    extra: ClassVar[str]
    subject: ClassVar[Literal["trial"]]

    def export(self, trial: "LoadedTrial", target: Path | None) -> "Exported":
        """Write the network, and check that what was written computes the same.

        Args:
            trial: The finished trial. It is read only when it is needed.
            target: Where to write; None for the exporter's default.

        Raises:
            UserError: If the target exists and may not be replaced, the network cannot be exported, or the check fails.
            ImportError: If the extra is not installed.
            OSError: If writing fails.
        """
        ...


EXPORTERS: Table[Any] = Table(
    "exporter",
    {
        "csv": Csv,
        "parquet": Parquet,
        "bundle": Bundle,
        "tensorboard": TensorBoard,
        "wandb": WandbExporter,
        "onnx": Onnx,
        "hub": Hub,
    },
)
