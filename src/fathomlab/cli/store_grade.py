"""store grade: one table over the hand-ins of a course."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.base.output import escape_control_chars
from fathomlab.cli.options import Json, print_json, print_table

if TYPE_CHECKING:
    from fathomlab.analysis.grades import ClaimGrade, Grade
    from fathomlab.api.grading import Grades

MAX_NAMES = 4  # of other stores in a note; --json and --to list all
ENVIRONMENT = ("torch", "processor", "device", "backend", "code", "modified_data")


def grade(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Results directories, bundles, pages, or directories with some."),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE.csv", help="Also write the table as a CSV file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of --to.")] = False,
    reference: Annotated[
        str | None, typer.Option(metavar="FILE", help="The experiment file that students were given.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Compare with the `quick` form of --reference.")] = False,
    shared: Annotated[
        list[Path] | None,
        typer.Option("--shared", metavar="DIR", help="Results that everybody was given; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print one table over the hand-ins of many students: verdicts, seeds, environments, edits, and copies.

    Nothing is trained, and no code of a plugin runs. Damaged results are rows, too.
    """
    from fathomlab.api.grading import grade_stores

    if quick and reference is None:
        raise UserError("invalid-option", "--quick needs --reference FILE.")
    grades = grade_stores(sources, reference, shared or (), quick)
    if to is not None:
        _write(grades, to, overwrite)
    if as_json:
        _print_json(grades, to)
    else:
        _print_tables(grades, to)


def _write(grades: "Grades", to: Path, overwrite: bool) -> None:
    from fathomlab.export.grades import write_grades

    try:
        write_grades(grades.rows, to, overwrite)
    except OSError as error:
        text = f"{to}: cannot be written: {error.strerror or error}. Choose another file with --to."
        raise UserError("unwritable", text) from None


def _print_json(grades: "Grades", to: Path | None) -> None:
    from fathomlab.base.codec import to_plain

    print_json({**to_plain(grades), **({"file": str(to)} if to else {})})


def _print_tables(grades: "Grades", to: Path | None) -> None:
    rows = [
        (*_names(row), _trials(row), _seeds(row.seeds), _verdicts(row), "; ".join(_notes(row))) for row in grades.rows
    ]
    print_table("", ("store", "experiment", "trials", "seeds", "verdicts", "notes"), _clean(rows))
    claims = [(*_names(row), claim.claim, claim.verdict, _effect(claim)) for row in grades.rows for claim in row.claims]
    print_table("Claims", ("store", "experiment", "claim", "verdict", "effect, 95% interval"), _clean(claims))
    environments = [
        (*_names(row), *("; ".join(getattr(row.environments, name)) for name in ENVIRONMENT))
        for row in grades.rows
        if row.trials
    ]
    print_table(
        "Environments", ("store", "experiment", *(name.replace("_", " ") for name in ENVIRONMENT)), _clean(environments)
    )
    copies = [(", ".join(group.stores), f"{len(group.trials):,}", group.trials[0][:12]) for group in grades.copies]
    print_table("Trials from the same training", ("stores", "trials", "for example"), _clean(copies))
    same = [(group.experiment, _seeds(group.seeds), ", ".join(group.stores)) for group in grades.same_seeds]
    print_table("Same seeds, which is no sign of a copy", ("experiment", "seeds", "stores"), _clean(same))
    stores, unreadable = len({row.store for row in grades.rows}), sum(not row.experiment for row in grades.rows)
    without = f" ({unreadable:,} without an experiment that can be read)" if unreadable else ""
    print(f"\n{count(stores, 'store')}{without}, {count(len(grades.rows) - unreadable, 'experiment')}")
    if to is not None:
        print(f"table: {to}")


def _clean(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[escape_control_chars(cell) for cell in row] for row in rows]


def _names(row: "Grade") -> tuple[str, str]:
    return row.store, row.experiment or "(none)"


def _trials(row: "Grade") -> str:
    others = {"diverged": row.diverged, "failed": row.failed, "missing": row.missing}
    return ", ".join(
        [f"{row.finished}/{row.trials}", *(f"{number} {name}" for name, number in others.items() if number)]
    )


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds as a range if they are one: 100..106."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}..{seeds[-1]}"
    return ",".join(map(str, seeds))


def _verdicts(row: "Grade") -> str:
    return ", ".join(claim.verdict for claim in row.claims) or "none"


def _effect(claim: "ClaimGrade") -> str:
    if claim.effect is None:
        return "none"
    scale, digits = (100, "+.2f") if claim.unit == "points" else (1, "+.4g")
    text = f"{scale * claim.effect:{digits}} {claim.unit}"
    if claim.low is None or claim.high is None:
        return text
    return f"{text}, {scale * claim.low:{digits}} to {scale * claim.high:{digits}}"


def _notes(row: "Grade") -> list[str]:
    """What a teacher should look at."""
    modified = row.environments.modified_data
    notes = (
        (bool(row.problem), row.problem),
        (bool(row.quick), "quick run"),
        (bool(row.overrides), f"overrides: {', '.join(row.overrides or ())}"),
        (bool(row.claims_changed), "other claims"),
        (row.claims_after_results, "claims added after results"),
        (row.seeds_after_results, "seeds added after results"),
        (bool(row.changed_options), f"other options: {', '.join(row.changed_options or ())}"),
        (
            bool(row.copies_of),
            f"{count(row.copied_trials, 'trial')} of the same training as in {_listed(row.copies_of)}",
        ),
        (row.shared_trials > 0, f"{count(row.shared_trials, 'trial')} handed out"),
        (bool(row.damaged), f"{count(len(row.damaged), 'damaged file')}: {''.join(row.damaged[:1])}"),
        (bool(modified), f"modified data: {', '.join(modified)}"),
    )
    return [text for applies, text in notes if applies]


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - MAX_NAMES} more"] * (len(names) > MAX_NAMES)
    return ", ".join([*names[:MAX_NAMES], *more])
