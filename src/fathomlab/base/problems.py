"""The only errors that a user's mistake may raise: each names the place, what is wrong, and the remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in an experiment.

    Attributes:
        code: Stable name of this kind of error, such as `unknown-key`. Programs and tests rely on it; wording may change.
        path: Dotted key, `""` for the document as a whole.
        message: What is wrong, with the value that was got; one or two sentences.
        place: Where to look, such as `exp.yaml:3` or `override 2`; `""` while it is not known.
    """

    code: str
    path: str
    message: str
    place: str = ""

    def __str__(self) -> str:
        """The line that people read: place, dotted key, message."""
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
        source: Name of the file or of the mapping that was read.
        problems: All of them, in the order of the file.
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
    """A value as an error message shows it: Python's spelling, booleans and null as YAML has them, cut at `limit`."""
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)  # type: ignore[arg-type]
    assert text is not None
    return text if len(text) <= limit else text[: limit - 3] + "..."


def suggestion(word: str, known: Sequence[str]) -> str:
    """The nearest name as `" Did you mean 'x'?"`, or `""` where none is near."""
    lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    return f" Did you mean '{lower[near[0]]}'?" if near else ""
