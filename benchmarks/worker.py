"""One process of one system: prepares networks, then runs some steps for each line on standard input and prints the time.

python -m benchmarks.worker SYSTEM TASK REPLICAS THREADS NUMBER SETTING, where TASK is `train` or `evaluate` and SETTING is
`mlp WIDTH DEPTH` or `cnn WIDTH`
"""

import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TextIO

# System -> its module in `benchmarks.peers`, and the suffix of its functions there.
SYSTEMS: Mapping[str, tuple[str, str]] = {
    "fathomlab": ("fathomlab_pack", ""),
    "fathomlab reference": ("fathomlab_pack", "_reference"),
    "fathomlab fp32": ("fathomlab_pack", ""),
    "fathomlab bf16": ("fathomlab_pack", "_bf16"),
    "plain loop": ("plain", ""),
    "compiled plain loop": ("plain", "_compiled"),
    "plain fp32": ("plain_cnn", ""),
    "plain fp32 channels-last": ("plain_cnn", "_channels_last"),
    "plain bf16 channels-last": ("plain_cnn", "_bf16"),
    "compiled fp32 channels-last": ("plain_cnn", "_compiled"),
    "starter-style loop": ("starter_loop", ""),
    "Lightning": ("lightning_trainer", ""),
    "JAX vmap": ("jax_vmap", ""),
    "torch.func vmap": ("torch_func", ""),
    "compiled torch.func vmap": ("torch_func", "_compiled"),
    "fp32 matmul": ("yardsticks", "_matmul"),
    "bf16 matmul": ("yardsticks", "_matmul_bf16"),
    "memory stream": ("yardsticks", "_stream"),
}
# Task -> prefix of the function that prepares it, and of the function whose numbers must agree.
TASKS = {"train": ("prepare", "curve"), "evaluate": ("prepare_evaluation", "metrics")}


def peer_function(system: str, prefix: str) -> Callable[..., Any]:
    """Return the function of a system whose name starts with `prefix`."""
    module, suffix = SYSTEMS[system]
    return getattr(importlib.import_module(f"benchmarks.peers.{module}"), prefix + suffix)


def cpu_seconds() -> float:
    """CPU time (s) of all threads of this process, of its child processes that have ended, and of its data loaders."""
    total = time.process_time()
    if sys.platform == "linux":
        import resource

        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        total += ended.ru_utime + ended.ru_stime
        for child in multiprocessing.active_children():
            with suppress(OSError):  # it may have just ended
                total += time.clock_gettime(
                    ~(child.pid or 0) << 3 | 2
                )  # the CPU clock of a process, as Linux numbers it
    return total


def main() -> None:
    """Serve until standard input closes."""
    system, task = sys.argv[1:3]
    replicas, threads, number = map(int, sys.argv[3:6])
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if system == "JAX vmap" and threads == 1:  # JAX has no other way to limit its threads
        with suppress(AttributeError, OSError):
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})
    import torch

    from benchmarks.setting import from_words

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    started = time.perf_counter()
    go = peer_function(system, TASKS[task][0])(from_words(sys.argv[6:]), replicas)
    go(1)
    _answer(answers, {"seconds": time.perf_counter() - started, "cpu_from_start": cpu_seconds()})
    for line in sys.stdin:
        steps = int(line)
        wall, cpu = time.perf_counter(), cpu_seconds()
        done = go(steps) or steps  # a system that computes several steps in one call may do more
        _answer(answers, {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu, "steps": done})
    os._exit(0)


def _answer(answers: TextIO, message: dict[str, float]) -> None:
    print(json.dumps(message), file=answers, flush=True)


if __name__ == "__main__":
    main()
