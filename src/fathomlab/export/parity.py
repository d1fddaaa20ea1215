"""Whether onnxruntime computes what the trial's module computes: logits in several batch sizes, and all predictions."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fathomlab.base.libraries import library
from fathomlab.export.trial import Module, Tensor, TestSet
from fathomlab.prepare.machine import cores

BATCHES = (1, 7, 256)
BATCHES_OF_SMALL_SIZES = 10  # the largest size reads the complete test set
QUIET = 4  # onnxruntime reports only fatal errors


@dataclass(frozen=True)
class Parity:
    """The result of a comparison.

    Attributes:
        images: Number of test images.
        largest: Size of a batch to the largest absolute difference of a logit.
        changed: Number of test images for which the file predicts another class.
        accuracy: Accuracy of the file on the test set (fraction).
    """

    images: int
    largest: Mapping[int, float] = field(default_factory=dict[int, float])
    changed: int = 0
    accuracy: float = 0.0

    @property
    def differences(self) -> dict[str, float]:
        """Largest absolute differences by the name of the batch size."""
        return {f"batch {size}": value for size, value in self.largest.items()}

    def problem(self, tolerance: float) -> str:
        """What differs; "" if nothing does. A difference that is not a number is a problem."""
        if not self.changed and all(value < tolerance for value in self.largest.values()):
            return ""
        largest = max(self.largest.values(), key=lambda value: (value != value, value))
        return (
            f"onnxruntime computes other logits than torch: largest difference {largest:.2e} (must be below "
            f"{tolerance:g}), other predictions for {self.changed:,} of {self.images:,} test images. "
            "If the logits are large, accept more with tolerance=NUMBER."
        )

    def sentence(self) -> str:
        """The result for people."""
        numbers = ", ".join(f"{value:.1e} (batch {size})" for size, value in self.largest.items())
        return (
            f"onnxruntime: largest difference of logits {numbers}; same predictions on all {self.images:,} test images, "
            f"accuracy {100 * self.accuracy:.2f}%"
        )


def compare(data: bytes, module: Module, test: TestSet, pixels: bool) -> Parity:
    """Compare an ONNX model with a module.

    The largest batch size reads the complete test set, the others its beginning. A test set that is smaller than a batch is
    repeated, so that every size is tested.

    Args:
        data: The ONNX file.
        module: Maps normalized images to logits.
        test: The test set.
        pixels: Whether the input of the file are pixels as stored.
    """
    torch, session = library("torch"), _session(data)
    count = len(test.images)
    inputs = (test.pixels if pixels else test.images.float()).contiguous()
    with torch.no_grad(), _all_cores():
        expected = torch.cat([module(images) for images in test.images.split(max(BATCHES))])
    largest: dict[int, float] = {}
    actual = expected
    for size in BATCHES:
        total = max(size, count if size == max(BATCHES) else min(count, size * BATCHES_OF_SMALL_SIZES))
        rows = torch.arange(total) % count
        bounds = pairwise([*range(0, total, size), total])
        parts = [logits_of(session, inputs[rows[start:stop]]) for start, stop in bounds]
        actual = torch.cat(parts)
        largest[size] = float((actual - expected[rows]).abs().max())
    predicted = actual[:count].argmax(1)
    changed = int((predicted != expected.argmax(1)).sum())
    return Parity(count, largest, changed, float((predicted == test.labels).double().mean()))


def _session(data: bytes) -> Any:
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = QUIET
    options.intra_op_num_threads, options.inter_op_num_threads = cores(), 1
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def logits_of(session: Any, inputs: Tensor) -> Tensor:
    """Run a file with one input and one output."""
    (name,) = (item.name for item in session.get_inputs())
    (logits,) = session.run(None, {name: inputs.numpy()})
    return library("torch").from_numpy(logits)


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    """Nothing else is computed here, so torch may use every core."""
    torch = library("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
