"""A section of the page of an experiment: what each module of `sections/` returns."""

from dataclasses import dataclass

from fathomlab.report.charts import Chart
from fathomlab.report.tables import Table


@dataclass(frozen=True)
class Plain:
    """Content of a section that needs no special template.

    Attributes:
        note: How to read the section.
        result: The result in a sentence.
        charts: Charts, two in a row.
        table: A table.
        label: Name of the table for screen readers.
        starts: Columns at which the table is divided, so that it fits on a page without scrolling.
        warnings: What must be read before the result.
        more: Another table below a heading, which is its name for screen readers, too.
    """

    note: str
    result: str = ""
    charts: tuple[Chart, ...] = ()
    table: Table | None = None
    label: str = ""
    starts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    more: tuple[str, Table] | None = None


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: Its id on the page.
        heading: Its heading.
        content: What its template shows; the template reads nothing else.
        link: Its name in the list of contents; "" for the heading.
        notice: Whether it is drawn as a warning.
    """

    anchor: str
    heading: str
    content: object
    link: str = ""
    notice: bool = False

    @property
    def template(self) -> str:
        """Name of its template."""
        return "plain.html" if isinstance(self.content, Plain) else f"{self.anchor}.html"
