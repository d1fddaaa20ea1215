"""Errors that users can fix. Each names the location, the problem, and the fix, and has a stable code."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in an experiment.

    Attributes:
        code: Stable name of this kind of error, such as `unknown-key`. Programs and tests rely on it; wording may change.
        path: Dotted key, `""` for the document as a whole.
        message: What is wrong, with the value, and the fix.
        place: Location, such as `exp.yaml:3` or `override 2`; `""` if it is not known yet.
    """

    code: str
    path: str
    message: str
    place: str = ""

    def __str__(self) -> str:
        """Location, dotted key, and message in one line."""
        key = f"{self.path}: " if self.path else ""
        return f"{self.place}  {key}{self.message}" if self.place else f"{key}{self.message}"


class UserError(ValueError):
    """An error that the user can fix. The command line prints it without a traceback and exits with status 2.

    Attributes:
        code: Stable name of this kind of error, such as `store-in-use`. Programs and tests rely on it; wording may change.
    """

    def __init__(self, code: str, message: str):
        """Create an error of the kind `code` with the text `message`."""
        super().__init__(message)
        self.code = code


class ConfigError(UserError):
    """Everything that is wrong with an experiment, at once.

    Attributes:
        source: Name of the file or mapping.
        problems: All problems, in the order of the file.
    """

    def __init__(self, source: str, problems: Sequence[Problem]):
        """Join `problems` into one text headed by `source`."""
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            "invalid-experiment", "\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)])
        )


def shown(value: object, limit: int = 60) -> str:
    """A value for an error message: as Python shows it, with YAML's true, false, and null, truncated at `limit`."""
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)  # type: ignore[arg-type]
    assert text is not None
    return text if len(text) <= limit else text[: limit - 3] + "..."


def suggestion(word: str, known: Sequence[str]) -> str:
    """The most similar name as `" Did you mean 'x'?"`, or `""` if none is similar.

    Example:
        >>> suggestion("accuracy", ["val/accuracy", "test/accuracy"])
        " Did you mean 'val/accuracy'?"
    """
    ending = next((name for name in known if word and name.endswith(f"/{word}")), None)
    if ending is not None:
        return f" Did you mean '{ending}'?"
    lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    return f" Did you mean '{lower[near[0]]}'?" if near else ""
