"""Experiments from the grammar of the schema: what the dataclasses allow, and now and then what they do not."""

import dataclasses
import json
import random
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Interval

from fathomlab.config.claims import Claim
from fathomlab.config.schema import DataOptions, ExperimentFile, ModelChoice
from fathomlab.config.training import TrainingOptions
from fathomlab.data import DATASETS
from fathomlab.losses import CRITERIA
from fathomlab.models import MODELS
from fathomlab.optim import OPTIMIZERS, SCHEDULES

WORDS = ("no", "010", "1_0", "12:30", "2024-01-01", ".nan", ".inf", "1e400", "1e-3", "0x1F", "~", "MLP", "SGD", "x")
TEXTS = (
    "",
    "a title",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "\N{GRINNING FACE}",
    "\u202erevo",
    "../../x",
    "x" * 300,
)
PLAIN_JUNK = (None, True, False, 0, -1, 1, 2**53, -(2**70), 1e308, -0.5, "9" * 50, "1" * 5000, [], {}, [[]], {"a": 1})
TEXT_JUNK = ("\ud800", "\x1b]0;x\x07", "\0", "${env:HOME}", "!!python/name:os.system", "<script>", "a\nb", "-rf")
# What no file can hold, for mappings from Python alone.
PYTHON_JUNK = (10**5000, float("nan"), float("inf"), b"x", object(), {1, 2}, 1j, (1, 2), {1: 2}, {None: 1}, range(3))
# Options that must agree with others: a document in which each is drawn by itself is hardly ever right.
FITTING: dict[str, tuple[Any, ...]] = {
    "input_size": (784, 784, 3072),
    "class_num": (10,),
    "num_classes": (10,),
    "layers": ([1, 1, 1, 1], [2, 1, 1, 1]),
    "depths": ([1, 2], [3], [[1, 1, 1, 1]]),
    "seeds": (1, 3, [5, 7]),
    "betas": ([0.9, 0.99],),
    "loss": (None, {"type": "CrossEntropy"}),
}
MAX_LIST = 5_000  # a count up to which a valid bound is tried: 100,000 seeds are right, and take their time


class Grammar:
    """Draws documents; `wild` is the share of places at which something else stands."""

    def __init__(self, chance: random.Random, wild: float, python: bool):
        """Draw from `chance`; `python` adds values that only a mapping from Python can hold."""
        self.chance, self.wild, self.python = chance, wild, python

    def document(self) -> dict[str, Any]:
        """A whole experiment: supervised, or distilling."""
        names = {"model", "training"}
        if self.chance.random() < 0.3:
            names = {"teacher_model", "student_model", "training_teacher", "training_student", "distillation"}
        sections = ExperimentFile.__dataclass_fields__
        others = [name for name in sections if not re.search("model|training|distillation|quick", name)]
        rare = {"claims": 0.15, "roles": 0.03, "plugins": 0.03}  # the last two are hardly ever right
        names |= {name for name in others if self.chance.random() < rare.get(name, 0.5)}
        hints = typing.get_type_hints(ExperimentFile, include_extras=True)
        document = {name: self.value(hints[name]) for name in hints if name in names}
        if self.chance.random() < 0.1:
            document["quick"] = {name: self.value(hints[name]) for name in names if self.chance.random() < 0.5}
        if self.chance.random() < self.wild:
            document[self.chance.choice(["trainin", "", "1", "x" * 300, "a.b", *hints])] = self.junk()
        return document

    def junk(self) -> Any:
        """Anything."""
        kinds: list[tuple[Any, ...]] = [PLAIN_JUNK, TEXTS, TEXT_JUNK, WORDS]
        value = self.chance.choice(self.chance.choice(kinds + [PYTHON_JUNK] * self.python))
        if self.chance.random() < 0.05:
            for _ in range(self.chance.choice([3, 39, 41, 200])):
                value = [value] if self.chance.random() < 0.5 else {"a": value}
        return value

    def value(self, hint: Any) -> Any:
        """A value of this type, most of the time."""
        if self.chance.random() < self.wild:
            return self.junk()
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            return self.value(self.chance.choice([choice for choice in get_args(hint) if choice is not type(None)]))
        if origin is tuple:
            return [self.value(get_args(hint)[0]) for _ in range(self.chance.choice([0, 1, 2, 2, 3, 4]))]
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            return self.section(hint)
        if origin is typing.Annotated:
            return self.bounded(*get_args(hint))
        if origin is Literal:
            return self.chance.choice(get_args(hint))
        return self.plain(hint)

    def plain(self, hint: Any) -> Any:
        """A value of a type without parts."""
        if hint is bool:
            return self.chance.random() < 0.5
        if hint is int:
            return self.chance.randrange(5)
        if hint is float:
            return self.chance.choice([0, 0.5, 1, 1e-3, 1e-8, 3.0])
        if hint is str:
            return self.chance.choice(TEXTS)
        if hint is dict or get_origin(hint) is dict:
            return {self.chance.choice(self.paths): self.junk() for _ in range(self.chance.choice([0, 1]))}
        return self.chance.choice([1, 0.5, True, "x", [1, 1]])

    def bounded(self, base: Any, *rules: Any) -> Any:
        """A value inside its bounds, now and then just beside them."""
        for rule in rules:
            if isinstance(rule, Interval):
                return self.near(base, rule)
        return self.value(base)

    def near(self, base: Any, rule: Interval) -> Any:
        low = next((limit for limit in (rule.ge, rule.gt) if limit is not None), None)
        high = next((limit for limit in (rule.le, rule.lt) if limit is not None), None)
        step = 1 if base is int else 1e-3
        start = (low or 0) + (step if rule.gt is not None else 0)
        inside = [start, start + step, start + 2 * step]
        if high is not None and high <= MAX_LIST:
            inside.append(high - (step if rule.lt is not None else 0))
        beside = [limit + sign * step for limit, sign in ((low, -1), (high, 1)) if limit is not None]
        return self.chance.choice(beside if beside and self.chance.random() < self.wild else inside)

    def section(self, part: type) -> dict[str, Any]:
        """Options of a section or part; where it names a part, that part's own options too."""
        document: dict[str, Any] = {}
        hints = typing.get_type_hints(part, include_extras=True)
        for field in dataclasses.fields(part):
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required or self.chance.random() < 0.25:
                document[field.name] = self.value(hints[field.name])
        self.name_parts(part, document)
        if document and self.chance.random() < self.wild:
            key = self.chance.choice(list(document))
            document[key[:-1]] = document.pop(key)
        return document

    def name_parts(self, part: type, document: dict[str, Any]) -> None:
        """Names from the tables, and options of what they name, so that most documents are right."""
        tables: dict[type, tuple[tuple[str, str, dict[str, Any]], ...]] = {
            ModelChoice: (("type", "params", MODELS),),
            DataOptions: (("name", "params", DATASETS),),
            TrainingOptions: (
                ("optimizer", "optimizer_params", OPTIMIZERS),
                ("scheduler", "scheduler_params", SCHEDULES),
            ),
        }
        if part is TrainingOptions and "criterion" in document:
            document["criterion"] = self.chance.choice(list(CRITERIA))
        for name, options, table in tables.get(part, ()):
            if (name in document or options in document) and self.chance.random() > self.wild:
                document[name] = self.chance.choice(list(table))
                document[options] = self.section(table[document[name]]) if self.chance.random() < 0.7 else {}
        if "factors" in document and self.chance.random() > self.wild:
            document["factors"] = dict(self.factor() for _ in range(self.chance.choice([0, 1, 1, 2])))
        if part is DataOptions and "augment" in document and self.chance.random() > self.wild:
            document["augment"] = self.chance.sample(["flip", "crop"], self.chance.randrange(3))
        for name, choices in FITTING.items():
            if name in document and self.chance.random() > max(2 * self.wild, 0.05):
                document[name] = self.chance.choice(choices)
        if part is Claim and self.chance.random() > 2 * self.wild:
            self.mend_claim(document)

    def mend_claim(self, document: dict[str, Any]) -> None:
        """A claim that can be judged: its levels and options fit its kind."""
        kind = document.get("kind")
        levels = {"trend": [1, 2, 4], "success": [True, False]}.get(kind if isinstance(kind, str) else "", [0.1, 0.2])
        document |= {
            "factor": self.chance.choice(["residual", "lr", "role", "epochs"]),
            "levels": levels,
            "matters": 0.1,
        }
        document.pop("reference", None)
        document.pop("threshold", None)
        document.pop("at", None)
        if document.get("kind") == "success":
            document["threshold"] = 0.5

    @property
    def paths(self) -> list[str]:
        """Every dotted key of the schema and of the parts."""
        return [path for path, _ in PATHS]

    def factor(self) -> tuple[str, Any]:
        """A factor with its levels."""
        path, hint = self.chance.choice(PATHS)
        levels = [self.value(hint) for _ in range(self.chance.choice([1, 2, 3]))]
        return path, levels if self.chance.random() < 0.8 else {"levels": levels, "when": {path: self.junk()}}


def dotted_options(part: type = ExperimentFile, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every option of the schema as (dotted key, type), those of the parts in the tables among them."""
    tables: dict[tuple[type, str], dict[str, Any]] = {
        (ModelChoice, "params"): MODELS,
        (DataOptions, "params"): DATASETS,
        (TrainingOptions, "optimizer_params"): OPTIMIZERS,
        (TrainingOptions, "scheduler_params"): SCHEDULES,
    }
    hints = typing.get_type_hints(part, include_extras=True)
    for name in (field.name for field in dataclasses.fields(part)):
        inner = f"{path}.{name}" if path else name
        yield inner, hints[name]
        for choice in (hints[name], *get_args(hints[name])):
            if dataclasses.is_dataclass(choice) and isinstance(choice, type):
                yield from dotted_options(choice, inner)
        for other in tables.get((part, name), {}).values():
            yield from dotted_options(other, inner)


PATHS = list(dotted_options())


def emitted(value: Any) -> str:
    """Flow YAML in which words stand bare, as people write them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{emitted(key)}: {emitted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(emitted(item) for item in value) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.:-]*", value):
        return value
    return json.dumps(value) if isinstance(value, str | bool | None) else str(value)


def as_text(document: dict[str, Any]) -> str:
    """A document as a file: sections in blocks, the rest in flow."""
    lines: list[str] = []
    for name, section in document.items():
        if isinstance(section, dict) and section:
            lines += [f"{emitted(name)}:", *(f"  {emitted(key)}: {emitted(value)}" for key, value in section.items())]
        else:
            lines.append(f"{emitted(name)}: {emitted(section)}")
    return "\n".join(lines) + "\n"
