"""What PyTorch is and whether it computes, as JSON. Runs in a child process, because a broken installation can crash it."""

import json
import sys
import warnings
from typing import Any

MAX_ERROR = 1e-2  # relative; TF32 has about 1e-3


def report() -> dict[str, Any]:
    """The version, the devices, and the largest error of the self-test on each device."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    hip = torch.version.hip
    properties = [torch.cuda.get_device_properties(index) for index in range(count)]
    names = ["cpu", *(f"cuda:{index}" for index in range(count))]
    return {
        "version": str(torch.__version__),
        "platform": f"CUDA {torch.version.cuda}" if torch.version.cuda else hip and f"ROCm {hip}",
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "devices": [[item.name, item.total_memory, f"{item.major}.{item.minor}"] for item in properties],
        "warning": " ".join(str(item.message) for item in caught),
        "tests": {name: self_test(name) for name in names},
    }


def self_test(device: str) -> str:
    """Train one step of a small network on a device and compare it with 64-bit numbers; "" if they agree."""
    import torch

    def gradients(dtype: torch.dtype, where: str) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        shapes = ((8, 3, 9, 9), (4, 3, 3, 3), (5, 4 * 4 * 4))
        x, kernel, weight = (torch.randn(shape, generator=generator).to(where, dtype) for shape in shapes)
        kernel.requires_grad_()
        weight.requires_grad_()
        hidden = torch.nn.functional.conv2d(x, kernel, stride=2).relu().flatten(1)
        labels = torch.arange(8, device=where) % 5
        loss = torch.nn.functional.cross_entropy(hidden @ weight.T, labels)
        return [item.cpu().double() for item in torch.autograd.grad(loss, [kernel, weight])]

    try:
        pairs = zip(gradients(torch.float32, device), gradients(torch.float64, "cpu"), strict=True)
        errors = [float((result - expected).norm() / expected.norm()) for result, expected in pairs]
    except Exception as problem:  # an error of the driver, of a kernel, or of a library
        return f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else 'no message'}"
    wrong = [error for error in errors if not error <= MAX_ERROR]  # also NaN
    return f"gradients differ by {wrong[0]:.2g} from those in 64 bits" if wrong else ""


if __name__ == "__main__":
    result = report()
    sys.stdout.write(f"\n{json.dumps(result)}\n")
