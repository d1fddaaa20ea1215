"""Every option of every section and part, one by one: wrong types, typos, bounds, numbers that are none, YAML's surprises.

The options are read from the dataclasses, so that a new one is tested without a line here.
"""

import dataclasses
import math
import re
import time
import types
import typing
from collections.abc import Iterator
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
        own = name or self.key.rpartition(".")[2]
        return f"{self.before}{own}: {value}\n{self.after}"

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
            f"{'' if place == 0 and start.endswith('- ') else indent}{line}\n" for place, line in enumerate(others)
        ]
        last = "" if start.endswith("- ") and not others else indent
        key = f"{path}.{field.name}" if path else field.name
        yield Option(key, hints[field.name], start + "".join(lines) + last, "")


OPTIONS = list(options())
NAMES = [f"{place}-{option.key}" for place, option in enumerate(OPTIONS)]


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


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """The problems of a file as (line, dotted key, message); refusing takes less than a second."""

    def tell(text: str) -> list[tuple[int, str, str]]:
        path = tmp_path / "exp.yaml"
        path.write_text(text, encoding="utf-8")
        started = time.process_time()
        try:
            fathomlab.load(path)
        except fathomlab.ConfigError as error:
            assert time.process_time() - started < 1
            found = [
                (int(problem.location.partition(":")[2] or 0), problem.path, problem.message)
                for problem in error.problems
            ]
            assert all(len(message) < 400 for _, _, message in found)
            return found
        return []

    return tell


def about(option: Option, problems: list[tuple[int, str, str]]) -> list[str]:
    """What is said of an option, at its own line."""
    return [text for line, key, text in problems if line == option.line and key.startswith(option.key)]


@pytest.mark.parametrize("option", OPTIONS, ids=NAMES)
def test_a_wrong_type_and_a_typo_are_told_at_their_line(told: Any, option: Option):
    """A section where a value stands, a value where a section does; a letter too many, with the right spelling."""
    takes = kinds(option.hint)
    for value, kind in (("{zzz: {zzz: 1}}", dict), ("[[[zzz]]]", tuple), ("zzz", str), ("true", bool)):
        if kind not in takes and Any not in takes and not (takes & {dict, object} and kind is dict):
            assert about(option, told(option.text(value))), (value, told(option.text(value)))
    name = option.key.rpartition(".")[2]
    problems = told(option.text("1", f"{name}{name[-1]}"))
    said = [(line, text) for line, key, text in problems if key == f"{option.key}{name[-1]}"]
    assert [line for line, _ in said] == [option.line]
    assert "unknown key." in said[0][1]
    assert f"Did you mean '{name}'?" in said[0][1]


@pytest.mark.parametrize("option", OPTIONS, ids=NAMES)
def test_no_number_that_is_none_and_nothing_ambiguous_passes(told: Any, option: Option):
    """NaN, infinities, 5,000 digits; no, 010, 12:30, 1_000, dates: refused at the option's line, whatever it takes."""
    takes = kinds(option.hint)
    words = NO_NUMBERS if takes & {int, float} else ()
    for word in (*words, *SURPRISES):
        value = f"[{word}]" if tuple in takes else f"{{a: {word}}}" if dict in takes else word
        problems = told(option.text(value))
        assert about(option, problems) or [line for line, _, _ in problems] == [option.line], (word, problems)


@pytest.mark.parametrize("option", [option for option in OPTIONS if bounds(option.hint)], ids=lambda option: option.key)
def test_bounds_are_named(told: Any, option: Option):
    """A step beyond a bound is told with the bound; 1e308, 10^9 and negative numbers never end in a traceback."""
    takes = kinds(option.hint)
    for base, rule in bounds(option.hint):
        step = 1 if base is int else 1e-3
        beside = [(rule.ge, -step), (rule.le, step), (rule.gt, 0), (rule.lt, 0)]
        for limit, change in beside:
            if limit is not None and not (base is int and limit >= 2**53):
                value = repr(float(limit + change)) if base is float else str(int(limit + change))
                said = about(option, told(option.text(value)))
                assert any(f"{limit:g}, got" in text for text in said), (value, said)
    for value in ("-1", "0", "1e308", "1000000000", "-1e308", str(10**17)):
        told(option.text(f"[{value}]" if tuple in takes else value))


@pytest.mark.parametrize(
    "number",
    [10**5000, -(10**5000), 2**53, math.nan, math.inf, -math.inf],
    ids=["huge", "-huge", "2^53", "nan", "inf", "-inf"],
)
def test_python_s_own_numbers_are_refused_too(number: float):
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
def test_a_network_beyond_all_is_refused_before_it_is_built(key: str, value: Any):
    """Depth 10^9."""
    model = {"type": "CNN" if key in ("layers", "width") else "MLP", "params": {key: value}}
    with pytest.raises(fathomlab.ConfigError, match="must be <="):
        fathomlab.load({"model": model, "training": {"epochs": 1}})


def test_two_milliards_of_trials_are_counted_and_not_made():
    """The message says how many, at once."""
    experiment = {
        "seeds": 100_000,
        "factors": {
            "training.lr": [place / 1000 for place in range(1, 151)],
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
def test_equal_conditions_are_refused_or_merged_with_a_notice(told: Any, tmp_path: Path, levels: str, merged: bool):
    """The same spelling twice is a slip; two spellings of one number are one condition, and that is said."""
    text = f"model: {{type: MLP}}\ntraining: {{epochs: 1}}\nexperiment:\n  factors:\n    training.lr: {levels}\n"
    problems = told(text)
    if levels == "[0.1, 0.1]":
        assert [(line, "duplicate" in message) for line, _, message in problems] == [(5, True)]
        return
    plan = fathomlab.load(tmp_path / "exp.yaml")
    assert len(plan.conditions) == (1 if merged else 2)
    assert any("training.lr" in notice for notice in plan.notices) == merged


@pytest.mark.parametrize(
    "text", ["_target_: os.system", "_target_: x\n_args_: [1]", "$ref: x", "eval: 1", "import: os", "__class__: x"]
)
def test_keys_of_other_programs_mean_nothing(told: Any, text: str):
    """What other loaders obey is an unknown key here."""
    lines = [f"{'' if place else '  '}{line}" for place, line in enumerate(text.split("\n"))]
    (*problems,) = told("model: {type: MLP}\ntraining:\n  epochs: 1\n" + "\n  ".join(lines) + "\n")
    assert problems
    assert all("unknown key" in message for _, _, message in problems)


@pytest.mark.parametrize(
    "text",
    ["${env:FATHOMLAB_CANARY}", "${oc.env:FATHOMLAB_CANARY}", "$FATHOMLAB_CANARY", "%(FATHOMLAB_CANARY)s", "{{1}}"],
)
def test_nothing_is_interpolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    """A title that looks like a variable is that title; an override too."""
    monkeypatch.setenv("FATHOMLAB_CANARY", "shown")
    path = tmp_path / "exp.yaml"
    path.write_text(f"model: {{type: MLP}}\ntraining: {{epochs: 1}}\nexperiment: {{title: '{text}'}}\n")
    assert fathomlab.load(path).loaded.file.experiment.title == text
    plan = fathomlab.load(path, f"experiment.question='{text}'")
    assert plan.loaded.file.experiment.question == text


@pytest.mark.parametrize(
    "override",
    [
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
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_a_hostile_override_is_refused_at_once(override: str):
    """Long, deep, without end, no text: an error of ours in less than a second."""
    started = time.process_time()
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.load({"model": {"type": "MLP"}, "training": {"epochs": 1}}, override)
    assert time.process_time() - started < 1
    assert "override 1" in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_an_ambiguous_word_in_the_quick_section_is_told_at_its_line(tmp_path: Path):
    """Laying the section over the rest copies it; the word stays what it is."""
    text = "model: {type: MLP}\ntraining: {epochs: 1}\nquick:\n  experiment: {factors: {model.params.residual: [no]}}\n"
    (tmp_path / "exp.yaml").write_text(text)
    with pytest.raises(fathomlab.ConfigError, match=r"exp\.yaml:4 .*ambiguous YAML value `no`"):
        fathomlab.load(tmp_path / "exp.yaml", quick=True)
