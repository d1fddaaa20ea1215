"""Claims and their verdicts: a card each, the table of all numbers, fractions of success, and the test on images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fathomlab.report.loose import at, entries, mapping, number
from fathomlab.report.numbers import capital, listed, plain, significant, whole
from fathomlab.report.study import word
from fathomlab.report.tables import Table, table

VERDICTS = ("supported", "refuted", "undecided")
EXPECTED = {"greater": "above", "less": "below", "equal": "within \u00b1"}


@dataclass(frozen=True)
class Card:
    """A verdict as a card; a kind that is none of the three words counts as undecided.

    Attributes:
        title: The claim, or the whole sentence where it does not begin with the claim.
        text: What the seeds say of it.
        notes: What a reader should know beside the number.
        besides: What differs between the levels besides the factor, in a sentence; "" where nothing was compared.
        unfair: Whether something does that does not follow from the factor.
    """

    kind: str
    title: str
    name: str
    text: str
    notes: tuple[str, ...]
    besides: str
    unfair: bool
    exploratory: bool


def card(verdict: Mapping[str, Any], audit: Mapping[str, Any]) -> Card:
    """The card of one verdict with the summary of its audit."""
    kind, name, sentence = str(verdict.get("verdict")), str(verdict.get("name", "")), str(verdict.get("sentence", ""))
    split = bool(name) and sentence.startswith(name)
    text = capital(sentence[len(name) :].strip(": ")) if split else ""
    rows = [mapping(row) for row in entries(audit.get("rows"))]
    return Card(
        kind=kind if kind in VERDICTS else "undecided",
        title=name if split else sentence,
        name="" if split else name,
        text=text,
        notes=tuple(str(note) for note in entries(verdict.get("notes"))),
        besides=str(audit.get("summary", "")) if rows else "",
        unfair=any(row.get("differs") is True and row.get("expected") is not True for row in rows),
        exploratory=verdict.get("exploratory") is True,
    )


def unit(verdict: Mapping[str, Any]) -> tuple[str, float]:
    """What an effect is counted in, and by what its number is multiplied: points for accuracies, nats for losses."""
    accuracy = verdict.get("kind") == "success" or str(verdict.get("metric", "test/accuracy")).endswith("accuracy")
    name, scale = ("points", 100.0) if accuracy else ("nats", 1.0)
    return f"{name} per doubling" if verdict.get("kind") == "trend" else name, scale


def contrast_text(claim: Mapping[str, Any]) -> str:
    """What a claim compares, in words: "residual minus plain at depth 5".

    Example:
        >>> contrast_text({"factor": "residual", "levels": [True, False], "at": {"hidden_layers_num": 5}})
        'residual minus plain at depth 5'
    """
    factor, levels = str(claim.get("factor", "")), entries(claim.get("levels"))
    words = [word(factor, level) for level in levels]
    if factor == "role":
        words = [str(level) for level in levels]
    if claim.get("kind") == "trend":
        values = [text.rsplit(" ", 1)[-1] for text in words]
        what = f"trend over {word(factor, '').strip()} {', '.join(values)}"
    elif claim.get("reference") is not None:
        reference = number(claim.get("reference")) or 0.0
        shown = f"{100 * reference:.4g} %" if unit(claim)[1] == 100 else f"{reference:.4g} nats"
        what = f"{words[0] if words else factor} minus {shown}"
    else:
        what = " minus ".join(words) or factor
    if claim.get("kind") == "success":
        what = f"seeds above {100 * (number(claim.get('threshold')) or 0.0):.4g} %: {what}"
    where = listed([word(key, level) for key, level in mapping(claim.get("at")).items()])
    return f"{what} at {where}" if where else what


def claims_table(verdicts: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]) -> Table:
    """Every number of every verdict; effects in points or nats, as their row says."""
    contrasts = {str(claim.get("name")): contrast_text(claim) for claim in claims}
    rows: list[list[str]] = []
    for verdict in verdicts:
        name, scale = unit(verdict)
        effect, low, high, matters, least, spread = (
            _scaled(verdict.get(key), scale) for key in ("effect", "low", "high", "matters", "mde", "sd")
        )
        row = [str(verdict.get("name", "")), contrasts.get(str(verdict.get("name")), ""), str(verdict.get("verdict"))]
        row += [effect, low, high, name, f"{EXPECTED.get(str(verdict.get('expect')), '')} {matters}".strip()]
        row += [_p(verdict.get(key)) for key in ("p", "p_holm", "signflip_p", "signflip_floor")]
        row += [least, whole(number(verdict.get("n"))), spread, plain(number(verdict.get("rho")), 2)]
        rows.append([*row, whole(number(verdict.get("more_seeds"))), "yes" if verdict.get("exploratory") else "no"])
    columns = ["claim", "contrast", "verdict", "effect", "95 % low", "95 % high", "unit", "what matters"]
    columns += ["p, one-sided", "p, Holm", "p, sign-flip", "least p of sign-flip", "detectable effect", "n", "sd"]
    return table("claims", [*columns, "correlation", "more seeds, about", "exploratory"], rows, texts=3)


def success_table(verdicts: Sequence[Mapping[str, Any]]) -> Table | None:
    """Fractions of seeds above a threshold with Wilson's 95 % interval; None where no claim asks for them."""
    rows: list[list[str]] = []
    for verdict in verdicts:
        for side in (mapping(item) for item in entries(verdict.get("success"))):
            ends = [_scaled(side.get(key), 100.0) for key in ("low", "high")]
            counts = [whole(number(side.get(key))) for key in ("successes", "n")]
            rows.append([str(verdict.get("name", "")), str(side.get("level", "")), *counts, *ends])
    columns = ["claim", "level", "seeds above", "n", "Wilson 95 % low [%]", "Wilson 95 % high [%]"]
    return table("successes", columns, rows, texts=2) if rows else None


def images_table(verdicts: Sequence[Mapping[str, Any]]) -> Table | None:
    """McNemar's exact test on the test images, over all seeds and for each; None where it is not stored."""
    rows: list[list[str]] = []
    for verdict in verdicts:
        found = mapping(verdict.get("mcnemar"))
        counts = [whole(number(found.get(key))) for key in ("b", "c")]
        if found:
            rows.append([str(verdict.get("name", "")), f"all {found.get('seeds')}", *counts, _p(found.get("p"))])
        for seed in (mapping(item) for item in entries(found.get("each"))):
            numbers = [whole(number(seed.get(key))) for key in ("b", "c")]
            rows.append([str(verdict.get("name", "")), f"seed {seed.get('seed')}", *numbers, _p(seed.get("p"))])
    columns = ["claim", "seeds", "right at the first level only", "right at the second only", "p, two-sided"]
    return table("mcnemar", columns, rows, texts=2) if rows else None


def threshold(claim: Mapping[str, Any]) -> float | None:
    """What the metric of a success is above [%]."""
    found = number(at(claim, "threshold"))
    return None if found is None else 100 * found


def _scaled(value: Any, scale: float) -> str:
    found = number(value)
    if found is None:
        return ""
    return plain(scale * found) if scale == 100 else significant(found)


def _p(value: Any) -> str:
    """A probability for a table, three digits; tiny ones as the power of ten they are."""
    found = number(value)
    return "" if found is None else f"{found:.3g}" if found >= 1e-4 or found == 0 else f"{found:.1e}"
