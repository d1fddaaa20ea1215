"""Text for streams of any encoding."""

from fathomlab.base.output import encodable

TEXT = "\u22121.5 \u00b1 2 \u2192 \U0001f600 \u05d0 \u202e \u0000"


def test_encodable_returns_encodable_text():
    """Signs, emoji, and right-to-left letters, also for unknown encodings."""
    for encoding in ("ascii", "cp1252", "cp437", "latin-1", "cp932", "utf-16", "no-such-encoding", None):
        shown = encodable(TEXT, encoding)
        shown.encode(encoding if encoding not in (None, "no-such-encoding") else "utf-8")


def test_encodable_replaces_signs_in_ascii():
    assert encodable(TEXT, "ascii").startswith("-1.5 +- 2 -> ")
