"""README.md of an exported network: a model card with the header that model hubs read."""

import re
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean, stdev
from typing import Any

from fathomlab.base.codec import JsonObject
from fathomlab.export.trial import LoadedTrial
from fathomlab.store.records import Number

MAX_TEXT = 300  # characters
USAGE = """\
```python
from model import load_model, normalize  # in this directory; needs torch and safetensors

model = load_model()
logits = model(normalize(pixels))  # pixels: (n, {shape}), {pixels}
```
"""


def model_card(trial: LoadedTrial, which: str, config: JsonObject) -> str:
    """Return the text of the card.

    Args:
        trial: The trial.
        which: `last` or `best`.
        config: The content of `config.json`.
    """
    record, info = trial.record, trial.record.dataset
    assert info is not None
    title = f"{config['architecture']['type']} on {info.title}"
    lines = [
        "---",
        _header(trial, which, title).rstrip(),
        "---",
        "",
        f"# {escaped(title)}",
        "",
        f"One trained network of {_origin(trial)}. It classifies images of {info.channels} x {info.height} x {info.width} "
        f"values into {info.classes} classes.",
        "",
        "## How to load it",
        "",
        USAGE.format(shape=", ".join(map(str, trial.architecture.shape)), pixels=config["input"]["pixels"]),
        "## Training",
        "",
        *_table(_training(trial, which)),
        "",
        "## Results on the test set",
        "",
        *_table(_results(trial, which)),
        "",
        "## Limitations",
        "",
        *(f"- {text}" for text in _limitations(trial)),
        "",
        f"Trial `{record.trial}`. `config.json` contains all options.",
        "",
    ]
    return "\n".join(lines)


def _header(trial: LoadedTrial, which: str, title: str) -> str:
    """The header in YAML. There is no license in it: only its owner can choose one."""
    import yaml

    info = trial.record.dataset
    assert info is not None
    metrics = [
        {"type": kind, "name": name, "value": value}
        for kind, name, value in (
            ("accuracy", "Test accuracy", _metric(trial, which, "test/accuracy")),
            ("loss", "Test loss (cross-entropy, nats)", _metric(trial, which, "test/loss")),
        )
        if value is not None
    ]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": printable(info.title), "type": printable(info.name)},
        "metrics": metrics,
    }
    header = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["fathomlab", "image-classification", "pytorch", "safetensors"],
        "datasets": [printable(info.name)],
        "metrics": ["accuracy"],
        "model-index": [{"name": printable(title), "results": [result]}],
    }
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=1_000)


def _origin(trial: LoadedTrial) -> str:
    title = escaped(trial.experiment)
    return f'the experiment "{title}" with fathomlab' if title else "an experiment with fathomlab"


def _training(trial: LoadedTrial, which: str) -> Iterator[tuple[str, str]]:
    """What the network was trained on, and how."""
    content, info = trial.record.content, trial.record.dataset
    assert info is not None
    training, data = content["training"], content["data"]
    assert isinstance(training, Mapping)
    assert isinstance(data, Mapping)
    yield "dataset", info.title
    yield "source", info.source or "not known"
    yield "license of the images", info.license or "not known"
    images, held_out = data.get("limit") or info.train_examples, data.get("validation_split")
    yield (
        "training images",
        f"{images:,}" + (f", of which {held_out:g}% are held out for validation" if held_out else ""),
    )
    yield "augmentation", ", ".join(map(str, data.get("augment") or ())) or "none"
    yield "epochs", str(training.get("epochs", "not known"))
    yield "weights", "after the last epoch" if which == "last" else "of the epoch with the best validation accuracy"
    if trial.condition:
        yield "condition", trial.condition
    if trial.role != "supervised":
        yield "role", trial.role
    if trial.seed is not None:
        yield "seed", str(trial.seed)
    yield "precision", trial.record.provenance.precision or "fp32"


def _results(trial: LoadedTrial, which: str) -> Iterator[tuple[str, str]]:
    """Accuracy, calibration, and cost. Calibration is measured for the weights after the last epoch."""
    outcome, values = trial.record.outcome, list(trial.accuracies.values())
    yield "accuracy", _percent(_metric(trial, which, "test/accuracy"))
    yield "loss (cross-entropy, nats)", _decimal(_metric(trial, which, "test/loss"))
    if len(values) > 1 and which == "last":
        spread = f"{_percent(fmean(values))} on average, standard deviation {100 * stdev(values):.2f} points"
        yield f"accuracy of {len(values)} seeds of this condition", spread
    if which == "last":
        yield "expected calibration error", _percent(outcome.calibration_error)
        for name, value in (
            ("Brier score", outcome.brier),
            ("temperature of temperature scaling (on validation images)", outcome.temperature),
            ("loss with this temperature (nats)", outcome.scaled_loss),
        ):
            if value is not None:
                yield name, _decimal(value)
        if outcome.scaled_calibration_error is not None:
            yield "expected calibration error with this temperature", _percent(outcome.scaled_calibration_error)
        if outcome.agreement is not None:
            yield "agreement with the teacher", _percent(outcome.agreement)
    yield "parameters", f"{trial.architecture.num_params:,}"
    yield "multiply-accumulates per image", f"{trial.architecture.macs:,}"
    if trial.record.speed is not None:
        speed = trial.record.speed
        latency = f"{1000 * speed.p50_seconds:.3g} ms (median), {1000 * speed.p95_seconds:.3g} ms (95th percentile)"
        yield "latency of one image, one CPU thread", latency


def _limitations(trial: LoadedTrial) -> Iterator[str]:
    info = trial.record.dataset
    assert info is not None
    seeds = len(trial.accuracies)
    yield "The network was trained to answer a research question, not for use in a product."
    yield f"It knows only the {info.classes} classes of {escaped(info.title)}, and always names one of them."
    yield "It was tested only on the test set of this dataset. Other images may give other accuracies."
    if seeds < 2:
        yield "These numbers are those of one network. Another random seed gives others."
    yield "No license has been chosen for the weights. Add `license:` to the header before you publish them."


def _metric(trial: LoadedTrial, which: str, name: str) -> Number | None:
    return trial.record.metrics.get(name if which == "last" else f"best/{name}")


def _percent(value: Number | None) -> str:
    return "not measured" if value is None else f"{100 * value:.2f}%"


def _decimal(value: Number | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {escaped(value)} |" for name, value in rows)]


def printable(text: str) -> str:
    """Return the text without control characters and halves of surrogate pairs."""
    return "".join(
        "�"
        if 0xD800 <= ord(char) < 0xE000 or (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160
        else char
        for char in text
    )


def escaped(text: Any) -> str:
    """Return one line of Markdown that shows the text, whatever is in it.

    Example:
        >>> escaped("<b>a|b</b>\\n# c")
        '\\\\<b\\\\>a\\\\|b\\\\</b\\\\> \\\\# c'
    """
    line = " ".join(printable(str(text)).split())
    line = line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 3] + "..."
    return re.sub(r"([\\`*_{}\[\]<>#|~&]|:(?=//))", r"\\\1", line)
