"""verify PAGE.html#TRIAL: trains a trial of a report again and compares the numbers."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fathomlab.base.errors import UserError
from fathomlab.base.output import escape_control_chars
from fathomlab.cli.guard import Stopped
from fathomlab.cli.options import check_progress, print_json, print_table

if TYPE_CHECKING:
    from fathomlab.analysis.repetition import Repetition


def verify_page(
    page: Path, trial: str, plugins: Sequence[Path], runs: Path | None, progress: str, as_json: bool
) -> None:
    """Train a trial of a page again and print both sets of numbers. Exits with 1 if they do not agree."""
    from fathomlab import api
    from fathomlab.execute.signals import RunInterrupted

    mode = check_progress(progress)
    try:
        result = api.repeat_trial(page, trial, plugins, runs, mode)
    except KeyboardInterrupt as error:
        reason = error if isinstance(error, RunInterrupted) else RunInterrupted()
        kept = (
            "Nothing is kept." if runs is None else f"{runs} keeps what was trained; name another directory next time."
        )
        raise Stopped(reason, kept) from None
    if as_json:
        rows = [{**asdict(row), "difference": row.difference} for row in result.rows]
        print_json({"page": str(page), **asdict(result), "rows": rows})
    else:
        _print(result)
    if not result.agrees:
        raise typer.Exit(1)


def _print(result: "Repetition") -> None:
    print(f"trial {result.trial}\ncondition {escape_control_chars(result.condition)}, seed {result.seed}")
    rows = [(row.metric, _number(row.page), _number(row.repeated), _number(row.difference, "+")) for row in result.rows]
    rows = [("status", result.page_status, result.status, ""), *rows]
    print_table("Trained again", ("metric", "page", "repeated", "difference"), rows)
    if result.changes:
        print("\nDifferent from the training of the page, so the rounding may differ:")
        for change in result.changes:
            print(f"  {escape_control_chars(change)}")
    print(f"\n{_conclusion(result)}")


def _conclusion(result: "Repetition") -> str:
    if result.identical:
        return "identical: all numbers have the same bits."
    points = f"{100 * result.tolerance:.2f} points ({result.basis})"
    if result.agrees:
        return f"agrees: test accuracies differ by at most {points}."
    if result.changes:
        return f"differs: test accuracies must not differ by more than {points}, nor status or parameters at all."
    return "differs: the same pack in the same environment must give the same bits."


def _number(value: float | int | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return "0" if sign and not value else f"{value:{sign}.6g}"


def check_alone(given: Sequence[tuple[str, object]]) -> None:
    """Refuse options that have no meaning for a page.

    Raises:
        UserError: If one is given.
    """
    names = [name for name, value in given if value]
    if names:
        raise UserError("invalid-option", f"{names[0]}: not possible for a report. Use it with an experiment file.")
