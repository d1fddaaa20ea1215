"""Checks what prevents training on this computer. No check can stop the others, whatever is broken."""

from collections.abc import Iterator
from pathlib import Path

from fathomlab.api.doctor import compute, storage, system
from fathomlab.api.doctor.checks import Check, contained


def examine(root: Path, encoding: str | None, is_terminal: bool) -> Iterator[Check]:
    """Check this computer, topic by topic.

    Args:
        root: The results directory, which need not exist.
        encoding: Encoding of standard output.
        is_terminal: Whether standard output is a terminal.
    """
    wait = compute.start_torch_probe()  # takes longest, so that it runs during the other checks
    yield from contained(system.SYSTEM, "versions", system.software)
    yield from contained(system.SYSTEM, "packages", lambda: storage.required_packages(storage.requirements()))
    yield from contained(system.SYSTEM, "processor", system.processor)
    yield from contained(system.SYSTEM, "memory", system.memory)
    yield from contained(system.SYSTEM, "output", lambda: system.terminal(encoding, is_terminal))
    yield from contained(system.SYSTEM, "variables", system.variables)
    others = [
        *contained(storage.DATA, "datasets", storage.datasets),
        *contained(storage.RESULTS, "directory", lambda: storage.results_directory(root)),
        *contained(storage.EXTRAS, "packages", lambda: storage.extras(storage.requirements())),
    ]
    try:
        report = wait()
    except Exception as error:  # output that is not a report
        report = compute.TorchReport(failure=f"{type(error).__name__} in its report")
    yield from contained(compute.COMPUTE, "PyTorch", lambda: compute.torch_checks(report))
    yield from contained(compute.COMPUTE, "GPU", lambda: compute.gpu_checks(report, compute.nvidia_gpus()))
    yield from contained(compute.COMPUTE, "compiler", compute.compiler)
    device = "cuda" if report.devices else "cpu"
    yield from contained(compute.COMPUTE, "backends", lambda: compute.backends(device))
    yield from others


__all__ = ["Check", "examine"]
