"""Every mistake in an experiment file is reported with its code, line, and dotted key."""

from collections.abc import Callable
from pathlib import Path

import pytest

import fathomlab

Tell = Callable[..., list[str]]
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


def cnn(line: str) -> str:
    """A file whose line 6 is an option of a CNN."""
    return mlp(line).replace("MLP", "CNN")


def claim(**changes: str) -> str:
    """A file whose line 6 is a claim."""
    options = {"name": "a", "factor": "residual", "levels": "[true, false]", "expect": "greater"} | changes
    inside = ", ".join(f"{key}: {value}" for key, value in options.items())
    return section("claims", f"- {{{inside}}}")


WHOLE_DOCUMENT = {
    "an empty file": ("", ["empty-file"]),
    "a file of comments": ("# x\n", ["empty-file"]),
    "a list": ("- a\n", ["wrong-type"]),
    "an empty list": ("[]\n", ["wrong-type"]),
    "a word": ("hello\n", ["wrong-type"]),
    "null": ("null\n", ["wrong-type"]),
    "no section": ("{}\n", ["missing-section", "missing-section"]),
    "no training": ("model:\n  type: MLP\n", ["missing-section"]),
    "no model": ("training:\n  epochs: 1\n", ["missing-section"]),
    "an empty model": ("training:\n  epochs: 1\nmodel:\n", ["missing-section"]),
    "no epochs": (
        "model:\n  type: MLP\ntraining:\n  lr: 0.1\n",
        ["missing-key 3 training"],
    ),
    "no type": (
        "training:\n  epochs: 1\nmodel:\n  params:\n    residual: true\n",
        ["missing-key 3 model"],
    ),
    "distillation alone": (
        "distillation: {alpha: 0.5}\n",
        ["missing-section", "missing-section", "missing-section", "missing-section"],
    ),
    "distillation beside a model": (
        section("distillation", "alpha: 0.5"),
        ["conflict 1 model", "missing-section", "missing-section", "missing-section", "missing-section"],
    ),
    "a key twice": (
        f"{BASE}seed: 1\nseed: 2\n",
        ["duplicate-key 6 seed"],
    ),
    "a key twice inside": (
        "training:\n  epochs: 1\n  lr: 0.1\n  epochs: 2\nmodel:\n  type: MLP\n",
        ["duplicate-key 4 training.epochs"],
    ),
    "a tab": (
        "training:\n\tepochs: 1\n",
        ["invalid-yaml 2"],
    ),
    "two documents": (f"{BASE}---\nseed: 1\n", ["unsupported-yaml 6"]),
    "an anchor": (
        f"seed: &s 1\n{BASE}",
        ["unsupported-yaml 1"],
    ),
    "an alias": (
        "model: {type: MLP}\ntraining: *t\n",
        ["unsupported-yaml 2"],
    ),
    "a merge key": (
        "model:\n  type: MLP\ntraining:\n  <<: {epochs: 1}\n",
        ["invalid-key 4 training"],
    ),
    "a list as key": (f"{BASE}? [a]\n: 1\n", ["invalid-key 5"]),
    "an open brace": (
        f"{BASE}data: {{name: mnist\n",
        ["invalid-yaml 6"],
    ),
    "two colons": (f"{BASE}data: a: b\n", ["invalid-yaml 5"]),
    "too deep": (f"{BASE}data: {'[' * 60}{']' * 60}\n", ["unsupported-yaml 5"]),
    "much too deep": (f"a: {'[' * 20_000}\n", ["unsupported-yaml 1"]),
    "Latin-1": (b"# Profondit\xe0\n" + BASE.encode(), ["invalid-yaml"]),
    "UTF-16": (BASE.encode("utf-16"), ["invalid-yaml"]),
    "a NUL": (
        f"{BASE}seed: \x00\n",
        ["invalid-yaml"],
    ),
    "half a surrogate pair": (
        section("experiment", r'title: "\ud800"'),
        ["invalid-text 6 experiment.title"],
    ),
    "more than 256 KiB": (
        f"{BASE}#{'x' * 2**18}",
        ["too-large"],
    ),
}

KEYS = {
    "a section that is near to a known one": (
        f"{BASE}trainin: {{}}\n",
        ["unknown-key 5 trainin"],
    ),
    "a section near to none": (f"{BASE}zzz: 2\n", ["unknown-key 5 zzz"]),
    "a number as key": (f"{BASE}1: 2\n", ["unknown-key 5 1"]),
    "a dotted key": (f"{BASE}data.name: shapes\n", ["unknown-key 5 data.name"]),
    "an option near to a known one": (
        mlp("layer_dim: 3"),
        ["unknown-key 6 model.params.layer_dim"],
    ),
    "an option near to none": (
        cnn("zzz: 3"),
        ["unknown-key 6 model.params.zzz"],
    ),
    "an option of the optimizer": (
        "model:\n  type: MLP\ntraining:\n  epochs: 1\n  optimizer: SGD\n  optimizer_params: {momentun: 0.9}\n",
        ["unknown-key 6 training.optimizer_params.momentun"],
    ),
    "an option of the logging": (
        section("logging", "project: a"),
        ["unknown-key 6 logging.project"],
    ),
    "a section that is a list": (
        f"{BASE}data: [1]\n",
        ["wrong-type 5 data"],
    ),
    "a section that is a word": (
        f"{BASE}data: mnist\n",
        ["wrong-type 5 data"],
    ),
}

SCALARS = {
    "a word for a number": (training("lr: fast"), ["wrong-type 5 training.lr"]),
    "a quoted number": (f"seed: '12'\n{BASE}", ["wrong-type 1 seed"]),
    "a fraction for a whole number": (
        f"seed: 1.5\n{BASE}",
        ["wrong-type 1 seed"],
    ),
    "a whole float for a whole number": (
        mlp("layers_dim: 12.0"),
        ["wrong-type 6 model.params.layers_dim"],
    ),
    "true for a number": (training("lr: true"), ["wrong-type 5 training.lr"]),
    "1 for a boolean": (
        mlp("residual: 1"),
        ["wrong-type 6 model.params.residual"],
    ),
    "a quoted yes": (
        mlp("residual: 'yes'"),
        ["wrong-type 6 model.params.residual"],
    ),
    "a number for a text": (
        section("experiment", "title: 12"),
        ["wrong-type 6 experiment.title"],
    ),
    "null for a text": (
        section("experiment", "title: null"),
        ["wrong-type 6 experiment.title"],
    ),
    "a list for a text": (
        "training:\n  epochs: 1\nmodel:\n  type: [MLP]\n",
        ["wrong-type 4 model.type"],
    ),
    "a word for a list": (
        section("data", "augment: flip"),
        ["wrong-type 6 data.augment"],
    ),
    "a negative rate": (training("lr: -0.1"), ["out-of-range 5 training.lr"]),
    "a number beyond all": (
        training("lr: 1e400"),
        ["out-of-range 5 training.lr"],
    ),
    "a negative seed": (f"seed: -1\n{BASE}", ["out-of-range 1 seed"]),
    "a seed of 2^53": (
        f"seed: 9007199254740992\n{BASE}",
        ["out-of-range 1 seed"],
    ),
    "zero epochs": (
        "model:\n  type: MLP\ntraining:\n  epochs: 0\n",
        ["out-of-range 4 training.epochs"],
    ),
    "an empty batch": (
        section("data", "batch_size: 0"),
        ["out-of-range 6 data.batch_size"],
    ),
    "a batch of more than there is": (
        section("data", "batch_size: 70000"),
        ["data-mismatch 6 data.batch_size"],
    ),
    "no validation set": (
        section("data", "validation_split: 0.0"),
        ["out-of-range 6 data.validation_split"],
    ),
    "a validation share of 95": (
        section("data", "validation_split: 95.5"),
        ["out-of-range 6 data.validation_split"],
    ),
    "everything dropped": (
        mlp("dropout: 1.0"),
        ["out-of-range 6 model.params.dropout"],
    ),
    "a limit beyond the data": (
        section("data", "limit: 70000"),
        ["data-mismatch 6 data.limit"],
    ),
    "an unknown precision": (
        training("precision: fp16"),
        ["unknown-name 5 training.precision"],
    ),
    "a difficulty of 2": (
        section("data", "name: shapes", "params: {difficulty: 2.0}"),
        ["out-of-range 7 data.params.difficulty"],
    ),
}

AMBIGUOUS_SCALARS = {
    "no": ("residual: no", "residual"),
    "yes": ("residual: yes", "residual"),
    "on": ("residual: on", "residual"),
    "Off": ("residual: Off", "residual"),
    "TRUE": ("residual: TRUE", "residual"),
    "y for a text": ("activation: y", "activation"),
    "010": ("layers_dim: 010", "layers_dim"),
    "0x1F": ("layers_dim: 0x1F", "layers_dim"),
    "0o17": ("layers_dim: 0o17", "layers_dim"),
    "12:30": ("layers_dim: 12:30", "layers_dim"),
    "1_000": ("layers_dim: 1_000", "layers_dim"),
    "a date": ("layers_dim: 2024-01-01", "layers_dim"),
    "a date for a text": ("activation: 2024-01-01", "activation"),
}

PARTS = {
    "a model that is near": (
        "training:\n  epochs: 1\nmodel:\n  type: MPL\n",
        ["unknown-name 4 model.type"],
    ),
    "another model": (
        "training:\n  epochs: 1\nmodel:\n  type: GPT\n",
        ["unknown-name 4 model.type"],
    ),
    "an optimizer that torch has": (
        training("optimizer: LBFGS"),
        ["unknown-name 5 training.optimizer"],
    ),
    "an optimizer that nobody has": (
        training("optimizer: Foo"),
        ["unknown-name 5 training.optimizer"],
    ),
    "an optimizer in lower case": (
        training("optimizer: sgd"),
        ["unknown-name 5 training.optimizer"],
    ),
    "a schedule that torch has": (
        training("scheduler: CyclicLR"),
        ["unknown-name 5 training.scheduler"],
    ),
    "a schedule misspelt": (
        training("scheduler: CosineAnealingLR"),
        ["unknown-name 5 training.scheduler"],
    ),
    "options of no schedule": (
        training("scheduler_params: {gamma: 0.5}"),
        ["conflict 5 training.scheduler_params"],
    ),
    "a loss that torch has": (
        training("criterion: MSELoss"),
        ["unknown-name 5 training.criterion"],
    ),
    "a loss misspelt": (
        training("criterion: CrossEntropy"),
        ["unknown-name 5 training.criterion"],
    ),
    "an activation misspelt": (
        mlp("activation: Relu"),
        ["unknown-name 6 model.params.activation"],
    ),
    "another activation": (
        mlp("activation: Swish"),
        ["unknown-name 6 model.params.activation"],
    ),
    "Nesterov without momentum": (
        "model:\n  type: MLP\ntraining:\n  epochs: 1\n  optimizer: SGD\n  optimizer_params:\n    nesterov: true\n",
        ["conflict 7 training.optimizer_params.nesterov"],
    ),
    "an unknown block": (
        cnn("block_type: big"),
        ["unknown-name 6 model.params.block_type"],
    ),
    "two stages": (
        cnn("layers: [1, 1]"),
        ["conflict 6 model.params.layers"],
    ),
    "a stage without blocks": (
        cnn("layers: [1, 0, 1, 1]"),
        ["out-of-range 6 model.params.layers[1]"],
    ),
    "a number of blocks": (cnn("layers: 3"), ["wrong-type 6 model.params.layers"]),
    "a dataset that is near": (
        section("data", "name: cifar"),
        ["unknown-name 6 data.name"],
    ),
    "another dataset": (
        section("data", "name: imagenet"),
        ["unknown-name 6 data.name"],
    ),
    "an unknown augmentation": (
        section("data", "augment: [flop]"),
        ["unknown-name 6 data.augment[0]"],
    ),
    "an input size of other images": (
        mlp("input_size: 100"),
        ["data-mismatch 6 model.params.input_size"],
    ),
    "an MLP for MNIST on CIFAR-10": (
        section("data", "name: cifar-10"),
        ["data-mismatch 1 model.params.input_size"],
    ),
    "seven classes of ten": (
        mlp("class_num: 7"),
        ["data-mismatch 6 model.params.class_num"],
    ),
    "a hundred classes of ten": (
        cnn("num_classes: 100"),
        ["data-mismatch 6 model.params.num_classes"],
    ),
}

EXPERIMENT = {
    "a factor of no section": (
        section("experiment", "factors:", "  modl.params.residual: [true]"),
        ["unknown-factor 7 experiment.factors.modl.params.residual"],
    ),
    "a factor that the model lacks": (
        section("experiment", "factors:", "  model.params.residul: [true, false]"),
        ["unknown-key 7 model.params.residul"],
    ),
    "a factor without levels": (
        section("experiment", "factors:", "  model.params.residual: []"),
        ["no-levels 7 experiment.factors.model.params.residual"],
    ),
    "a factor of one value": (
        section("experiment", "factors:", "  model.params.residual: true"),
        ["wrong-type 7 experiment.factors.model.params.residual.levels"],
    ),
    "a condition alone": (
        section("experiment", "factors:", "  training.lr: {when: {}}"),
        ["missing-key 7 experiment.factors.training.lr"],
    ),
    "a wrong level": (
        section("experiment", "factors:", "  training.lr: [0.1, fast]"),
        ["wrong-type 7 training.lr"],
    ),
    "an ambiguous level": (
        section("experiment", "factors:", "  model.params.residual: [no, true]"),
        ["ambiguous-value 7 experiment.factors.model.params.residual[0]"],
    ),
    "a seed as a treatment": (
        section("experiment", "factors:", "  seed: [1, 2]"),
        ["seed-factor 7 experiment.factors.seed"],
    ),
    "factors in a list": (
        section("experiment", "factors: [a]"),
        ["wrong-type 6 experiment.factors"],
    ),
    "no depth": (
        section("experiment", "depths: []"),
        ["no-levels 6 experiment.depths"],
    ),
    "a depth in letters": (
        section("experiment", "depths: [a]"),
        ["wrong-type 6 experiment.depths[0]"],
    ),
    "depths of another model": (
        section("experiment", "depths: [[1, 1, 1, 1]]"),
        ["wrong-type 6 model.params.hidden_layers_num"],
    ),
    "no seeds": (section("experiment", "seeds: 0"), ["out-of-range 6 experiment.seeds"]),
    "an empty list of seeds": (
        section("experiment", "seeds: []"),
        ["no-seeds 6 experiment.seeds"],
    ),
    "a seed twice": (
        section("experiment", "seeds: [1, 1]"),
        ["duplicate-seed 6 experiment.seeds"],
    ),
    "too many trials": (
        section("experiment", "seeds: 100000", "factors: {training.lr: [0.1, 0.2, 0.3]}"),
        ["too-many-trials 5 experiment"],
    ),
    "a claim of more": (
        claim(expect="more"),
        ["unknown-name 6 claims[0].expect"],
    ),
    "a claim of one level": (
        claim(levels="[true]"),
        ["invalid-claim 6 claims[0].levels"],
    ),
    "a claim of no difference at all": (
        claim(expect="equal"),
        ["invalid-claim 6 claims[0].matters"],
    ),
    "an ambiguous level of a claim": (
        claim(at="{batch_norm: no}"),
        ["ambiguous-value 6 claims[0].at.batch_norm"],
    ),
    "claims in a word": (f"{BASE}claims: a\n", ["wrong-type 5 claims"]),
    "three mistakes, in the order of the file": (
        "seed: -1\nmodel:\n  type: MLP\n  params: {dropout: 2.5}\ntraining:\n  epochs: 0\n",
        ["out-of-range 1 seed", "out-of-range 4 model.params.dropout", "out-of-range 6 training.epochs"],
    ),
}

WRONG = WHOLE_DOCUMENT | {f"key: {name}": case for name, case in KEYS.items()} | SCALARS | PARTS | EXPERIMENT


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_report_code_line_and_key(told: Tell, name: str):
    """All problems, in the order of the file."""
    text, lines = WRONG[name]
    assert told(text) == lines


def test_the_tables_hold_no_name_twice():
    """A case that another hides would never run."""
    assert len(WRONG) == sum(map(len, (WHOLE_DOCUMENT, KEYS, SCALARS, PARTS, EXPERIMENT)))


@pytest.mark.parametrize("name", AMBIGUOUS_SCALARS)
def test_ambiguous_yaml_values_are_refused(told: Tell, name: str):
    """The Norway problem, octal, sexagesimal, dates: never silently one or the other."""
    line, key = AMBIGUOUS_SCALARS[name]
    assert told(mlp(line)) == [f"ambiguous-value 6 model.params.{key}"]


@pytest.mark.parametrize("word", [".nan", ".inf", "-.INF", "nan", "1.0e400"])
def test_only_finite_numbers_are_numbers(told: Tell, word: str):
    """One problem, at its line, that asks for a finite number."""
    (problem,) = told(training(f"lr: {word}"))
    assert problem.partition(" ")[0] in ("ambiguous-value", "out-of-range", "wrong-type")
    assert problem.endswith(" 5 training.lr")


def test_a_number_of_five_thousand_digits_is_one_short_line(told: Tell):
    """The message does not repeat all of it."""
    (problem,) = told(f"seed: {'9' * 5000}\n{BASE}")
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
def test_no_tag_is_obeyed(told: Tell, value: str):
    """A tag names a type that the file's text does not show; those of Python would run code."""
    assert told(section("experiment", f"title: {value}")) == ["unsupported-yaml 6 experiment.title"]


def test_the_worked_example(told: Tell):
    """Five mistakes, five lines, in the order of the file."""
    text = (
        "seed: 42\ntraining:\n  epoch: 50\n  optimizer: Adamm\n  lr: fast\ndistillation:\n  alpha: 1.5\ncolor: blue\n"
    )
    assert told(text) == [
        "unknown-key 3 training.epoch",
        "unknown-name 4 training.optimizer",
        "wrong-type 5 training.lr",
        "out-of-range 7 distillation.alpha",
        "unknown-key 8 color",
        *["missing-section"] * 4,
    ]


def test_problems_of_all_kinds_come_in_one_round(told: Tell):
    """Schema, components, factors, seeds, and claims: nothing is hidden by something else."""
    text = (
        "seed: -1\nmodel:\n  type: MLP\n  params: {input_size: 3, activation: Swish}\ntraining:\n  epochs: 0\n"
        "experiment:\n  factors: {modl.x: [1], data.batch_size: []}\n  seeds: [1, 1]\nclaims:\n"
        "  - {name: a, factor: residual, levels: [true], expect: greater}\n"
    )
    assert told(text) == [
        "out-of-range 1 seed",
        "unknown-name 4 model.params.activation",
        "out-of-range 6 training.epochs",
        "no-levels 8 experiment.factors.data.batch_size",
        "unknown-factor 8 experiment.factors.modl.x",
        "duplicate-seed 9 experiment.seeds",
        "invalid-claim 11 claims[0].levels",
    ]


@pytest.mark.parametrize("bad", ["lr: fast", "lr: -1.0", "epoch: 3"])
def test_one_mistake_does_not_hide_another_of_the_same_section(told: Tell, bad: str):
    """An option that is wrong leaves the names beside it to be judged."""
    lines = told(f"{BASE}  {bad}\n  optimizer: Adamm\n  scheduler: CyclicLR\n")
    assert [line.partition(" ")[2] for line in lines] == [
        "5 training." + bad.split(":")[0],
        "6 training.optimizer",
        "7 training.scheduler",
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("1E-5", 1e-5), ("1e-03", 1e-3), (".5", 0.5), ("5.", 5.0), ("+1", 1.0), ("1", 1.0)],
)
def test_numbers_in_every_clear_spelling(tmp_path: Path, text: str, number: float):
    """YAML 1.1 leaves 1e-3 a text; where a number is asked for it is one, and equal numbers are one trial."""
    path = tmp_path / "exp.yaml"
    path.write_text(training(f"lr: {text}"))
    (trial,) = fathomlab.load(path).trials
    assert trial.content["training"]["lr"] == number
    assert isinstance(trial.content["training"]["lr"], float)


def test_a_number_in_scientific_spelling_is_no_whole_number(told: Tell):
    """1e2 is a number, but not one that counts."""
    assert told(mlp("layers_dim: 1e2")) == ["wrong-type 6 model.params.layers_dim"]


@pytest.mark.parametrize(
    "text", [BASE.encode("utf-8-sig"), BASE.replace("\n", "\r\n").encode(), BASE.encode() + b"\n\n"]
)
def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path: Path, text: bytes):
    """The same trial as from the plain file."""
    path = tmp_path / "exp.yaml"
    path.write_bytes(BASE.encode())
    plain = fathomlab.load(path)
    path.write_bytes(text)
    assert fathomlab.load(path).trials == plain.trials


@pytest.mark.parametrize("word", ["none", "None", "null", "~", ""])
def test_every_word_for_no_schedule_is_no_schedule(tmp_path: Path, word: str):
    """The seed's readers write it in many ways."""
    path = tmp_path / "exp.yaml"
    path.write_text(training(f"scheduler: {word}"))
    (trial,) = fathomlab.load(path).trials
    assert trial.content["training"]["scheduler"] is None


def test_quick_names_its_mistakes_at_its_own_lines(told: Tell):
    """A key that no section has, and a value that is wrong once it is laid over the rest."""
    assert told(section("quick", "trainin: {epochs: 1}"), quick=True) == ["unknown-key 6 quick.trainin"]
    assert told(section("quick", "training:", "  epochs: 0"), quick=True) == ["out-of-range 7 training.epochs"]


def test_quick_needs_a_section(tmp_path: Path):
    """Said as it is, not as a mistake in the file."""
    path = tmp_path / "exp.yaml"
    path.write_text(BASE)
    with pytest.raises(fathomlab.UserError) as caught:
        fathomlab.load(path, quick=True)
    assert caught.value.code == "no-quick-section"


def test_a_file_that_cannot_be_read(tmp_path: Path):
    """Missing, a folder, a name that no file can have."""
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


def test_a_mapping_is_checked_like_a_file_and_left_as_it_is():
    """The same messages without places; the caller's mapping is not written to."""
    mapping = {"model": {"type": "MLP"}, "training": {"epochs": 1, "lr": "fast"}}
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.load(mapping, "seed=3")
    (problem,) = caught.value.problems
    assert (problem.code, problem.location, problem.path) == ("wrong-type", "", "training.lr")
    assert mapping == {"model": {"type": "MLP"}, "training": {"epochs": 1, "lr": "fast"}}
