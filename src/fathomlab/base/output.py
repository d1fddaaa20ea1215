"""Text for streams that cannot represent every character, such as a redirected console with an old code page."""

SPELLINGS = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2026": "...",
        "\u00b1": "+-",
        "\u00d7": "x",
        "\u2265": ">=",
        "\u2264": "<=",
        "\u2192": "->",
        "\u00a0": " ",
        "\u2009": " ",
    }
)


def encodable(text: str, encoding: str | None) -> str:
    """Return the text unchanged, or as ASCII with escapes if `encoding` cannot represent it.

    Example:
        >>> encodable("\u22121 point", "ascii"), encodable("\u22121 point", "utf-8") == "\u22121 point"
        ('-1 point', True)
    """
    name = encoding or "utf-8"
    try:
        text.encode(name)
        return text
    except UnicodeEncodeError:
        return text.translate(SPELLINGS).encode(name, "backslashreplace").decode(name)
    except LookupError:
        return text.translate(SPELLINGS).encode("ascii", "backslashreplace").decode("ascii")


def invalid_text_reason(text: str) -> str:
    """Why `text` can be no name, title or value, or `""`: what a terminal, a file or a page should not be given."""
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        return "contains half of a surrogate pair"
    if any((ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160 for letter in text):
        return "contains a control character"
    return ""


def escape_control_chars(name: str) -> str:
    """Escape characters that are not printable, for messages and records."""
    return "".join(
        ascii(letter)[1:-1] if invalid_text_reason(letter) or letter in "\n\t" else letter for letter in name
    )
