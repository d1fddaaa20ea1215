"""What a student changed: claims and options that differ from a reference, or from what most have."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from fathomlab.base.codec import JsonObject
from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import flatten_keys

OptionValues: TypeAlias = Mapping[str, tuple[str, ...]]
IDENTITY = ("seed", "format", "parents")  # differ between trials of the same options
MIN_MAJORITY = 3  # results; of two, none is the majority
PLAN = re.compile(r"(-quick)?-[0-9a-f]{8}$")
H = TypeVar("H", bound=Hashable)


@dataclass(frozen=True)
class Reference:
    """What an experiment should be.

    Attributes:
        stem: Name of the experiment without the hash of its plan.
        title: Its title.
        claims_hash: Hash of its claims; None if it is unknown.
        options: Dotted key of each option to its values over all trials; None if they are unknown.
    """

    stem: str
    title: str = ""
    claims_hash: str | None = None
    options: OptionValues | None = field(default=None)

    def concerns(self, name: str, title: str) -> bool:
        """Whether an experiment of this name or title is compared."""
        return stem(name) == self.stem or (title != "" and title == self.title)


def stem(name: str) -> str:
    """The name of an experiment without the hash of its plan, which depends on the seeds.

    Example:
        >>> stem("lab1-quick-0123abcd"), stem("lab1-0123abcd"), stem("1_2")
        ('lab1', 'lab1', '1_2')
    """
    return PLAN.sub("", name)


def option_values(contents: Iterable[JsonObject]) -> OptionValues:
    """Dotted key of each option to its different values, as JSON. Seeds and hashes of parents are left out."""
    values: dict[str, set[str]] = {}
    for content in contents:
        for key, value in flatten_keys({key: content[key] for key in content if key not in IDENTITY}).items():
            values.setdefault(key, set()).add(canonical_json(value))
    return {key: tuple(sorted(texts)) for key, texts in sorted(values.items())}


def changed_options(options: OptionValues, reference: OptionValues) -> tuple[str, ...]:
    """One text per option whose values differ: "training.lr: 0.01 (reference: 0.001)".

    Example:
        >>> changed_options({"training.lr": ("0.01",)}, {"training.lr": ("0.001",)})
        ('training.lr: 0.01 (reference: 0.001)',)
    """
    keys = dict.fromkeys((*reference, *options))
    pairs = {key: (options.get(key, ()), reference.get(key, ())) for key in keys}
    return tuple(
        f"{key}: {', '.join(first) or 'none'} (reference: {', '.join(second) or 'none'})"
        for key, (first, second) in pairs.items()
        if first != second
    )


def majority(values: Sequence[H]) -> H | None:
    """The value that more than half of at least three have; None if there is none."""
    if len(values) < MIN_MAJORITY:
        return None
    value, number = Counter(values).most_common(1)[0]
    return value if 2 * number > len(values) else None
