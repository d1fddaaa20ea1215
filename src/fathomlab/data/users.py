"""Users' datasets: by their content, or as a function of a plugin."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from fathomlab.base.errors import UserError, user_code_location
from fathomlab.base.identity import content_hash
from fathomlab.base.user_code import describe_error, user_code
from fathomlab.data.arrays import Arrays
from fathomlab.data.objects import seeded_generators
from fathomlab.data.table import DatasetInfo

DIGEST = re.compile(r"[0-9a-f]{64}")


class DataSource(Protocol):
    """A component whose images are known only after reading them."""

    option_of_source: ClassVar[str]

    @property
    def title(self) -> str:
        """Name for people."""
        ...

    def read(self, directory: Path) -> Arrays:
        """Return the images and labels. Paths are relative to `directory`."""
        ...


@dataclass(frozen=True)
class UserDataset:
    """A user's dataset as a trial names it. The arrays are in the store, in `data/<sha256>.npz`.

    Attributes:
        info: Facts about the arrays.
        sha256: SHA-256 of the arrays, as `content_sha256` computes it.
        params: Options of the function; empty for other datasets, which their content identifies.
        plugin: SHA-256 of the plugin with the function; empty for other datasets.
    """

    info: DatasetInfo
    sha256: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    plugin: str = ""

    def __post_init__(self) -> None:
        """Reject what no dataset has, and what could lead out of the store."""
        info = self.info
        if not DIGEST.fullmatch(self.sha256):
            raise ValueError("must be a SHA-256")
        sizes = (info.channels, info.height, info.width, info.train_examples, info.test_examples, info.classes - 1)
        names_agree = len(info.class_names) == info.classes
        if min(sizes) < 1 or not names_agree or not len(info.mean) == len(info.std) == info.channels:
            raise ValueError("facts about a dataset disagree")

    @property
    def identity(self) -> Mapping[str, Any]:
        """What identifies the dataset: its content, or the code and the options that return it."""
        origin = {"plugin": self.plugin} if self.plugin else {"sha256": self.sha256}
        return {"name": self.info.name, "params": dict(self.params), **origin}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the identity: the name of its files in the store."""
        return content_hash(self.identity)


class FunctionDataset:
    """Base of the components of users' functions: frozen dataclasses whose fields are the parameters.

    Attributes:
        function: Returns `Arrays`.
    """

    function: ClassVar[Callable[..., Any]]
    test_options: ClassVar[Mapping[str, object]] = {}
    option_of_source: ClassVar[str] = "name"

    @property
    def title(self) -> str:
        """Name for people."""
        return type(self).__name__

    def read(self, directory: Path) -> Arrays:
        """Call the function, with seeded generators. What it prints goes to standard error.

        Raises:
            UserError: If the function raises an error, or returns something else; names file and line of the plugin.
        """
        options, name = {field.name: getattr(self, field.name) for field in fields(self)}, type(self).__name__  # type: ignore[arg-type]
        try:
            with user_code(), seeded_generators():
                result = type(self).function(**options)
        except KeyboardInterrupt:
            raise
        except UserError as error:
            raise UserError(error.code, f"{user_code_location(error)}{name}: {error}") from error
        except BaseException as error:  # a function may call sys.exit, too
            raise UserError("plugin-error", describe_error(error, name)) from error
        if not isinstance(result, Arrays):
            raise UserError("plugin-error", f"{name} must return fathomlab.Arrays, got {type(result).__name__}")
        return result
