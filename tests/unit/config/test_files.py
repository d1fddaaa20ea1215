"""Every mistake in an experiment file is told with its place, dotted key, value and remedy, word for word."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

import fathomlab
from fathomlab.models import mlp as mlp_module
from fathomlab.models import resnet

Tell = Callable[..., list[str]]
BASE = "model:\n  type: MLP\ntraining:\n  epochs: 1\n"  # four lines: what is added stands from line 5 on
SECTIONS = (
    "claims, data, distillation, experiment, logging, model, quick, seed, student_model, "
    "teacher_model, training, training_student, training_teacher"
)
DATASETS = "mnist, fashion-mnist, cifar-10, cifar-100, mnist-sample, shapes"
OPTIMISERS = "Adam, AdamW, RMSprop, SGD"
SCHEDULES = "CosineAnnealingLR, StepLR, MultiStepLR, ExponentialLR, OneCycleLR, ReduceLROnPlateau, none"
ACTIVATIONS = ", ".join(mlp_module.ACTIVATIONS)
CNN_OPTIONS = ", ".join(sorted(field.name for field in fields(resnet.CNN)))
TWO_WAYS = "YAML versions read this differently"
PLAIN = "only plain values are read."
WHOLE = [
    "the section 'teacher_model' is missing.",
    "the section 'student_model' is missing.",
    "the section 'training_teacher' is missing.",
    "the section 'training_student' is missing.",
]


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
    "an empty file": ("", ["the file is empty. Write the experiment's sections, such as `model:`."]),
    "a file of comments": ("# x\n", ["the file is empty. Write the experiment's sections, such as `model:`."]),
    "a list": ("- a\n", ["should be sections with keys, such as `model:` and `training:`."]),
    "an empty list": ("[]\n", ["should be sections with keys, such as `model:` and `training:`."]),
    "a word": ("hello\n", ["should be sections with keys, such as `model:` and `training:`."]),
    "null": ("null\n", ["should be sections with keys, such as `model:` and `training:`."]),
    "no section": ("{}\n", ["the section 'model' is missing.", "the section 'training' is missing."]),
    "no training": ("model:\n  type: MLP\n", ["the section 'training' is missing."]),
    "no model": ("training:\n  epochs: 1\n", ["the section 'model' is missing."]),
    "an empty model": ("training:\n  epochs: 1\nmodel:\n", ["the section 'model' is missing."]),
    "no epochs": (
        "model:\n  type: MLP\ntraining:\n  lr: 0.1\n",
        ["exp.yaml:3  training: the key 'epochs' is missing."],
    ),
    "no type": (
        "training:\n  epochs: 1\nmodel:\n  params:\n    residual: true\n",
        ["exp.yaml:3  model: the key 'type' is missing."],
    ),
    "distillation alone": ("distillation: {alpha: 0.5}\n", WHOLE),
    "distillation beside a model": (
        section("distillation", "alpha: 0.5"),
        [
            "exp.yaml:1  model: cannot stand beside teacher_model and student_model. Remove one or the other.",
            *WHOLE,
        ],
    ),
    "a key twice": (
        f"{BASE}seed: 1\nseed: 2\n",
        ["exp.yaml:6  seed: stands twice; the first is at exp.yaml:5. Remove one."],
    ),
    "a key twice inside": (
        "training:\n  epochs: 1\n  lr: 0.1\n  epochs: 2\nmodel:\n  type: MLP\n",
        ["exp.yaml:4  training.epochs: stands twice; the first is at exp.yaml:2. Remove one."],
    ),
    "a tab": (
        "training:\n\tepochs: 1\n",
        [
            "exp.yaml:2  is not YAML: while scanning for the next token "
            r"found character '\t' that cannot start any token."
        ],
    ),
    "two documents": (f"{BASE}---\nseed: 1\n", ["exp.yaml:6  holds several documents; one experiment is one."]),
    "an anchor": (
        f"seed: &s 1\n{BASE}",
        ["exp.yaml:1  uses an anchor or alias (& or *); write the value out."],
    ),
    "an alias": (
        "model: {type: MLP}\ntraining: *t\n",
        ["exp.yaml:2  uses an anchor or alias (& or *); write the value out."],
    ),
    "a merge key": (
        "model:\n  type: MLP\ntraining:\n  <<: {epochs: 1}\n",
        ["exp.yaml:4  training: has a key that is not a plain name."],
    ),
    "a list as key": (f"{BASE}? [a]\n: 1\n", ["exp.yaml:5  has a key that is not a plain name."]),
    "an open brace": (
        f"{BASE}data: {{name: mnist\n",
        ["exp.yaml:6  is not YAML: while parsing a flow mapping expected ',' or '}', but got '<stream end>'."],
    ),
    "two colons": (f"{BASE}data: a: b\n", ["exp.yaml:5  is not YAML: mapping values are not allowed here."]),
    "too deep": (f"{BASE}data: {'[' * 60}{']' * 60}\n", ["exp.yaml:5  nests deeper than 40 levels."]),
    "much too deep": (f"a: {'[' * 20_000}\n", ["exp.yaml:1  nests deeper than 40 levels."]),
    "Latin-1": (b"# Profondit\xe0\n" + BASE.encode(), ["is not UTF-8 text (byte 11)."]),
    "UTF-16": (BASE.encode("utf-16"), ["is not UTF-8 text (byte 0)."]),
    "a NUL": (
        f"{BASE}seed: \x00\n",
        ["is not YAML: unacceptable character #x0000: special characters are not allowed."],
    ),
    "half a surrogate pair": (
        section("experiment", r'title: "\ud800"'),
        ["exp.yaml:6  experiment.title: holds half of a surrogate pair, which no text may."],
    ),
    "more than 256 KiB": (
        f"{BASE}#{'x' * 2**18}",
        ["is larger than 262,144 bytes; an experiment file is small."],
    ),
}

KEYS = {
    "a section that is near to a known one": (
        f"{BASE}trainin: {{}}\n",
        ["exp.yaml:5  trainin: unknown key. Did you mean 'training'?"],
    ),
    "a section near to none": (f"{BASE}zzz: 2\n", [f"exp.yaml:5  zzz: unknown key. Known here: {SECTIONS}."]),
    "a number as key": (f"{BASE}1: 2\n", [f"exp.yaml:5  1: unknown key. Known here: {SECTIONS}."]),
    "a dotted key": (f"{BASE}data.name: shapes\n", ["exp.yaml:5  data.name: unknown key. Did you mean 'data'?"]),
    "an option near to a known one": (
        mlp("layer_dim: 3"),
        ["exp.yaml:6  model.params.layer_dim: unknown key. Did you mean 'layers_dim'?"],
    ),
    "an option near to none": (
        cnn("zzz: 3"),
        [f"exp.yaml:6  model.params.zzz: unknown key. Known here: {CNN_OPTIONS}."],
    ),
    "an option of the optimiser": (
        "model:\n  type: MLP\ntraining:\n  epochs: 1\n  optimizer: SGD\n  optimizer_params: {momentun: 0.9}\n",
        ["exp.yaml:6  training.optimizer_params.momentun: unknown key. Did you mean 'momentum'?"],
    ),
    "an option of the logging": (
        section("logging", "project: a"),
        ["exp.yaml:6  logging.project: unknown key. Did you mean 'project_name'?"],
    ),
    "a section that is a list": (
        f"{BASE}data: [1]\n",
        ["exp.yaml:5  data: should be a section with keys of its own (got [1])."],
    ),
    "a section that is a word": (
        f"{BASE}data: mnist\n",
        ["exp.yaml:5  data: should be a section with keys of its own (got 'mnist')."],
    ),
}

SCALARS = {
    "a word for a number": (training("lr: fast"), ["exp.yaml:5  training.lr: should be a number (got 'fast')."]),
    "a quoted number": (f"seed: '12'\n{BASE}", ["exp.yaml:1  seed: should be a whole number (got '12')."]),
    "a fraction for a whole number": (
        f"seed: 1.5\n{BASE}",
        ["exp.yaml:1  seed: should be a whole number (got 1.5)."],
    ),
    "a whole float for a whole number": (
        mlp("layers_dim: 12.0"),
        ["exp.yaml:6  model.params.layers_dim: should be a whole number (got 12.0)."],
    ),
    "true for a number": (training("lr: true"), ["exp.yaml:5  training.lr: should be a number (got true)."]),
    "1 for a boolean": (
        mlp("residual: 1"),
        ["exp.yaml:6  model.params.residual: should be true or false (got 1)."],
    ),
    "a quoted yes": (
        mlp("residual: 'yes'"),
        ["exp.yaml:6  model.params.residual: should be true or false (got 'yes')."],
    ),
    "a number for a text": (
        section("experiment", "title: 12"),
        ["exp.yaml:6  experiment.title: should be a text (got 12)."],
    ),
    "null for a text": (
        section("experiment", "title: null"),
        ["exp.yaml:6  experiment.title: should be a text (got null)."],
    ),
    "a list for a text": (
        "training:\n  epochs: 1\nmodel:\n  type: [MLP]\n",
        ["exp.yaml:4  model.type: should be a text (got ['MLP'])."],
    ),
    "a word for a list": (
        section("data", "augment: flip"),
        ["exp.yaml:6  data.augment: should be a list (got 'flip')."],
    ),
    "a negative rate": (training("lr: -0.1"), ["exp.yaml:5  training.lr: should be above 0 (got -0.1)."]),
    "a number beyond all": (
        training("lr: 1e400"),
        ["exp.yaml:5  training.lr: should be a finite number (got inf)."],
    ),
    "a negative seed": (f"seed: -1\n{BASE}", ["exp.yaml:1  seed: should be at least 0 (got -1)."]),
    "a seed of 2^53": (
        f"seed: 9007199254740992\n{BASE}",
        ["exp.yaml:1  seed: should be below 2^53 (got 9007199254740992)."],
    ),
    "zero epochs": (
        "model:\n  type: MLP\ntraining:\n  epochs: 0\n",
        ["exp.yaml:4  training.epochs: should be at least 1 (got 0)."],
    ),
    "an empty batch": (
        section("data", "batch_size: 0"),
        ["exp.yaml:6  data.batch_size: should be at least 1 (got 0)."],
    ),
    "a batch of more than there is": (
        section("data", "batch_size: 70000"),
        ["exp.yaml:6  data.batch_size: should be at most 60000, the training images (got 70000)."],
    ),
    "no validation set": (
        section("data", "validation_split: 0.0"),
        ["exp.yaml:6  data.validation_split: should be above 0 (got 0.0)."],
    ),
    "a validation share of 95": (
        section("data", "validation_split: 95.5"),
        ["exp.yaml:6  data.validation_split: should be at most 90 (got 95.5)."],
    ),
    "everything dropped": (
        mlp("dropout: 1.0"),
        ["exp.yaml:6  model.params.dropout: should be below 1 (got 1.0)."],
    ),
    "a limit beyond the data": (
        section("data", "limit: 70000"),
        ["exp.yaml:6  data.limit: should be at most 60000, the training images of mnist (got 70000)."],
    ),
    "an unknown precision": (
        training("precision: fp16"),
        ["exp.yaml:5  training.precision: should be one of fp32, bf16, auto, fp64 (got 'fp16'). Did you mean 'fp64'?"],
    ),
    "a difficulty of 2": (
        section("data", "name: shapes", "params: {difficulty: 2.0}"),
        ["exp.yaml:7  data.params.difficulty: should be at most 1 (got 2.0)."],
    ),
}

SURPRISES = {
    "no": ("residual: no", "residual", "no", "false, or quote it"),
    "yes": ("residual: yes", "residual", "yes", "true, or quote it"),
    "on": ("residual: on", "residual", "on", "true, or quote it"),
    "Off": ("residual: Off", "residual", "Off", "false, or quote it"),
    "TRUE": ("residual: TRUE", "residual", "TRUE", "it in lower case, or quote it"),
    "y for a text": ("activation: y", "activation", "y", "true, or quote it"),
    "010": ("layers_dim: 010", "layers_dim", "010", "it without leading zeros, or quote it"),
    "0x1F": ("layers_dim: 0x1F", "layers_dim", "0x1F", "a decimal number, or quote it"),
    "0o17": ("layers_dim: 0o17", "layers_dim", "0o17", "a decimal number, or quote it"),
    "12:30": ("layers_dim: 12:30", "layers_dim", "12:30", "a plain number, or quote it"),
    "1_000": ("layers_dim: 1_000", "layers_dim", "1_000", "the number without underscores, or quote it"),
    "a date": ("layers_dim: 2024-01-01", "layers_dim", "2024-01-01", "it in quotes"),
    "a date for a text": ("activation: 2024-01-01", "activation", "2024-01-01", "it in quotes"),
}

PARTS = {
    "a model that is near": (
        "training:\n  epochs: 1\nmodel:\n  type: MPL\n",
        ["exp.yaml:4  model.type: not a supported model (got 'MPL'). Did you mean 'MLP'? Supported: MLP, CNN."],
    ),
    "another model": (
        "training:\n  epochs: 1\nmodel:\n  type: GPT\n",
        ["exp.yaml:4  model.type: not a supported model (got 'GPT'). Supported: MLP, CNN."],
    ),
    "an optimiser that torch has": (
        training("optimizer: LBFGS"),
        [f"exp.yaml:5  training.optimizer: not a supported optimizer (got 'LBFGS'). Supported: {OPTIMISERS}."],
    ),
    "an optimiser that nobody has": (
        training("optimizer: Foo"),
        [f"exp.yaml:5  training.optimizer: not an optimizer of torch (got 'Foo'). Supported: {OPTIMISERS}."],
    ),
    "an optimiser in lower case": (
        training("optimizer: sgd"),
        ["exp.yaml:5  training.optimizer: not an optimizer of torch (got 'sgd'). Did you mean 'SGD'?"],
    ),
    "a schedule that torch has": (
        training("scheduler: CyclicLR"),
        [f"exp.yaml:5  training.scheduler: not a supported scheduler (got 'CyclicLR'). Supported: {SCHEDULES}."],
    ),
    "a schedule misspelt": (
        training("scheduler: CosineAnealingLR"),
        [
            "exp.yaml:5  training.scheduler: not a scheduler of torch (got 'CosineAnealingLR'). "
            "Did you mean 'CosineAnnealingLR'?"
        ],
    ),
    "options of no schedule": (
        training("scheduler_params: {gamma: 0.5}"),
        ["exp.yaml:5  training.scheduler_params: has no scheduler to go to. Set scheduler, or remove it."],
    ),
    "a loss that torch has": (
        training("criterion: MSELoss"),
        ["exp.yaml:5  training.criterion: not a supported criterion (got 'MSELoss'). Supported: CrossEntropyLoss."],
    ),
    "a loss misspelt": (
        training("criterion: CrossEntropy"),
        [
            "exp.yaml:5  training.criterion: not a criterion of torch (got 'CrossEntropy'). "
            "Did you mean 'CrossEntropyLoss'?"
        ],
    ),
    "an activation misspelt": (
        mlp("activation: Relu"),
        [
            "exp.yaml:6  model.params.activation: not a supported activation (got 'Relu'). Did you mean 'ReLU'? "
            f"Supported: {ACTIVATIONS}."
        ],
    ),
    "another activation": (
        mlp("activation: Swish"),
        [f"exp.yaml:6  model.params.activation: not a supported activation (got 'Swish'). Supported: {ACTIVATIONS}."],
    ),
    "Nesterov without momentum": (
        "model:\n  type: MLP\ntraining:\n  epochs: 1\n  optimizer: SGD\n  optimizer_params:\n    nesterov: true\n",
        ["exp.yaml:7  training.optimizer_params.nesterov: needs momentum above 0 and dampening 0."],
    ),
    "an unknown block": (
        cnn("block_type: big"),
        ["exp.yaml:6  model.params.block_type: should be one of basic, bottleneck (got 'big')."],
    ),
    "two stages": (
        cnn("layers: [1, 1]"),
        ["exp.yaml:6  model.params.layers: should be four numbers of blocks, such as [2, 2, 2, 2] (got [1, 1])."],
    ),
    "a stage without blocks": (
        cnn("layers: [1, 0, 1, 1]"),
        ["exp.yaml:6  model.params.layers[1]: should be at least 1 (got 0)."],
    ),
    "a number of blocks": (cnn("layers: 3"), ["exp.yaml:6  model.params.layers: should be a list (got 3)."]),
    "a data set that is near": (
        section("data", "name: cifar"),
        [f"exp.yaml:6  data.name: not a data set (got 'cifar'). Did you mean 'cifar-10'? Supported: {DATASETS}."],
    ),
    "another data set": (
        section("data", "name: imagenet"),
        [f"exp.yaml:6  data.name: not a data set (got 'imagenet'). Supported: {DATASETS}."],
    ),
    "an unknown augmentation": (
        section("data", "augment: [flop]"),
        [
            "exp.yaml:6  data.augment[0]: not a supported augmentation (got 'flop'). Did you mean 'flip'? "
            "Supported: flip, crop."
        ],
    ),
    "an input size of other images": (
        mlp("input_size: 100"),
        ["exp.yaml:6  model.params.input_size: should be 784, the data's 1 x 28 x 28 (got 100)."],
    ),
    "an MLP for MNIST on CIFAR-10": (
        section("data", "name: cifar-10"),
        ["exp.yaml:1  model.params.input_size: should be 3072, the data's 3 x 32 x 32 (got 784)."],
    ),
    "seven classes of ten": (
        mlp("class_num: 7"),
        ["exp.yaml:6  model.params.class_num: should be 10, the data's classes (got 7)."],
    ),
    "a hundred classes of ten": (
        cnn("num_classes: 100"),
        ["exp.yaml:6  model.params.num_classes: should be 10, the data's classes (got 100)."],
    ),
}

EXPERIMENT = {
    "a factor of no section": (
        section("experiment", "factors:", "  modl.params.residual: [true]"),
        [
            "exp.yaml:7  experiment.factors.modl.params.residual: is not a key that a trial reads. "
            "Did you mean 'model'? Factors begin with data, model, training."
        ],
    ),
    "a factor that the model lacks": (
        section("experiment", "factors:", "  model.params.residul: [true, false]"),
        ["exp.yaml:7  model.params.residul: unknown key. Did you mean 'residual'?"],
    ),
    "a factor without levels": (
        section("experiment", "factors:", "  model.params.residual: []"),
        ["exp.yaml:7  experiment.factors.model.params.residual: has no levels (got []). Give at least one."],
    ),
    "a factor of one value": (
        section("experiment", "factors:", "  model.params.residual: true"),
        ["exp.yaml:7  experiment.factors.model.params.residual.levels: should be a list (got true)."],
    ),
    "a condition alone": (
        section("experiment", "factors:", "  training.lr: {when: {}}"),
        ["exp.yaml:7  experiment.factors.training.lr: the key 'levels' is missing."],
    ),
    "a wrong level": (
        section("experiment", "factors:", "  training.lr: [0.1, fast]"),
        ["exp.yaml:7  training.lr: should be a number (got 'fast')."],
    ),
    "an ambiguous level": (
        section("experiment", "factors:", "  model.params.residual: [no, true]"),
        [
            "exp.yaml:7  experiment.factors.model.params.residual[0]: YAML versions read this differently "
            "(got no). Write false, or quote it."
        ],
    ),
    "a seed as a treatment": (
        section("experiment", "factors:", "  seed: [1, 2]"),
        ["exp.yaml:7  experiment.factors.seed: a seed is a replicate, never a treatment. Use experiment.seeds."],
    ),
    "factors in a list": (
        section("experiment", "factors: [a]"),
        ["exp.yaml:6  experiment.factors: should be a section with keys of its own (got ['a'])."],
    ),
    "no depth": (
        section("experiment", "depths: []"),
        ["exp.yaml:6  experiment.depths: has no levels (got []). Give at least one."],
    ),
    "a depth in letters": (
        section("experiment", "depths: [a]"),
        ["exp.yaml:6  experiment.depths[0]: should be a whole number (got 'a')."],
    ),
    "depths of another model": (
        section("experiment", "depths: [[1, 1, 1, 1]]"),
        ["exp.yaml:6  model.params.hidden_layers_num: should be a whole number (got [1, 1, 1, 1])."],
    ),
    "no seeds": (section("experiment", "seeds: 0"), ["exp.yaml:6  experiment.seeds: should be at least 1 (got 0)."]),
    "an empty list of seeds": (
        section("experiment", "seeds: []"),
        ["exp.yaml:6  experiment.seeds: has no seeds (got []). Give at least one."],
    ),
    "a seed twice": (
        section("experiment", "seeds: [1, 1]"),
        ["exp.yaml:6  experiment.seeds: names a seed twice; equal seeds are one trial."],
    ),
    "too many trials": (
        section("experiment", "seeds: 100000", "factors: {training.lr: [0.1, 0.2, 0.3]}"),
        ["exp.yaml:5  experiment: these factors and seeds are 300,000 trials; at most 200,000 are planned at once."],
    ),
    "a claim of more": (
        claim(expect="more"),
        ["exp.yaml:6  claims[0].expect: should be one of greater, less, equal (got 'more')."],
    ),
    "a claim of one level": (
        claim(levels="[true]"),
        ["exp.yaml:6  claims[0].levels: should be two levels, the effect is first minus second (got 1)."],
    ),
    "a claim of no difference at all": (
        claim(expect="equal"),
        ["exp.yaml:6  claims[0].matters: should be above 0 where no difference is claimed (got 0)."],
    ),
    "an ambiguous level of a claim": (
        claim(at="{batch_norm: no}"),
        [
            "exp.yaml:6  claims[0].at.batch_norm: YAML versions read this differently (got no). "
            "Write false, or quote it."
        ],
    ),
    "claims in a word": (f"{BASE}claims: a\n", ["exp.yaml:5  claims: should be a list (got 'a')."]),
    "three mistakes, in the order of the file": (
        "seed: -1\nmodel:\n  type: MLP\n  params: {dropout: 2.5}\ntraining:\n  epochs: 0\n",
        [
            "exp.yaml:1  seed: should be at least 0 (got -1).",
            "exp.yaml:4  model.params.dropout: should be below 1 (got 2.5).",
            "exp.yaml:6  training.epochs: should be at least 1 (got 0).",
        ],
    ),
}

WRONG = WHOLE_DOCUMENT | {f"key: {name}": case for name, case in KEYS.items()} | SCALARS | PARTS | EXPERIMENT


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_told_word_for_word(told: Tell, name: str):
    """Place, dotted key, what is wrong, what was got, and the remedy; nothing else."""
    text, lines = WRONG[name]
    assert told(text) == lines


def test_the_tables_hold_no_name_twice():
    """A case that another hides would never run."""
    assert len(WRONG) == sum(map(len, (WHOLE_DOCUMENT, KEYS, SCALARS, PARTS, EXPERIMENT)))


@pytest.mark.parametrize("name", SURPRISES)
def test_what_yaml_versions_read_differently_is_refused_with_the_clear_spelling(told: Tell, name: str):
    """The Norway problem, octal, sexagesimal, dates: never silently one or the other."""
    line, key, got, remedy = SURPRISES[name]
    assert told(mlp(line)) == [f"exp.yaml:6  model.params.{key}: {TWO_WAYS} (got {got}). Write {remedy}."]


@pytest.mark.parametrize("word", [".nan", ".inf", "-.INF", "nan", "1.0e400"])
def test_only_finite_numbers_are_numbers(told: Tell, word: str):
    """One problem, at its line, that asks for a finite number."""
    (line,) = told(training(f"lr: {word}"))
    assert line.startswith("exp.yaml:5  training.lr: ")
    assert "finite number" in line


def test_a_number_of_five_thousand_digits_is_one_short_line(told: Tell):
    """The message does not repeat all of it."""
    (line,) = told(f"seed: {'9' * 5000}\n{BASE}")
    assert line.startswith("exp.yaml:1  seed: ")
    assert "maller number" in line or "below 2^53" in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("!x 1", "!x"),
        ("!!binary aGk=", "tag:yaml.org,2002:binary"),
        ("!!set {a}", "tag:yaml.org,2002:set"),
        ("!!python/object/apply:os.system [ls]", "tag:yaml.org,2002:python/object/apply:os.system"),
        ("!!python/name:os.system", "tag:yaml.org,2002:python/name:os.system"),
        ("!!int '1'", "tag:yaml.org,2002:int"),
        ("!!str 1", "tag:yaml.org,2002:str"),
    ],
)
def test_no_tag_is_obeyed(told: Tell, value: str, tag: str):
    """A tag names a type that the file's text does not show; those of Python would run code."""
    assert told(section("experiment", f"title: {value}")) == [
        f"exp.yaml:6  experiment.title: has the tag {tag}; {PLAIN}"
    ]


def test_the_worked_example(told: Tell):
    """Five mistakes, five lines, in the order of the file."""
    text = (
        "seed: 42\ntraining:\n  epoch: 50\n  optimizer: Adamm\n  lr: fast\ndistillation:\n  alpha: 1.5\ncolour: blue\n"
    )
    assert told(text) == [
        "exp.yaml:3  training.epoch: unknown key. Did you mean 'epochs'?",
        "exp.yaml:4  training.optimizer: not an optimizer of torch (got 'Adamm'). Did you mean 'Adam'?",
        "exp.yaml:5  training.lr: should be a number (got 'fast').",
        "exp.yaml:7  distillation.alpha: should be at most 1 (got 1.5).",
        f"exp.yaml:8  colour: unknown key. Known here: {SECTIONS}.",
    ]


@pytest.mark.parametrize("bad", ["lr: fast", "lr: -1.0", "epoch: 3"])
def test_one_mistake_does_not_hide_another_of_the_same_section(told: Tell, bad: str):
    """An option that is wrong leaves the names beside it to be judged."""
    lines = told(f"{BASE}  {bad}\n  optimizer: Adamm\n  scheduler: CyclicLR\n")
    assert [line.split(":")[1] for line in lines] == [
        "5  training." + bad.split(":")[0],
        "6  training.optimizer",
        "7  training.scheduler",
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
    assert told(mlp("layers_dim: 1e2")) == [
        "exp.yaml:6  model.params.layers_dim: should be a whole number (got '1e2')."
    ]


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
    assert told(section("quick", "trainin: {epochs: 1}"), quick=True) == [
        "exp.yaml:6  quick.trainin: unknown key. Did you mean 'training'?"
    ]
    assert told(section("quick", "training:", "  epochs: 0"), quick=True) == [
        "exp.yaml:7  training.epochs: should be at least 1 (got 0)."
    ]


def test_quick_needs_a_section(tmp_path: Path):
    """Said as it is, not as a mistake in the file."""
    path = tmp_path / "exp.yaml"
    path.write_text(BASE)
    with pytest.raises(fathomlab.UserError) as caught:
        fathomlab.load(path, quick=True)
    assert str(caught.value) == "exp.yaml: has no `quick` section, so --quick cannot be used with it."


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
        assert str(caught.value) == f"{shown}: cannot be read: {reason}."


def test_a_mapping_is_checked_like_a_file_and_left_as_it_is():
    """The same messages without places; the caller's mapping is not written to."""
    mapping = {"model": {"type": "MLP"}, "training": {"epochs": 1, "lr": "fast"}}
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.load(mapping, "seed=3")
    assert str(caught.value) == "the mapping: 1 problem\n  training.lr: should be a number (got 'fast')."
    assert mapping == {"model": {"type": "MLP"}, "training": {"epochs": 1, "lr": "fast"}}
