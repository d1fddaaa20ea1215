"""One process of one system: prepares a network, then trains some steps at each line on standard input and says how long.

python -m benchmarks.worker SYSTEM REPLICAS THREADS NUMBER SETTING, where SETTING is `mlp WIDTH DEPTH` or `cnn WIDTH`
"""

import importlib
import json
import os
import sys
import time
from contextlib import suppress

SYSTEMS = {
    "fathomlab": ("benchmarks.peers.own", "prepare"),
    "fathomlab native": ("benchmarks.peers.own", "prepare_native"),
    "fathomlab fp32": ("benchmarks.peers.own", "prepare"),
    "fathomlab bf16": ("benchmarks.peers.own", "prepare_bf16"),
    "plain loop": ("benchmarks.peers.plain", "prepare"),
    "plain fp32": ("benchmarks.peers.plain_cnn", "prepare"),
    "plain fp32 channels-last": ("benchmarks.peers.plain_cnn", "prepare_channels_last"),
    "starter-style loop": ("benchmarks.peers.starter_loop", "prepare"),
    "Lightning": ("benchmarks.peers.lightning_trainer", "prepare"),
    "JAX vmap": ("benchmarks.peers.jax_vmap", "prepare"),
    "fp32 matmul": ("benchmarks.peers.matmul", "prepare"),
    "bf16 matmul": ("benchmarks.peers.matmul", "prepare_bf16"),
}


def main() -> None:
    """Serve until standard input closes."""
    system, replicas, threads, number = sys.argv[1], *map(int, sys.argv[2:5])
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if system == "JAX vmap" and threads == 1:
        with suppress(AttributeError, OSError):
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})
    import torch

    from benchmarks.setting import from_words

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    module, function = SYSTEMS[system]
    started = time.perf_counter()
    go = getattr(importlib.import_module(module), function)(from_words(sys.argv[5:]), replicas)
    go(1)
    first = time.perf_counter() - started
    go(3)
    print(json.dumps({"first_seconds": first}), file=answers, flush=True)
    for line in sys.stdin:
        steps = int(line)
        started = time.perf_counter()
        go(steps)
        print(json.dumps({"seconds": time.perf_counter() - started, "steps": steps}), file=answers, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
