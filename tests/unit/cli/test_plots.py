"""Plots as text, character by character."""

from fathomlab.cli.plots import ASCII, Characters, characters, text_plot


def test_text_plot_draws_two_series():
    """The second over the first; labels at the top, the middle, and the bottom."""
    lines = text_plot("Loss", {"train": [4, 2, 0], "val": [2, 2, 2]}, ("a", "b"), width=22, height=5)
    assert lines == [
        "Loss  * train, o val",
        "        4 |**",
        "          |  **",
        "        2 |ooooooooooo",
        "          |       **",
        "        0 |         **",
        "          +-----------",
        "           a         b",
    ]


def test_text_plot_leaves_gaps():
    """Of values that are None, infinite, or, on a log axis, not positive."""
    nan = float("nan")
    lines = text_plot("t", {"a": [1, None, 100, 100, nan]}, ("", ""), width=20, height=3, log=True)
    assert lines[1:4] == ["      100 |    ****", "       10 |", "        1 |*"]
    assert text_plot("t", {"a": [None, 2, None]}, ("", ""), 20, 3)[2] == "        2 |    *"
    assert text_plot("t", {"a": [0, -1]}, ("", ""), 20, log=True) == []
    assert text_plot("t", {"a": [None]}, ("", ""), 20) == []


def test_text_plot_of_one_value_is_in_the_middle():
    lines = text_plot("t", {"a": [3.0]}, ("1", "1"), width=20, height=3)
    assert [line.strip() for line in lines[1:4]] == ["|", "3 |*", "|"]


def test_characters_fit_the_encoding():
    assert [characters(name) for name in ("utf-8", "ascii", "latin-1", "no-such")] == [
        Characters(),
        ASCII,
        ASCII,
        ASCII,
    ]
    assert characters(None) == Characters()
