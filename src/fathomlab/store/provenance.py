"""Where the numbers of a trial come from. The fields have the names of the JSON keys on disk. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fathomlab.base.codec import JsonObject, to_plain

Environment: TypeAlias = Mapping[str, str | int | None]


@dataclass(frozen=True)
class BackendBuild:
    """The backend that computed the steps: its name, and the versions and processor features that it was built with."""

    name: str
    build: str


@dataclass(frozen=True)
class Resumption:
    """A checkpoint that training was resumed from: its step, and the environment and the pack that wrote it."""

    step: int
    environment: Environment
    members: tuple[str, ...]


@dataclass(frozen=True)
class Hardware:
    """Name of the processor, cores that the process may use, name of the GPU."""

    cpu: str | None = None
    cores: int | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class Commit:
    """The commit of fathomlab, whether files differ from it, and the SHA-256 of that difference; None outside a repository."""

    commit: str | None = None
    dirty: bool = False
    patch: str | None = None


@dataclass(frozen=True)
class DataSource:
    """Name of the dataset, file names to SHA-256, files that are not the published ones, and notes on this copy."""

    name: str = ""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    unofficial: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackSlot:
    """Number and hashes of the trials that were trained together, and the slot of this one."""

    size: int
    place: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginDigest:
    """Name and SHA-256 of a plugin file whose components a trial uses."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Where the numbers of a trial come from. A trial that failed before training has only the first three fields.

    Attributes:
        versions: Name of a library to its version.
        hardware: Processor and GPU.
        git: Commit of fathomlab.
        environment: What must be equal for a resumed trial to have the same bits.
        device: cpu or cuda.
        precision: Number format of training.
        backend: What computed the steps.
        threads: Threads per process.
        deterministic: How operations without a deterministic implementation are treated.
        data: The dataset and its files.
        started: Start of training, ISO 8601.
        resumed: The checkpoints that the trial was resumed from, in order.
        pack: The pack and the slot in it.
        plugins: Plugin files that the trial uses.
        node: The node of a cluster that trained; None on the machine of the run.
    """

    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    hardware: Hardware | None = None
    git: Commit | None = None
    environment: Environment | None = None
    device: str | None = None
    precision: str | None = None
    backend: BackendBuild | None = None
    threads: int | None = None
    deterministic: str | None = None
    data: DataSource | None = None
    started: str | None = None
    resumed: tuple[Resumption, ...] = ()
    pack: PackSlot | None = None
    plugins: tuple[PluginDigest, ...] = ()
    node: str | None = None

    def to_json(self) -> JsonObject:
        """The fields by name, without those that are None."""
        return {key: value for key, value in to_plain(self).items() if value is not None}
