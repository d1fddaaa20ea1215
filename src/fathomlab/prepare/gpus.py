"""The NVIDIA GPUs that training can use, counted without torch, and which of them a worker uses."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from fathomlab.base.errors import UserError
from fathomlab.prepare.machine import guess_device

DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
QUERY = ("--query-gpu=uuid,name,memory.total,mig.mode.current", "--format=csv,noheader,nounits")
TIMEOUT_SECONDS = 10
DEVICES = re.compile(r"auto|cpu|cuda(:(0|[1-9][0-9]{0,3}))?")


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: Its name; "" if it is not known.
        bytes: Its memory; None if it is not known.
        uuid: `GPU-...`; "" if it is not known.
        divided: Whether it is divided into several devices (MIG). CUDA uses only one of them per process.
    """

    name: str = ""
    bytes: int | None = None
    uuid: str = ""
    divided: bool = False


def check_device(name: str) -> None:
    """Check that `--device` has a value that it can have on some computer.

    Raises:
        UserError: If it does not.
    """
    if not DEVICES.fullmatch(name):
        text = f"--device must be auto, cpu, cuda, or cuda:N (such as cuda:1), got {name!r}."
        raise UserError("invalid-option", text)


def gpu_count(device: str) -> int:
    """Number of GPUs that a value of `--device` trains on: 0 on a CPU, 1 for `cuda:N`, and all for `cuda` and `auto`.

    GPUs of different kinds are not used together: their results differ, and a pack resumes only on a GPU of the same name.
    """
    if guess_device(device) != "cuda":
        return 0
    gpus = () if ":" in device else visible_gpus()
    return len(gpus) if len({gpu.name for gpu in gpus}) == 1 else 1


def worker_device(device: str, slot: int) -> str:
    """The device of a worker: one of several GPUs, in turn. A single one has no number.

    Args:
        device: The value of `--device`.
        slot: Number of the worker, from 0.

    Returns:
        `cuda:N`; for `auto` it is `auto:N`, which is the CPU if PyTorch cannot use the GPUs.
    """
    count = gpu_count(device)
    return f"{device}:{slot % count}" if count > 1 else device


def gpu_bytes() -> int | None:
    """Memory of the smallest visible GPU (bytes); None if it is not known."""
    sizes = [gpu.bytes for gpu in visible_gpus()]
    known = [size for size in sizes if size]
    return min(known) if known and len(known) == len(sizes) else None


def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` selects. CUDA ignores what follows an entry that it does not know."""
    listed, variable = listed_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if variable is None:
        gpus = list(listed)
    else:
        listed, gpus = _in_cuda_order(listed), []
        for entry in (text.strip() for text in variable.split(",")):
            gpu = _selected(entry, listed)
            if gpu is None:
                break
            gpus.append(gpu)
    if any(gpu.divided for gpu in gpus):
        return (Gpu(gpus[0].name, divided=True),)
    known = [gpu.uuid for gpu in gpus if gpu.uuid]
    return tuple(gpus) if len(set(known)) == len(known) else ()  # CUDA refuses duplicates


def _selected(entry: str, listed: Sequence[Gpu]) -> Gpu | None:
    """The GPU of an entry of `CUDA_VISIBLE_DEVICES`: an index, the start of a UUID, or a part of a divided GPU."""
    if entry.startswith("MIG-"):
        return Gpu(divided=True)
    if re.fullmatch("[0-9]+", entry):
        if not listed:  # neither the tool nor the driver lists them
            return Gpu()
        return listed[int(entry)] if int(entry) < len(listed) else None
    matches = [gpu for gpu in listed if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _in_cuda_order(listed: Sequence[Gpu]) -> Sequence[Gpu]:
    """The GPUs, with names that indicate what an index selects.

    CUDA counts the fastest GPU first unless `CUDA_DEVICE_ORDER=PCI_BUS_ID` is set, but the driver lists them by their bus. In a
    computer with different GPUs, it is therefore not known here which ones have the same name.
    """
    different = len({gpu.name for gpu in listed}) > 1
    if not different or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return listed
    if all(not text.strip().isdigit() for text in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")):
        return listed  # UUIDs
    smallest = None if any(gpu.bytes is None for gpu in listed) else min(gpu.bytes or 0 for gpu in listed)
    return [replace(gpu, name=f"unknown {index}", bytes=smallest) for index, gpu in enumerate(listed)]


@lru_cache(maxsize=1)
def listed_gpus() -> tuple[Gpu, ...]:
    """The GPUs that nvidia-smi lists, or else those of the driver, whose memory is not known."""
    if tool := shutil.which("nvidia-smi"):
        try:
            done = subprocess.run(
                [tool, *QUERY], capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.SubprocessError):
            done = None
        if done is not None and done.returncode == 0 and (gpus := parse_gpus(done.stdout)):
            return gpus
    return driver_gpus(DRIVER_FOLDER)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The GPUs in the output of nvidia-smi for `QUERY`: one line each, with the memory in MiB."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return tuple(
        Gpu(name, int(size) * 2**20 if size.isdigit() else None, uuid, mig == "Enabled")
        for uuid, name, size, mig in (row for row in rows if len(row) == 4 and row[0].startswith("GPU-"))
    )


def driver_gpus(folder: Path) -> tuple[Gpu, ...]:
    """The GPUs in a directory of the driver, which has a directory per GPU with a file `information`."""
    gpus: list[Gpu] = []
    try:
        files = sorted(folder.glob("*/information"))
        for file in files:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            pairs = (line.partition(":") for line in lines)
            facts = {key.strip(): value.strip() for key, _, value in pairs}
            gpus.append(Gpu(facts.get("Model", ""), None, facts.get("GPU UUID", "")))
    except OSError:
        return ()
    return tuple(gpus)
