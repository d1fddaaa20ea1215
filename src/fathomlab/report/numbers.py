"""Numbers as the page prints them; sentences take a true minus sign, tables stay plain for a spreadsheet."""

from collections.abc import Sequence

from fathomlab.analysis.statistics import Interval

MINUS = "\u2212"
NBSP = "\u00a0"
NONE = ""


def plain(value: float | None, digits: int = 2) -> str:
    """A number for a table, without a trailing minus zero; empty where there is none."""
    if value is None:
        return NONE
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as per cent for a table: 0.98123 is "98.12"."""
    return NONE if fraction is None else plain(100 * fraction, digits)


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign: "+0.52"."""
    text = plain(value, digits)
    if not text.strip("-0."):
        return text
    return text.replace("-", MINUS) if text.startswith("-") else f"+{text}"


def span(interval: Interval, scale: float = 1, sign: bool = True) -> str:
    """The two ends of an interval, "+0.10 to +0.94"; "" where one value allows none."""
    if interval.low is None or interval.high is None:
        return ""
    write = signed if sign else plain
    return f"{write(scale * interval.low)} to {write(scale * interval.high)}"


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 trial", "3 trials"."""
    return f"{number}{NBSP}{noun}" if number == 1 else f"{number}{NBSP}{noun}s"


def duration(seconds: float | None) -> str:
    """A wall time as people read it: "12 s", "3 min 5 s", "2 h 10 min"."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def grouped(text: str) -> str:
    """A whole number with its thousands apart, for the eye: "21 282 122"."""
    return f"{int(text):,}".replace(",", "\u202f") if text.isdecimal() else text


def significant(value: float | None) -> str:
    """A loss or norm to four significant digits; empty where there is none."""
    return NONE if value is None else f"{value:.4g}"


def whole(value: float | None) -> str:
    """A whole number for a table; empty where there is none."""
    return NONE if value is None else str(round(value))


def capital(text: str) -> str:
    """A text that begins a sentence."""
    return text[:1].upper() + text[1:]


def listed(texts: Sequence[str]) -> str:
    """Texts as a sentence lists them.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else ""
