"""How near a step is to what the machine can do: its share of the matmul rate and of the memory bandwidth of the same run."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.part import table
from benchmarks.peers.yardsticks import FLOPS, STREAM_BYTES
from benchmarks.race import Course, Entry, in_rounds
from benchmarks.setting import Setting

AMOUNTS = {"fp32 matmul": FLOPS, "bf16 matmul": FLOPS, "memory stream": STREAM_BYTES}


def entries(setting: Setting, names: Iterable[str]) -> dict[str, Entry]:
    """Return the yardsticks with every core busy."""
    return {name: Entry(name, setting, 2, 1) for name in names}


def rates(times: Sequence[float], amount: float) -> list[float]:
    """Return billions per second of CPU time, by round.

    Args:
        times: CPU time (ms) per step and network.
        amount: Operations or bytes per step and network.
    """
    return [amount / time / 1e6 for time in times]


def position(
    setting: Setting, times: Sequence[float], yardsticks: Mapping[str, Entry], course: Course
) -> dict[str, Any]:
    """Return the rates (GFLOP/s and GB/s per core) of a system and of the yardsticks, and the shares within each round.

    Args:
        setting: The network.
        times: CPU time (ms) per step and network of the system, by round.
        yardsticks: Entries by name.
        course: The race with the yardsticks.
    """
    gflops, gbytes = rates(times, setting.step_flops), rates(times, setting.step_bytes)
    result: dict[str, Any] = {"gflops": median(gflops), "gbytes": median(gbytes), "peaks": {}, "shares": {}}
    for name, entry in yardsticks.items():
        peaks = rates(course.cpu[entry.label], AMOUNTS[name])
        result["peaks"][name] = median(peaks)
        result["shares"][name] = in_rounds(gbytes if name == "memory stream" else gflops, peaks)
    return result


def text(positions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table with one row per position."""
    names = list(next(iter(positions.values()))["peaks"])
    lines = [
        "Rates per core and second of CPU time. Operations are 6 x multiply-accumulates, without the gradient of the images.",
        "Bytes are counted as if no tensor stayed in a cache: 32 per parameter (gradient, weight, and two moments, each read",
        "and written), 24 per unit and image (output before and after normalization, and gradient), and 13 per pixel. Shares",
        "are of a product of 2048 x 2048 matrices and of a stream a = b + 3 c of the same run. A share of the stream above",
        "100% says that tensors do stay in a cache.",
        "",
    ]
    rows = []
    for title, values in positions.items():
        shares = [f"{100 * values['shares'][name]:.0f}%" for name in names]
        peaks = [f"{values['peaks'][name]:.0f}" for name in names]
        rows.append([title, f"{values['gflops']:.0f}", f"{values['gbytes']:.1f}", *shares, *peaks])
    units = {name: "GB/s" if name == "memory stream" else "GFLOP/s" for name in names}
    head = [
        "",
        "GFLOP/s",
        "GB/s",
        *(f"share of {name}" for name in names),
        *(f"{name}, {units[name]}" for name in names),
    ]
    return lines + table(head, rows)
