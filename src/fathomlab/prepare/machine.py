"""Where a trial's numbers come from: versions, hardware, and commit."""

import contextlib
import os
import platform
import subprocess
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version

from fathomlab.base.processor import cores
from fathomlab.engine.backends import Machine
from fathomlab.engine.backends.native_library import find_compiler
from fathomlab.store.provenance import Commit, Hardware, Provenance

CPUINFO = "/proc/cpuinfo"
MEMINFO = "/proc/meminfo"
CGROUP = "/sys/fs/cgroup"
VECTOR_FLAGS = ("sse4", "avx", "fma", "f16c", "amx", "neon", "asimd", "sve", "sme", "bf16", "i8mm", "fphp", "fp16")


def collect_provenance() -> Provenance:
    """Provenance that is the same for every trial of this process."""
    return Provenance(versions=versions(), hardware=hardware(), git=commit())


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python, fathomlab, and the libraries that compute."""
    result = {"python": platform.python_version()}
    for name in ("fathomlab", "torch", "numpy"):
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            result[name] = "unknown"
    return result


@lru_cache(maxsize=1)
def hardware() -> Hardware:
    """The processor's name and the cores that this process may use."""
    return Hardware(_cpuinfo("model name") or platform.processor() or platform.machine(), cores())


@lru_cache(maxsize=1)
def instructions() -> str:
    """The instruction sets that kernels are selected by, separated by spaces; the processor's model if they are not listed."""
    flags = f"{_cpuinfo('flags')} {_cpuinfo('Features')}".split()  # x86, Arm
    relevant = sorted({flag for flag in flags if flag.startswith(VECTOR_FLAGS)})
    return " ".join([platform.machine(), *(relevant or [platform.processor()])]).strip()


def _cpuinfo(key: str) -> str:
    """The value of `key` for the first processor in Linux's list; empty on other systems."""
    with contextlib.suppress(OSError), open(CPUINFO, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


@lru_cache(maxsize=1)
def memory() -> int:
    """Bytes of memory that this process may use: the machine's memory, or the limit of its control group."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 * 2**30
    limits = [pages]
    for path in (f"{CGROUP}/memory.max", f"{CGROUP}/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            limits.append(int(file.read()))
    return min(limits)


def available_memory() -> int:
    """Bytes of memory that processes can still get without swapping, as far as the system tells."""
    amounts = [memory()]
    with contextlib.suppress(OSError, ValueError, StopIteration), open(MEMINFO, encoding="ascii") as file:
        amounts.append(1024 * next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError), open(f"{CGROUP}/memory.current", encoding="ascii") as file:
        amounts.append(memory() - int(file.read()) + _cached_file_bytes())
    return max(0, min(amounts))


def _cached_file_bytes() -> int:
    """Bytes of cached files in the control group, which the system frees when processes need memory."""
    with open(f"{CGROUP}/memory.stat", encoding="ascii") as file:
        amounts = dict(line.split() for line in file)
    return int(amounts.get("active_file", 0)) + int(amounts.get("inactive_file", 0))


def guess_device(name: str) -> str:
    """Guess the kind of device that `--device` selects, without importing torch: cpu or cuda."""
    if not name.startswith("auto"):
        return name.partition(":")[0]
    supported = not versions()["torch"].endswith("+cpu") and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")
    return "cuda" if supported and os.path.exists("/dev/nvidiactl") else "cpu"


def describe_machine(device: str) -> Machine:
    """Describe this machine for backends; `device` is cpu or cuda."""
    return Machine(device, has_compiler())


def has_compiler() -> bool:
    """Whether a C++ compiler is installed."""
    return find_compiler() is not None


@lru_cache(maxsize=1)
def commit() -> Commit:
    """The commit of fathomlab, whether files differ from it, and the SHA-256 of that difference."""
    head, difference = _git("rev-parse", "HEAD").decode().strip(), patch()
    return Commit(head or None, bool(difference), sha256(difference).hexdigest() if difference else None)


@lru_cache(maxsize=1)
def patch() -> bytes:
    """The difference between the tracked files and the commit of fathomlab, in any encoding; empty if there is none."""
    return _git("diff", "HEAD")


def _git(*args: str) -> bytes:
    directory = os.path.dirname(os.path.abspath(__file__))
    try:
        done = subprocess.run(["git", *args], cwd=directory, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return b""
    return done.stdout if done.returncode == 0 else b""
