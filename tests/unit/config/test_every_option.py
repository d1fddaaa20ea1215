"""Every option of every section and component: wrong types, typos, bounds, invalid numbers, and ambiguous YAML.

The options are read from the dataclasses, so that a new one is tested without a line here.
"""

import dataclasses
import math
import re
import time
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin

import pytest
from annotated_types import Interval

import fathomlab
from fathomlab.config.claims import Claim
from fathomlab.config.schema import (
    DataOptions,
    DistillationOptions,
    ExperimentFile,
    ExperimentOptions,
    LoggingOptions,
    TrainingOptions,
)
from fathomlab.data import DATASETS
from fathomlab.models import MODELS
from fathomlab.optim import OPTIMIZERS, SCHEDULES

SUPERVISED = {"model": "{type: MLP}", "training": "{epochs: 1}"}
DISTILLING = {
    "teacher_model": "{type: MLP}",
    "student_model": "{type: MLP}",
    "training_teacher": "{epochs: 1}",
    "training_student": "{epochs: 1}",
}
CLAIM = {"name": "a", "factor": "residual", "levels": "[false, true]", "expect": "greater"}
HUGE = "1" * 5000
NO_NUMBERS = (".nan", ".inf", "-.inf", "1e400", "-1e400", "1.0e400", HUGE, f"{HUGE}.0", f"'{HUGE}e1'")
SURPRISES = ("no", "On", "010", "0x1F", "0o17", "12:30", "12:30:45", "1_000", "2024-01-01", "y")


class Option(NamedTuple):
    """One option: its dotted key, its type, and a file in which its line stands alone at the end of its section."""

    key: str
    hint: Any
    before: str
    after: str

    def text(self, value: str, name: str = "") -> str:
        """The file with this value, or with this name in place of the option's."""
        key_name = name or self.key.rpartition(".")[2]
        return f"{self.before}{key_name}: {value}\n{self.after}"

    @property
    def line(self) -> int:
        """Where it stands."""
        return self.before.count("\n") + 1

    @property
    def indent(self) -> str:
        """The blanks before it, without the dash of a list."""
        return re.sub("-", " ", self.before.rpartition("\n")[2])


def options() -> Iterator[Option]:
    """Every option that is a scalar, a choice, a list or a section kept raw."""
    rest = "".join(f"{name}: {text}\n" for name, text in SUPERVISED.items())
    distilling = "".join(f"{name}: {text}\n" for name, text in DISTILLING.items())
    yield from of(ExperimentFile, "", rest, {}, "", leave=tuple(ExperimentFile.__dataclass_fields__)[1:])
    yield from of(DataOptions, "data", f"{rest}data:\n", {}, "  ")
    yield from of(LoggingOptions, "logging", f"{rest}logging:\n", {}, "  ")
    yield from of(ExperimentOptions, "experiment", f"{rest}experiment:\n", {}, "  ")
    yield from of(DistillationOptions, "distillation", f"{distilling}distillation:\n", {}, "  ")
    model = f"model: {SUPERVISED['model']}\n"
    yield from of(TrainingOptions, "training", f"{model}training:\n", {"epochs": "1"}, "  ")
    yield from of(Claim, "claims[0]", f"{rest}claims:\n  - ", CLAIM, "    ")
    for name, part in MODELS.items():
        start = f"training: {{epochs: 1}}\nmodel:\n  type: {name}\n  params:\n"
        yield from of(part, "model.params", start, {}, "    ")
    for name, part in DATASETS.items():
        yield from of(part, "data.params", f"{rest}data:\n  name: {name}\n  params:\n", {}, "    ")
    for what, table in (("optimizer", OPTIMIZERS), ("scheduler", SCHEDULES)):
        for name, part in table.items():
            start = f"{model}training:\n  epochs: 1\n  {what}: {name}\n  {what}_params:\n"
            yield from of(part, f"training.{what}_params", start, {}, "    ")


def of(
    part: type, path: str, start: str, required: dict[str, str], indent: str, leave: tuple[str, ...] = ()
) -> Iterator[Option]:
    """The options of one section, each after those that the section must have."""
    hints = typing.get_type_hints(part, include_extras=True)
    for field in dataclasses.fields(part):
        if field.name in leave:
            continue
        others = [f"{name}: {value}" for name, value in required.items() if name != field.name]
        lines = [
            f"{'' if index == 0 and start.endswith('- ') else indent}{line}\n" for index, line in enumerate(others)
        ]
        last = "" if start.endswith("- ") and not others else indent
        key = f"{path}.{field.name}" if path else field.name
        yield Option(key, hints[field.name], start + "".join(lines) + last, "")


OPTIONS = list(options())


def kinds(hint: Any) -> set[Any]:
    """The plain types that an option takes: bool, int, float, str, tuple, dict or a class."""
    origin = get_origin(hint)
    if origin is typing.Annotated:
        return kinds(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return set().union(*(kinds(choice) for choice in get_args(hint)))
    if origin is typing.Literal:
        return {str}
    return {origin or hint}


def bounds(hint: Any) -> list[tuple[Any, Interval]]:
    """The bounds of a number."""
    if get_origin(hint) in (Union, types.UnionType):
        return [pair for choice in get_args(hint) for pair in bounds(choice)]
    if get_origin(hint) is not typing.Annotated:
        return []
    return [(get_args(hint)[0], rule) for rule in get_args(hint)[1:] if isinstance(rule, Interval)]


Problems = list[tuple[int, str, str, str]]


@pytest.fixture
def problems_of(tmp_path: Path) -> Callable[[str], Problems]:
    """Returns the problems of a file as (line, dotted key, code, message); rejecting takes less than a second of CPU."""

    def load(text: str) -> Problems:
        path = tmp_path / "exp.yaml"
        path.write_text(text, encoding="utf-8")
        started = time.process_time()
        try:
            fathomlab.load(path)
        except fathomlab.ConfigError as error:
            assert time.process_time() - started < 1
            problems = [(int(p.location.partition(":")[2] or 0), p.path, p.code, p.message) for p in error.problems]
            assert all(len(message) < 400 for *_, message in problems)
            return problems
        return []

    return load


def at_option(option: Option, problems: Problems) -> list[str]:
    """The messages about an option, at its line."""
    return [message for line, key, _, message in problems if line == option.line and key.startswith(option.key)]


def test_wrong_types_and_typos_report_their_line(problems_of: Callable[[str], Problems]):
    """A section instead of a value, a value instead of a section; a letter too many, with the correct spelling."""
    offenders: list[Any] = []
    for option in OPTIONS:
        accepted = kinds(option.hint)
        for value, kind in (("{zzz: {zzz: 1}}", dict), ("[[[zzz]]]", tuple), ("zzz", str), ("true", bool)):
            if kind in accepted or Any in accepted or (accepted & {dict, object} and kind is dict):
                continue
            if not at_option(option, problems_of(option.text(value))):
                offenders.append((option.key, value))
        name = option.key.rpartition(".")[2]
        typos = [
            (line, code, f"'{name}'" in message)
            for line, key, code, message in problems_of(option.text("1", f"{name}{name[-1]}"))
            if key == f"{option.key}{name[-1]}"
        ]
        if typos != [(option.line, "unknown-key", True)]:
            offenders.append((option.key, typos))
    assert offenders == []


def test_invalid_numbers_and_ambiguous_words_are_rejected(problems_of: Callable[[str], Problems]):
    """NaN, infinities, 5,000 digits, no, 010, 12:30, 1_000, dates: at the line of the option, whatever it accepts."""
    offenders: list[Any] = []
    for option in OPTIONS:
        accepted = kinds(option.hint)
        words = NO_NUMBERS if accepted & {int, float} else ()
        for word in (*words, *SURPRISES):
            value = f"[{word}]" if tuple in accepted else f"{{a: {word}}}" if dict in accepted else word
            problems = problems_of(option.text(value))
            if not at_option(option, problems) and [line for line, *_ in problems] != [option.line]:
                offenders.append((option.key, word, problems))
    assert offenders == []


def test_bounds_are_reported(problems_of: Callable[[str], Problems]):
    """A value beyond a bound is rejected with the bound. Huge and negative numbers never end in a traceback."""
    offenders: list[Any] = []
    for option in OPTIONS:
        accepted = kinds(option.hint)
        for base, rule in bounds(option.hint):
            step = 1 if base is int else 1e-3
            for limit, change in ((rule.ge, -step), (rule.le, step), (rule.gt, 0), (rule.lt, 0)):
                if limit is None or (base is int and limit >= 2**53):
                    continue
                value = repr(float(limit + change)) if base is float else str(int(limit + change))
                messages = at_option(option, problems_of(option.text(value)))
                if not any(f"{limit:g}, got" in message for message in messages):
                    offenders.append((option.key, value, messages))
            for value in ("-1", "0", "1e308", "1000000000", "-1e308", str(10**17)):
                problems_of(option.text(f"[{value}]" if tuple in accepted else value))
    assert offenders == []


@pytest.mark.parametrize(
    "number",
    [10**5000, -(10**5000), 2**53, math.nan, math.inf, -math.inf],
    ids=["huge", "-huge", "2^53", "nan", "inf", "-inf"],
)
def test_invalid_python_numbers_are_rejected(number: float):
    """At every option, also of those kept raw: 10^5000 is a number that Python itself does not print."""
    base: dict[str, Any] = {"model": {"type": "MLP"}, "training": {"epochs": 1}}
    for change in (
        {"seed": number},
        {"training": {"epochs": number}},
        {"training": {"epochs": 1, "lr": [number]}},
        {"model": number},
        {"model": {"type": "MLP", "params": {"layers_dim": number}}},
        {"experiment": {"factors": {"model.params.layers_dim": [number]}}},
        {"data": {"params": {"x": number}}},
        {"quick": {"training": {"epochs": number}}},
        {"zzz": number},
    ):
        with pytest.raises(fathomlab.ConfigError):
            fathomlab.load(base | change, quick="quick" in change)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_layers_num", 10**9), ("layers_dim", 10**9), ("layers", [10**9] * 4), ("width", 10**9)],
)
def test_huge_networks_are_rejected(key: str, value: Any):
    """Depth 10^9."""
    model = {"type": "CNN" if key in ("layers", "width") else "MLP", "params": {key: value}}
    with pytest.raises(fathomlab.ConfigError, match="must be <="):
        fathomlab.load({"model": model, "training": {"epochs": 1}})


def test_huge_grids_are_rejected_without_expansion():
    """The message says how many, at once."""
    experiment = {
        "seeds": 100_000,
        "factors": {
            "training.lr": [index / 1000 for index in range(1, 151)],
            "model.params.layers_dim": list(range(1, 141)),
        },
    }
    started = time.process_time()
    with pytest.raises(fathomlab.ConfigError, match="2,100,000,000 trials"):
        fathomlab.load({"model": {"type": "MLP"}, "training": {"epochs": 1}, "experiment": experiment})
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("levels", "merged"), [("[0.1, 0.1]", False), ("[0.001, 1e-3]", True), ("[1, 1.0]", True), ("[0.1, 0.2]", False)]
)
def test_equal_conditions_are_rejected_or_merged(
    problems_of: Callable[[str], Problems], tmp_path: Path, levels: str, merged: bool
):
    """The same spelling twice is a slip; two spellings of one number are one condition, and that is said."""
    text = f"model: {{type: MLP}}\ntraining: {{epochs: 1}}\nexperiment:\n  factors:\n    training.lr: {levels}\n"
    problems = problems_of(text)
    if levels == "[0.1, 0.1]":
        assert [(line, "duplicate" in message) for line, *_, message in problems] == [(5, True)]
        return
    plan = fathomlab.load(tmp_path / "exp.yaml")
    assert len(plan.conditions) == (1 if merged else 2)
    assert any("training.lr" in notice for notice in plan.notices) == merged


def test_keys_of_other_programs_are_unknown(problems_of: Callable[[str], Problems]):
    """Keys that other loaders obey."""
    for key in ("_target_: os.system", "_args_: [1]", "$ref: x", "eval: 1", "import: os", "__class__: x"):
        problems = problems_of(f"model: {{type: MLP}}\ntraining:\n  epochs: 1\n  {key}\n")
        assert [(line, code) for line, _, code, _ in problems] == [(4, "unknown-key")], key


@pytest.mark.parametrize(
    "text",
    ["${env:FATHOMLAB_CANARY}", "${oc.env:FATHOMLAB_CANARY}", "$FATHOMLAB_CANARY", "%(FATHOMLAB_CANARY)s", "{{1}}"],
)
def test_values_are_not_interpolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    """A title that looks like a variable is that title; an override too."""
    monkeypatch.setenv("FATHOMLAB_CANARY", "shown")
    path = tmp_path / "exp.yaml"
    path.write_text(f"model: {{type: MLP}}\ntraining: {{epochs: 1}}\nexperiment: {{title: '{text}'}}\n")
    assert fathomlab.load(path).loaded.file.experiment.title == text
    plan = fathomlab.load(path, f"experiment.question='{text}'")
    assert plan.loaded.file.experiment.question == text


OVERRIDES = [
    "seed=" + "1" * 5000 + "..2",
    "seed=0.." + "1" * 5000,
    "seed" + ".a" * 5000 + "=1",
    "data.name" + ".a" * 39 + "=1",
    "experiment.factors.data.name" + ".a" * 5000 + "=[1]",
    "training.lr=" + "[" * 5000,
    "training.lr='" + "1" * 200_000 + "'",
    "training.lr=1" + "_" * 200_000 + "x",
    "training.lr=" + "1," * 6000 + "1",
    "training." + "x" * 10_000 + "=1",
    "quick.\udcff=1",
    "experiment.title='\udcff'",
    'experiment.title="\\e]0;x"',
    "experiment.factors.=[1, 2]",
    "experiment.factors.training..lr=[1, 2]",
    "",
    "=" * 1000,
    "seed=9007199254740993",
]


def test_hostile_overrides_are_rejected():
    """Long, deep, infinite, or not text: one of our errors in less than a second of CPU."""
    for override in OVERRIDES:
        started = time.process_time()
        with pytest.raises(fathomlab.ConfigError) as caught:
            fathomlab.load({"model": {"type": "MLP"}, "training": {"epochs": 1}}, override)
        assert time.process_time() - started < 1, override[:30]
        assert "override 1" in str(caught.value)
        assert len(str(caught.value)) < 2000


def test_ambiguous_words_in_quick_report_their_line(tmp_path: Path):
    """Laying the section over the rest copies it; the word stays what it is."""
    text = "model: {type: MLP}\ntraining: {epochs: 1}\nquick:\n  experiment: {factors: {model.params.residual: [no]}}\n"
    (tmp_path / "exp.yaml").write_text(text)
    with pytest.raises(fathomlab.ConfigError, match=r"exp\.yaml:4 .*ambiguous YAML value `no`"):
        fathomlab.load(tmp_path / "exp.yaml", quick=True)


BASE: dict[str, Any] = {"model": {"type": "MLP"}, "training": {"epochs": 1}}


def test_mappings_of_non_plain_values_are_rejected():
    """Python values that no file can contain, as keys and values."""
    for value in ({1: 2}, {None: {}}, {("a",): 1}, {"seed": {1, 2}}, {"seed": object()}, {"seed": b"1"}):
        with pytest.raises(fathomlab.ConfigError):
            fathomlab.load(BASE | value)


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"1", {"a": object()}])
def test_levels_of_factors_and_claims_are_plain(value: Any):
    """They are part of the identity of trials."""
    claim = {"name": "a", "factor": "lr", "levels": [1, 2], "expect": "less"}
    changes: list[dict[str, Any]] = [{"experiment": {"factors": {"training.lr": [value]}}}]
    changes += [{"claims": [claim | change]} for change in ({"levels": [1, value]}, {"at": {"epochs": value}})]
    for change in changes:
        with pytest.raises(fathomlab.ConfigError):
            fathomlab.load(BASE | change)
