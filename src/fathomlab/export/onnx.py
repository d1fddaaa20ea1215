"""`fathomlab export onnx`: one trained network as an ONNX file, which is written only if onnxruntime computes the same."""

import contextlib
import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

from annotated_types import Interval

from fathomlab.base.errors import UserError
from fathomlab.base.libraries import library
from fathomlab.export.files import check_targets, open_target
from fathomlab.export.parity import Parity, compare
from fathomlab.export.trial import Exported, LoadedTrial, Module, TestSet, plain_network

INPUT, OUTPUT = "images", "logits"
MAX_BYTES = 2_000_000_000  # of an ONNX file without external data


@final
@dataclass(frozen=True)
class Onnx:
    """The network of one trial as an ONNX file in float32, by default TRIAL.onnx.

    The input `images` has the shape (batch, channels, height, width), with any number of images, and the output `logits` the
    shape (batch, classes). The file is written only if onnxruntime returns the same as the trial's module: logits in batches of
    1, 7, and 256 images, and the predicted class of every test image.

    Attributes:
        overwrite: Whether an existing file may be replaced.
        preprocess: true: the input is an image as stored, uint8 from 0 to 255 (float32 for datasets of float32 images), and the
            graph normalizes it. false: the input is float32 and must be normalized as in training; the metadata contain mean and
            standard deviation.
        which: `last` for the weights after the last epoch, `best` for those of the best validation epoch.
        opset: Version of ONNX's operators.
        tolerance: Largest accepted difference of a logit. Networks with large logits may need more.
    """

    overwrite: bool = False
    preprocess: bool = False
    which: Literal["last", "best"] = "last"
    opset: Annotated[int, Interval(ge=18, le=23)] = 18
    tolerance: Annotated[float, Interval(gt=0, le=1)] = 1e-4

    extra: ClassVar[str] = "onnx"
    subject: ClassVar[Literal["trial"]] = "trial"

    def export(self, trial: LoadedTrial, target: Path | None) -> Exported:
        """Write the file; raises as `TrialExporter.export` does."""
        for name in ("onnx", "onnxscript", "onnxruntime"):
            library(name)
        path = target or Path(f"{trial.name}.onnx")
        check_targets([path], self.overwrite)
        if 4 * trial.architecture.num_params > MAX_BYTES:
            raise UserError("too-large", f"trial {trial.name}: an ONNX file holds at most 2 GB of parameters.")
        module, test = trial.module(self.which), trial.test_set()
        network = module if trial.architecture.opaque else plain_network(trial, module)
        model = _converted(network, test, self, trial)
        _add_metadata(model, trial, self)
        data = model.SerializeToString()
        parity = compare(data, module, test, self.preprocess)
        if problem := parity.problem(self.tolerance):
            raise UserError("export-mismatch", f"trial {trial.name}: {problem} Nothing was written.")
        with open_target(path) as file:
            file.write(data)
        return Exported((path,), _notes(data, model, parity, trial), len(data), parity.differences)


def _converted(network: Module, test: TestSet, options: Onnx, trial: LoadedTrial) -> Any:
    """The network as an ONNX model, without where its code was."""
    torch = library("torch")
    example = (test.pixels if options.preprocess else test.images.float())[:2]
    module = _preprocessed(network, test) if options.preprocess else copy.deepcopy(network).float()
    try:
        with _silent():
            program = torch.onnx.export(
                module.eval(),
                (example.expand(2, *example.shape[1:]).contiguous(),),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: "batch"},),
                opset_version=options.opset,
                verbose=False,
            )
            model = program.model_proto
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # torch raises many types
        reason = next(iter(str(error.__cause__ or error).splitlines()), "") or type(error).__name__
        text = f"trial {trial.name}: torch cannot export this network with opset {options.opset}: {reason[:300]}"
        raise UserError("not-exportable", text) from None
    _clean(model)
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        text = f"trial {trial.name}: the module of the plugin computes with a fixed number of images."
        raise UserError("not-exportable", f"{text} Write its forward pass for any number.")
    return model


def _preprocessed(network: Module, test: TestSet) -> Module:
    """The network in float32 behind the normalization of images as they are stored."""
    torch = library("torch")

    class Preprocessed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(network).float()
            self.register_buffer("mean", test.mean.float())
            self.register_buffer("scale", test.scale.float())

        def forward(self, pixels: Any) -> Any:
            return self.network((pixels.float() - self.mean) * self.scale)

    return Preprocessed()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """No warnings, log lines, or prints of torch's exporter, which are about its code."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(), open(os.devnull, "w") as null:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            with contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
                yield
        finally:
            logging.disable(disabled)


def _clean(model: Any) -> None:
    """Remove what torch adds about the Python code: paths of files, and names of its classes."""
    graph = model.graph
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph, model):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _add_metadata(model: Any, trial: LoadedTrial, options: Onnx) -> None:
    """Add what a user of the file must know; every value is text."""
    info, record = trial.record.dataset, trial.record
    assert info is not None
    model.producer_name, model.producer_version = "fathomlab", ""
    accuracy = record.metrics.get("test/accuracy" if options.which == "last" else "best/test/accuracy")
    values = {
        "trial": record.trial,
        "weights": options.which,
        "dataset": info.name,
        "classes": json.dumps(info.class_names or tuple(map(str, range(info.classes)))),
        "input": _input(options, trial),
        "mean": json.dumps(info.mean),
        "std": json.dumps(info.std),
        "test_accuracy": json.dumps(accuracy),
    }
    for key, value in values.items():
        model.metadata_props.add(key=key, value=value.encode(errors="replace").decode())


def _input(options: Onnx, trial: LoadedTrial) -> str:
    """What the input must contain."""
    info = trial.record.dataset
    assert info is not None
    shape = f"(batch, {info.channels}, {info.height}, {info.width})"
    if not options.preprocess:
        scaled = "(pixel / 255 - mean) / std" if info.is_normalized else "as stored"
        return f"float32 {shape}, {scaled}"
    return f"uint8 {shape}, 0 to 255" if info.is_normalized else f"float32 {shape}, as stored"


def _notes(data: bytes, model: Any, parity: Parity, trial: LoadedTrial) -> tuple[str, ...]:
    properties = {item.key: item.value for item in model.metadata_props}
    bf16 = trial.record.provenance.precision == "bf16"
    return (
        f"input {INPUT}: {properties['input']}; output {OUTPUT}: float32 (batch, {trial.architecture.classes})",
        f"size: {len(data):,} bytes, opset {model.opset_import[0].version}",
        parity.sentence(),
        *(["The trial was trained with products in bf16; the file computes in float32."] if bf16 else []),
    )
