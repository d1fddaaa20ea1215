"""Errors that users can fix. Each names the location, the problem, and the fix, and has a stable code."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

PLUGIN_FILE = "<plugin {}>"  # the name of a plugin's file in tracebacks
OBJECT_SOURCE = "# {}, as passed to fathomlab"  # the first line of a plugin that comes from a class


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong in an experiment.

    Attributes:
        code: Stable name of this kind of error, such as `unknown-key`. Programs and tests rely on it; wording may change.
        path: Dotted key; `""` for the document itself.
        message: What is wrong, with the value, and the fix.
        location: Where it is, such as `exp.yaml:3` or `override 2`; `""` if it is not known yet.
    """

    code: str
    path: str
    message: str
    location: str = ""

    def __str__(self) -> str:
        """Location, dotted key, and message in one line."""
        key = f"{self.path}: " if self.path else ""
        return f"{self.location}  {key}{self.message}" if self.location else f"{key}{self.message}"


class UserError(ValueError):
    """An error that the user can fix. The command line prints it without a traceback and exits with status 2.

    Attributes:
        code: Stable name of this kind of error, such as `store-in-use`. Programs and tests rely on it; wording may change.
    """

    def __init__(self, code: str, message: str):
        """Create an error of the kind `code` with the text `message`."""
        super().__init__(message)
        self.code = code

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message alone, because it names the fix."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(UserError):
    """All problems of an experiment.

    Attributes:
        source: Name of the file or mapping.
        problems: All problems, in the order of the file.
    """

    def __init__(self, source: str, problems: Sequence[Issue]):
        """Join `problems` into one message that starts with `source`."""
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            "invalid-experiment", "\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)])
        )


def format_value(value: object, limit: int = 60) -> str:
    """Format a value for an error message: its `repr`, with YAML's true, false, and null, truncated at `limit`."""
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)  # type: ignore[arg-type]
    assert text is not None
    if len(text) <= limit:
        return text
    end = text[-1] if isinstance(value, str) else ""  # the quotation mark
    return f"{text[: limit - 3 - len(end)]}...{end}"


def did_you_mean(name: str, candidates: Sequence[str]) -> str:
    """Return the most similar candidate as `" Did you mean 'x'?"`, or `""` if none is similar.

    Example:
        >>> did_you_mean("accuracy", ["val/accuracy", "test/accuracy"])
        " Did you mean 'val/accuracy'?"
    """
    qualified = next((candidate for candidate in candidates if name and candidate.endswith(f"/{name}")), None)
    if qualified is not None:
        return f" Did you mean '{qualified}'?"
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    matches = get_close_matches(name.lower(), list(by_lower_case), n=1, cutoff=0.6)
    return f" Did you mean '{by_lower_case[matches[0]]}'?" if matches else ""


def unknown_name(kind: str, name: object, names: Sequence[str]) -> str:
    """Return the problem of a name that is not in a closed list, or `""`."""
    if name in names:
        return ""
    hint = did_you_mean(name, names) if isinstance(name, str) else ""
    return f"unsupported {kind} {format_value(name)}.{hint} Supported: {', '.join(names)}."


def unknown_key(key: object, names: Sequence[str]) -> str:
    """Return the message for an unknown key, with the most similar key or all keys."""
    hint = did_you_mean(str(key), names)
    return f"unknown key.{hint}" if hint else f"unknown key. Known keys: {', '.join(sorted(names))}"


def too_large(value: object) -> str:
    """Return the problem of an integer that has too many digits to print, or `""`."""
    huge = isinstance(value, int) and value.bit_length() > 1024
    return "must be below 2^53, got a number of more than 300 digits" if huge else ""


def definition_location(function: object) -> str:
    """Return where a plugin defines a function, as `my_parts.py:3: `; `""` if it is not in a plugin."""
    code = getattr(function, "__code__", None)
    start, end = PLUGIN_FILE.split("{}")
    if code is None or not code.co_filename.startswith(start):
        return ""
    return f"{code.co_filename.removeprefix(start).removesuffix(end)}:{code.co_firstlineno}: "


def user_code_location(error: BaseException) -> str:
    """Return where an error happened in a plugin, as `my_parts.py:3: `; `""` if it is not in a plugin.

    This is the innermost line in a plugin, or the line that Python cannot parse. Its text follows if the plugin comes from a
    class: `Net.py:3 (return self.head(images)): `.
    """
    import linecache
    import traceback  # takes time to import, and few commands need it

    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    places += [(error.filename or "", error.lineno)] if isinstance(error, SyntaxError) else []
    start, end = PLUGIN_FILE.split("{}")
    inside = [(file, line) for file, line in places if file.startswith(start)]
    if not inside:
        return ""
    file, line = inside[-1]
    from_class = linecache.getline(file, 1).strip().endswith(OBJECT_SOURCE.format("")[2:])
    text = f" ({linecache.getline(file, line).strip()})" if from_class and line else ""
    return f"{file.removeprefix(start).removesuffix(end)}:{line}{text}: "
