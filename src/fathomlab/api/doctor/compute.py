"""What computes: PyTorch, GPUs, the C++ compiler, and the backends."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fathomlab.api.doctor.checks import Check
from fathomlab.base.errors import UserError

COMPUTE = "Computing"
PROBE = Path(__file__).with_name("torch_probe.py")
SAMPLES = {"MLP": "1_2", "CNN": "1_3"}  # bundled experiments, to try the backends with
TIMEOUT_SECONDS = 60
SELF_TEST_REMEDY = "Reinstall PyTorch: pip install --force-reinstall torch"


@dataclass(frozen=True)
class TorchReport:
    """What the child process with PyTorch found.

    Attributes:
        version: Version with the build, such as 2.10.0+cpu.
        platform: What it is built for, such as CUDA 13.0; None for a CPU build.
        kernels: Vector kernels that it selects.
        devices: Name, memory (bytes), and compute capability of each GPU.
        warning: What it says when it looks for GPUs.
        tests: Device to what is wrong in the self-test; "" if nothing.
        failure: Why there is no report; "" if there is one.
    """

    version: str = ""
    platform: str | None = None
    kernels: str = ""
    devices: tuple[tuple[str, int, str], ...] = ()
    warning: str = ""
    tests: Mapping[str, str] = field(default_factory=dict[str, str])
    failure: str = ""


def start_torch_probe() -> Callable[[], TorchReport]:
    """Start the child process; returns the function that waits for its report."""
    command = [sys.executable, "-P", str(PROBE)]
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, errors="replace")
    except OSError as error:
        failure = TorchReport(failure=f"no process can be started ({error.strerror or error})")
        return lambda: failure

    def wait() -> TorchReport:
        try:
            out, err = child.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return TorchReport(failure=f"no answer within {TIMEOUT_SECONDS} s")
        return parse_report(child.returncode, out, err)

    return wait


def parse_report(status: int, out: str, err: str) -> TorchReport:
    """The report in the last line of the child's output, or why there is none."""
    if status:
        lines = err.strip().splitlines()
        end = f"signal {-status}" if status < 0 else f"exit status {status}"
        return TorchReport(failure=lines[-1][:300] if lines and status > 0 else f"its process ended with {end}")
    return TorchReport(**json.loads(out.strip().splitlines()[-1]))


def torch_checks(report: TorchReport) -> Iterator[Check]:
    """PyTorch and the self-test on each device."""
    if report.failure:
        missing = "No module named 'torch'" in report.failure
        remedy = "Install PyTorch: pip install torch" if missing else SELF_TEST_REMEDY
        yield Check(COMPUTE, "PyTorch", f"cannot be imported: {report.failure}", "problem", remedy)
        return
    build = f"build for {report.platform}" if report.platform else "CPU build"
    yield Check(COMPUTE, "PyTorch", f"{report.version} ({build}, {report.kernels} kernels)")
    for device, fault in report.tests.items():
        value = f"{device}: {fault or 'one training step is correct'}"
        working = next((name for name, text in report.tests.items() if name != "cpu" and not text), "cpu")
        other = f"Use --device {working}, or update the driver."
        remedy = "" if not fault else SELF_TEST_REMEDY if device == "cpu" else other
        yield Check(COMPUTE, "self-test", value, "problem" if fault else "ok", remedy)


def gpu_checks(report: TorchReport, nvidia: str) -> Iterator[Check]:
    """The GPUs that PyTorch sees, or why it sees none.

    Args:
        report: What PyTorch reports.
        nvidia: The GPUs that the driver reports; "" if there are none.
    """
    for index, (name, size, capability) in enumerate(report.devices):
        number = f"cuda:{index}: " if len(report.devices) > 1 else ""
        driver = f", driver {nvidia.rsplit(', ', 1)[-1]}" if ", " in nvidia else ""
        yield Check(COMPUTE, "GPU", f"{number}{name}, {size / 1e9:.0f} GB, compute capability {capability}{driver}")
    if report.devices or report.failure:
        return
    if not nvidia:
        yield Check(COMPUTE, "GPU", "none found; training uses the CPU")
    elif not report.platform:
        text = f"{nvidia}, but PyTorch is a CPU build"
        remedy = "Install the build for your CUDA version, as pytorch.org shows, or train on the CPU."
        yield Check(COMPUTE, "GPU", text, "note", remedy)
    elif os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        yield Check(COMPUTE, "GPU", f"{nvidia}, hidden", "note", "Unset CUDA_VISIBLE_DEVICES to use it.")
    else:
        text = f"{nvidia}, but PyTorch cannot use it{': ' if report.warning else ''}{report.warning[:300]}"
        remedy = f"Update the driver, or install a build for an older version than {report.platform}."
        yield Check(COMPUTE, "GPU", text, "note", remedy)


def nvidia_gpus() -> str:
    """Name and driver of the GPUs that the driver reports; "" if there are none."""
    if tool := shutil.which("nvidia-smi"):
        query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.SubprocessError):
            done = None
        if done is not None and done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip().splitlines()[0]
    return "NVIDIA device" if os.path.exists("/dev/nvidiactl") else ""


def compiler() -> Iterator[Check]:
    """The C++ compiler, which the native backend needs. Its libraries are built, as the first run would do it."""
    from fathomlab.engine.backends import maps
    from fathomlab.engine.backends.native_library import find_compiler, load_library

    if path := find_compiler():
        try:
            load_library("float")
            load_library("float", maps.SOURCE)
        except UserError as error:
            remedy = "Training uses the backend reference instead. Repair the compiler, or set CXX to another one."
            yield Check(COMPUTE, "compiler", f"{path} does not work: backend native: {error}", "note", remedy)
        else:
            yield Check(COMPUTE, "compiler", path)
    elif name := os.environ.get("CXX"):
        yield Check(
            COMPUTE, "compiler", f"CXX names no command: {name}", "note", "Set CXX to a command without options."
        )
    else:
        remedy = "Optional. Install one, such as the package g++: networks then train faster on the processor."
        yield Check(COMPUTE, "compiler", "no C++ compiler", "note", remedy)


def backends(device: str) -> Iterator[Check]:
    """What each backend can train on a device, and what `run.backend=auto` chooses, for two bundled experiments."""
    from fathomlab.api.planning import load
    from fathomlab.engine.backends import BACKENDS
    from fathomlab.prepare.backends import choose_backend
    from fathomlab.prepare.machine import describe_machine
    from fathomlab.store.inventory import Inventory

    machine, nothing = describe_machine(device), Inventory(Path(), {}, {})
    packs = {name: load(file, quick=True).conditions[0].trials for name, file in SAMPLES.items()}
    chosen = {name: choose_backend(pack, nothing, "auto", machine) for name, pack in packs.items()}
    for key, backend in BACKENDS.items():
        refusals = {name: backend.refuses([item.recipe for item in pack], machine) for name, pack in packs.items()}
        states = {name: f"not available: {refusal}" if refusal else "available" for name, refusal in refusals.items()}
        texts = [f"{name}: {state}" for name, state in states.items()]
        same = len(set(states.values())) == 1
        yield Check(COMPUTE, f"backend {key}", next(iter(states.values())) if same else "; ".join(texts))
    yield Check(
        COMPUTE, "backend auto", ", ".join(f"{name} (such as {SAMPLES[name]}): {key}" for name, key in chosen.items())
    )
