"""`checks.yaml` next to the tables: checks that people add to a page after the experiment file was written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fathomlab.base.errors import ConfigError, Issue, UserError
from fathomlab.base.options import INVALID, parse
from fathomlab.config.published import Published
from fathomlab.config.yaml_reader import read_yaml

CHECKS = "checks.yaml"


@dataclass(frozen=True)
class Stated:
    """A check whose numbers another command computes. The page shows it as it is.

    Attributes:
        statement: What was published or predicted.
        ours: What the command gives.
        command: The command that computes it.
        agrees: Whether they agree.
        source: Where it was published.
    """

    statement: str
    ours: str
    command: str
    agrees: Literal["agrees", "disagrees", "undecided"]
    source: str = ""


@dataclass(frozen=True)
class Checks:
    """The content of `checks.yaml`.

    Attributes:
        published: Further published statements, as in `experiment.published`.
        stated: Checks that other commands compute.
        thresholds: Further test accuracies (fractions) above which seeds are counted.
    """

    published: tuple[Published, ...] = ()
    stated: tuple[Stated, ...] = ()
    thresholds: tuple[float, ...] = ()

    def validate(self) -> list[Issue]:
        """Thresholds in percent."""
        wrong = [value for value in self.thresholds if not 0 <= value <= 1]
        return (
            [Issue("out-of-range", "thresholds", f"must be fractions between 0 and 1, got {wrong[0]:g}")]
            if wrong
            else []
        )


def read_checks(path: Path) -> Checks:
    """Read `checks.yaml`, which need not exist.

    Raises:
        ConfigError: If it has problems; all of them.
        UserError: If it cannot be read.
    """
    try:
        document = read_yaml(path.read_bytes(), str(path))
    except FileNotFoundError:
        return Checks()
    except OSError as error:
        raise UserError("unreadable-file", f"{path}: cannot be read ({error.strerror or error}).") from None
    problems: list[Issue] = []
    checks = parse(Checks, document.data, "", problems)
    if checks is INVALID:
        raise ConfigError(str(path), problems)
    return checks
