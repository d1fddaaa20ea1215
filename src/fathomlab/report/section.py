"""A section of the page of an experiment: what each module of `sections/` returns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: Its id on the page. The template `ANCHOR.html` shows it.
        heading: Its heading.
        content: What the template shows, as a dataclass; the template reads nothing else.
        link: Its name in the list of contents; "" for the heading.
        notice: Whether it is drawn as a warning.
    """

    anchor: str
    heading: str
    content: object
    link: str = ""
    notice: bool = False
