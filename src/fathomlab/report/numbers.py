"""Numbers as the page prints them. Sentences use a true minus sign; tables use plain ASCII for spreadsheets."""

from collections.abc import Sequence

from fathomlab.analysis.statistics import Interval

MINUS = "\u2212"
NBSP = "\u00a0"
NONE = ""
MAX_LISTED = 20  # texts in a list


def plain(value: float | None, digits: int = 2) -> str:
    """A number for a table, never "-0.00"; empty for None."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage for a table: 0.98123 is "98.12"."""
    return NONE if fraction is None else plain(100 * fraction, digits)


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign: "+0.52"."""
    text = plain(value, digits)
    if not text.strip("-0."):
        return text
    return text.replace("-", MINUS) if text.startswith("-") else f"+{text}"


def span(interval: Interval, scale: float = 1, sign: bool = True) -> str:
    """The two ends of an interval, "+0.10 to +0.94"; "" if one value allows none."""
    if interval.low is None or interval.high is None:
        return ""
    write = signed if sign else plain
    return f"{write(scale * interval.low)} to {write(scale * interval.high)}"


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 trial", "1,200 trials"."""
    return f"{number:,}{NBSP}{noun}" if number == 1 else f"{number:,}{NBSP}{noun}s"


def duration(seconds: float | None) -> str:
    """A wall time for readers: "12 s", "3 min 5 s", "2 h 10 min"."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def grouped(text: str) -> str:
    """An integer with commas between thousands: "21,282,122"; other texts as they are."""
    return f"{int(text):,}" if text.isdecimal() and text.isascii() else text


def significant(value: float | None) -> str:
    """A loss or norm to four significant digits; empty for None."""
    return NONE if value is None else f"{value:.4g}"


def format_int(value: float | None) -> str:
    """An integer for a table; empty for None."""
    return NONE if value is None else str(round(value))


def capital(text: str) -> str:
    """A text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def first_of(texts: Sequence[str], separator: str = "; ") -> str:
    """The first 20 texts, and how many more there are: a list of thousands is not read.

    Example:
        >>> first_of(["a", "b"]), first_of(["a"] * 1022)[-14:]
        ('a; b', '; 1,002\xa0others')
    """
    left_out = len(texts) - MAX_LISTED
    shown = [*texts[:MAX_LISTED], *([count(left_out, "other")] if left_out > 0 else [])]
    return separator.join(shown)


def listed(texts: Sequence[str]) -> str:
    """Texts as an English list with a serial comma.

    Example:
        >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
        ('a', 'a and b', 'a, b, and c')
    """
    if len(texts) < 3:
        return " and ".join(texts)
    return f"{', '.join(texts[:-1])}, and {texts[-1]}"
