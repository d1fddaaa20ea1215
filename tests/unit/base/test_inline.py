"""Inline displays fit on a screen and contain what they can."""

import pytest

from fathomlab.base.inline import MAX_CHARS, MAX_LINES, mimebundle

HEADER = ["condition", "n"]


@pytest.mark.parametrize("rows", [0, 1, 5, 24, 1000])
@pytest.mark.parametrize("notes", [0, 3, 100])
@pytest.mark.parametrize("length", [3, 500])
def test_displays_fit_and_say_what_is_missing(rows: int, notes: int, length: int):
    bundle = mimebundle("T" * length, HEADER, [["c" * length, str(n)] for n in range(rows)], ["n" * length] * notes)
    for text in bundle.values():
        assert len(text) <= MAX_CHARS
        assert text.count("\n") < MAX_LINES
        if rows == 1000:
            assert "more rows" in text
        if notes == 100:
            assert "more notes" in text
    if rows == 5 and notes <= 3:
        assert "more" not in bundle["text/plain"]
        assert bundle["text/html"].count("<tr>") == 6


def test_texts_are_escaped():
    bundle = mimebundle("<b>", ["<i>"], [["a & b\n\x1b[31m"]], ["<script>"])
    assert "<script>" not in bundle["text/html"]
    assert "a &amp; b" in bundle["text/html"]
    assert "\x1b" not in bundle["text/plain"]


def test_no_row_is_no_table():
    assert mimebundle("title", HEADER, [])["text/plain"] == "title"
