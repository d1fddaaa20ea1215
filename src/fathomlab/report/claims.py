"""Claims and their verdicts: a card each, the table of all numbers, success rates, and the image-by-image comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fathomlab.report.loose import at, entries, mapping, number
from fathomlab.report.numbers import MINUS, capital, listed, plain, significant, whole
from fathomlab.report.study import word
from fathomlab.report.tables import Table, table

VERDICTS = ("supported", "refuted", "undecided")
MEANINGS = {
    "supported": "The data agree with the claim.",
    "refuted": "The data contradict the claim.",
    "undecided": "There is not enough evidence yet.",
}
EXPECTED = {"greater": "above", "less": "below", "equal": "within \u00b1"}


@dataclass(frozen=True)
class Card:
    """A verdict as a card. An unknown kind of verdict counts as undecided.

    Attributes:
        meaning: The verdict's word, explained.
        title: The claim.
        text: What the seeds show, in plain words.
        details: Test names, levels, p-values, and notes.
        audit: What differs between the levels except the factor; "" if nothing was compared.
        unfair: Whether a difference does not follow from the factor.
        added: Whether seeds were added after results.
    """

    kind: str
    meaning: str
    title: str
    text: str
    details: tuple[str, ...]
    audit: str
    unfair: bool
    exploratory: bool
    added: bool


def card(verdict: Mapping[str, Any], audit: Mapping[str, Any]) -> Card:
    """The card of one verdict with the summary of its audit."""
    kind, name, sentence = str(verdict.get("verdict")), str(verdict.get("name", "")), str(verdict.get("sentence", ""))
    kind = kind if kind in VERDICTS else "undecided"
    text = str(verdict.get("finding") or sentence)
    text = capital(text.removeprefix(name).strip(": ")) if name else text
    rows = [mapping(row) for row in entries(audit.get("rows"))]
    return Card(
        kind=kind,
        meaning=MEANINGS[kind],
        title=name or text,
        text=text if name else "",
        details=tuple(str(text) for key in ("details", "notes") for text in entries(verdict.get(key))),
        audit=str(audit.get("summary", "")) if rows else "",
        unfair=any(row.get("differs") is True and row.get("expected") is not True for row in rows),
        exploratory=verdict.get("exploratory") is True,
        added=verdict.get("seeds_added_after_results") is True,
    )


def unit(verdict: Mapping[str, Any]) -> tuple[str, float]:
    """Unit of an effect and the factor of its number: points for accuracies, nats for losses."""
    accuracy = verdict.get("kind") == "success" or str(verdict.get("metric", "test/accuracy")).endswith("accuracy")
    name, scale = ("points", 100.0) if accuracy else ("nats", 1.0)
    return f"{name} per doubling" if verdict.get("kind") == "trend" else name, scale


def contrast_text(claim: Mapping[str, Any]) -> str:
    """What a claim compares, in words: "residual − plain at depth 5".

    Example:
        >>> contrast_text({"factor": "residual", "levels": [True, False], "at": {"hidden_layers_num": 5}})
        'residual − plain at depth 5'
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
        shown = f"{100 * reference:.4g}%" if unit(claim)[1] == 100 else f"{reference:.4g} nats"
        what = f"{words[0] if words else factor} {MINUS} {shown}"
    else:
        what = f" {MINUS} ".join(words) or factor
    if claim.get("kind") == "success":
        what = f"seeds above {100 * (number(claim.get('threshold')) or 0.0):.4g}%: {what}"
    where = listed([word(key, level) for key, level in mapping(claim.get("at")).items()])
    return f"{what} at {where}" if where else what


def claims_table(verdicts: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]]) -> Table:
    """Every number of every verdict. The unit column gives the unit of the effects."""
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
        row += [
            least,
            whole(number(verdict.get("n"))),
            _diverged(verdict),
            spread,
            plain(number(verdict.get("rho")), 2),
        ]
        rows.append([*row, whole(number(verdict.get("more_seeds"))), "yes" if verdict.get("exploratory") else "no"])
    columns = ["claim", "contrast", "verdict", "effect", "95% low", "95% high", "unit", "smallest effect that matters"]
    columns += ["p, one-sided", "p, Holm-corrected", "p, sign-flip test", "minimum sign-flip p"]
    columns += ["smallest detectable effect", "seeds", "diverged", "standard deviation", "correlation"]
    return table("claims", [*columns, "extra seeds needed (est.)", "exploratory"], rows, texts=3)


def _diverged(verdict: Mapping[str, Any]) -> str:
    """Number of diverged seeds at each level, such as "0 and 2"; empty if unknown."""
    counts = [whole(number(mapping(side).get("diverged"))) for side in entries(verdict.get("diverged"))]
    return listed([count for count in counts if count])


def claims_note(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """What the marks of the dot plots are; mentions only what there is."""
    texts = ["Each dot is one seed."]
    if any(number(verdict.get("low")) is not None and verdict.get("kind") != "success" for verdict in verdicts):
        texts.append("Bar: 95% confidence interval of the mean.")
    if any(number(verdict.get("matters")) and verdict.get("kind") != "success" for verdict in verdicts):
        texts.append("Dashed: smallest effect that matters.")
    if any(verdict.get("kind") == "success" for verdict in verdicts):
        texts.append("Success rates: dashed is the threshold of a success.")
    return f'{" ".join(texts)} Test statistics: under "All numbers of each claim".'


def success_table(verdicts: Sequence[Mapping[str, Any]]) -> Table | None:
    """Success rates with their 95% Wilson intervals; None if no claim asks for them."""
    rows: list[list[str]] = []
    for verdict in verdicts:
        for side in (mapping(item) for item in entries(verdict.get("success"))):
            ends = [_scaled(side.get(key), 100.0) for key in ("low", "high")]
            counts = [whole(number(side.get(key))) for key in ("successes", "n")]
            rows.append([str(verdict.get("name", "")), str(side.get("level", "")), *counts, *ends])
    columns = ["claim", "level", "seeds above threshold", "seeds", "Wilson 95% low (%)", "Wilson 95% high (%)"]
    return table("successes", columns, rows, texts=2) if rows else None


def images_table(verdicts: Sequence[Mapping[str, Any]]) -> Table | None:
    """McNemar's exact test on the test images, over all seeds and per seed; None if predictions are not stored."""
    rows: list[list[str]] = []
    for verdict in verdicts:
        found = mapping(verdict.get("mcnemar"))
        counts = [whole(number(found.get(key))) for key in ("b", "c")]
        if found:
            left = len(entries(found.get("excluded")))
            seeds = f"all {found.get('seeds')}{f' ({left} excluded)' if left else ''}"
            rows.append([str(verdict.get("name", "")), seeds, *counts, _p(found.get("p"))])
        for seed in (mapping(item) for item in entries(found.get("each"))):
            numbers = [whole(number(seed.get(key))) for key in ("b", "c")]
            rows.append([str(verdict.get("name", "")), f"seed {seed.get('seed')}", *numbers, _p(seed.get("p"))])
    columns = ["claim", "seeds", "correct only at the first level", "correct only at the second level", "p, two-sided"]
    return table("mcnemar", columns, rows, texts=2) if rows else None


def threshold(claim: Mapping[str, Any]) -> float | None:
    """The threshold of a success claim [%]."""
    found = number(at(claim, "threshold"))
    return None if found is None else 100 * found


def _scaled(value: Any, scale: float) -> str:
    found = number(value)
    if found is None:
        return ""
    return plain(scale * found) if scale == 100 else significant(found)


def _p(value: Any) -> str:
    """A probability for a table: three digits, or scientific notation below 0.0001."""
    found = number(value)
    return "" if found is None else f"{found:.3g}" if found >= 1e-4 or found == 0 else f"{found:.1e}"
