"""Mistakes in an experiment file are reported with code, line, and dotted key (most of them are files in tests/bad)."""

from collections.abc import Callable
from pathlib import Path

import pytest

import fathomlab

IssuesOf = Callable[..., list[str]]
BASE = "model:\n  type: MLP\ntraining:\n  epochs: 1\n"  # four lines: what is added stands from line 5 on


def training(line: str) -> str:
    """A file whose line 5 is an option of the training."""
    return f"{BASE}  {line}\n"


def section(name: str, *lines: str) -> str:
    """A file with another section: its name is line 5, its options stand from line 6 on."""
    return f"{BASE}{name}:\n" + "".join(f"  {line}\n" for line in lines)


def mlp(line: str) -> str:
    """A file whose line 6 is an option of an MLP."""
    return f"training:\n  epochs: 1\nmodel:\n  type: MLP\n  params:\n    {line}\n"


UNWRITABLE: dict[str, tuple[str | bytes, str]] = {
    "an empty file": ("", "empty-file"),
    "a file of comments": ("# x\n", "empty-file"),
    "UTF-16": (BASE.encode("utf-16"), "invalid-yaml"),
    "more than 256 KiB": (f"{BASE}#{'x' * 2**18}", "too-large"),
    "20,000 lists": (f"a: {'[' * 20_000}\n", "unsupported-yaml 1"),
}


def test_unusual_files_are_rejected(issues_of: IssuesOf):
    """Files without a first line, or too large for a repository."""
    assert {name: issues_of(text) for name, (text, _) in UNWRITABLE.items()} == {
        name: [problem] for name, (_, problem) in UNWRITABLE.items()
    }


@pytest.mark.parametrize("word", [".nan", ".inf", "-.INF", "nan", "1.0e400"])
def test_numbers_that_are_not_finite_are_rejected(issues_of: IssuesOf, word: str):
    (problem,) = issues_of(training(f"lr: {word}"))
    assert problem.partition(" ")[0] in ("ambiguous-value", "out-of-range", "wrong-type")
    assert problem.endswith(" 5 training.lr")


def test_number_of_5000_digits_gives_one_short_line(issues_of: IssuesOf):
    (problem,) = issues_of(f"seed: {'9' * 5000}\n{BASE}")
    assert problem.endswith(" 1 seed")


@pytest.mark.parametrize(
    "value",
    [
        "!x 1",
        "!!binary aGk=",
        "!!set {a}",
        "!!python/object/apply:os.system [ls]",
        "!!python/name:os.system",
        "!!int '1'",
    ],
)
def test_yaml_tags_are_rejected(issues_of: IssuesOf, value: str):
    """Tags of Python would run code."""
    assert issues_of(section("experiment", f"title: {value}")) == ["unsupported-yaml 6 experiment.title"]


def test_issues_are_in_the_order_of_the_file(issues_of: IssuesOf):
    text = (
        "seed: 42\ntraining:\n  epoch: 50\n  optimizer: Adamm\n  lr: fast\ndistillation:\n  alpha: 1.5\ncolor: blue\n"
    )
    assert issues_of(text) == [
        "unknown-key 3 training.epoch",
        "unknown-name 4 training.optimizer",
        "wrong-type 5 training.lr",
        "out-of-range 7 distillation.alpha",
        "unknown-key 8 color",
        *["missing-section"] * 4,
    ]


def test_all_kinds_of_issues_are_reported_together(issues_of: IssuesOf):
    """Of schema, components, factors, seeds, and claims."""
    text = (
        "seed: -1\nmodel:\n  type: MLP\n  params: {input_size: 3, activation: Swish}\ntraining:\n  epochs: 0\n"
        "experiment:\n  factors: {modl.x: [1], data.batch_size: []}\n  seeds: [1, 1]\nclaims:\n"
        "  - {name: a, factor: residual, levels: [true], expect: greater}\n"
    )
    assert issues_of(text) == [
        "out-of-range 1 seed",
        "unknown-name 4 model.params.activation",
        "out-of-range 6 training.epochs",
        "no-levels 8 experiment.factors.data.batch_size",
        "unknown-factor 8 experiment.factors.modl.x",
        "duplicate-seed 9 experiment.seeds",
        "invalid-claim 11 claims[0].levels",
    ]


@pytest.mark.parametrize("bad", ["lr: fast", "lr: -1.0", "epoch: 3"])
def test_issue_does_not_hide_others_of_its_section(issues_of: IssuesOf, bad: str):
    lines = issues_of(f"{BASE}  {bad}\n  optimizer: Adamm\n  scheduler: CyclicLR\n")
    assert [line.partition(" ")[2] for line in lines] == [
        "5 training." + bad.split(":")[0],
        "6 training.optimizer",
        "7 training.scheduler",
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("1E-5", 1e-5), ("1e-03", 1e-3), (".5", 0.5), ("5.", 5.0), ("+1", 1.0), ("1", 1.0)],
)
def test_unambiguous_numbers_are_accepted(tmp_path: Path, text: str, number: float):
    """YAML 1.1 reads 1e-3 as text."""
    path = tmp_path / "exp.yaml"
    path.write_text(training(f"lr: {text}"))
    (trial,) = fathomlab.load(path).trials
    assert trial.content["training"]["lr"] == number
    assert isinstance(trial.content["training"]["lr"], float)


def test_integer_rejects_scientific_notation(issues_of: IssuesOf):
    assert issues_of(mlp("layers_dim: 1e2")) == ["wrong-type 6 model.params.layers_dim"]


@pytest.mark.parametrize(
    "text", [BASE.encode("utf-8-sig"), BASE.replace("\n", "\r\n").encode(), BASE.encode() + b"\n\n"]
)
def test_byte_order_mark_and_line_ends_keep_the_trials(tmp_path: Path, text: bytes):
    path = tmp_path / "exp.yaml"
    path.write_bytes(BASE.encode())
    plain = fathomlab.load(path)
    path.write_bytes(text)
    assert fathomlab.load(path).trials == plain.trials


@pytest.mark.parametrize("word", ["none", "None", "null", "~", ""])
def test_scheduler_accepts_all_spellings_of_null(tmp_path: Path, word: str):
    path = tmp_path / "exp.yaml"
    path.write_text(training(f"scheduler: {word}"))
    (trial,) = fathomlab.load(path).trials
    assert trial.content["training"]["scheduler"] is None


def test_issues_in_quick_report_their_line(issues_of: IssuesOf):
    """Unknown keys, and values that are invalid after merging."""
    assert issues_of(section("quick", "trainin: {epochs: 1}"), quick=True) == ["unknown-key 6 quick.trainin"]
    assert issues_of(section("quick", "training:", "  epochs: 0"), quick=True) == ["out-of-range 7 training.epochs"]


def test_quick_without_a_section_raises(tmp_path: Path):
    path = tmp_path / "exp.yaml"
    path.write_text(BASE)
    with pytest.raises(fathomlab.UserError) as caught:
        fathomlab.load(path, quick=True)
    assert caught.value.code == "no-quick-section"


def test_unreadable_files_raise(tmp_path: Path):
    """Missing files, directories, and names with a null byte."""
    for path, reason in (
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path("a\0b"), "embedded null byte"),
    ):
        with pytest.raises(fathomlab.UserError) as caught:
            fathomlab.load(path)
        shown = str(path).replace("\0", r"\x00")
        assert caught.value.code == "unreadable-file"
        assert str(caught.value).startswith(f"{shown}: ")
        assert reason in str(caught.value)


def test_mapping_is_checked_and_not_changed():
    """Its issues have no line."""
    mapping = {"model": {"type": "MLP"}, "training": {"epochs": 1, "lr": "fast"}}
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.load(mapping, "seed=3")
    (problem,) = caught.value.problems
    assert (problem.code, problem.location, problem.path) == ("wrong-type", "", "training.lr")
    assert mapping == {"model": {"type": "MLP"}, "training": {"epochs": 1, "lr": "fast"}}


def test_problem_names_the_file_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "week_3"
    folder.mkdir()
    (folder / "exp.yaml").write_text("seed: one\n")
    monkeypatch.chdir(tmp_path)
    for path in (Path("week_3/exp.yaml"), folder / "exp.yaml"):
        with pytest.raises(fathomlab.ConfigError) as raised:
            fathomlab.load(path)
        assert {problem.location for problem in raised.value.problems} >= {"week_3/exp.yaml:1"}
    monkeypatch.chdir(folder)
    with pytest.raises(fathomlab.ConfigError) as raised:
        fathomlab.load(folder / "exp.yaml")
    assert {problem.location for problem in raised.value.problems} >= {"exp.yaml:1"}


def test_name_of_a_plan_has_no_directory():
    """Records keep it, and are the same wherever the file was."""
    loaded = fathomlab.load("1_2").loaded
    assert loaded.path is not None
    assert (loaded.path.parent.name, loaded.name) == ("configs", "config_exp1_2.yaml")
