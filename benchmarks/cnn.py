"""The convolutional net 1-1-1-1 at 64 channels: fp32 and bf16 against plain loops, and against the matmul peak."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.equivalence import differences
from benchmarks.part import Asked, Target, table
from benchmarks.peers.matmul import FLOPS
from benchmarks.race import Entry, in_rounds, race
from benchmarks.setting import BATCH, ConvCell

TITLE = "Convolutional net"
LAYOUTS = {"1 process": 1, "2 processes": 2}
PLAIN, PLAIN_LAST, OWN, OWN_BF16 = "plain fp32", "plain fp32 channels-last", "fathomlab fp32", "fathomlab bf16"
SYSTEMS = (OWN, OWN_BF16, PLAIN, PLAIN_LAST)
PEAKS = {"fp32": "fp32 matmul", "bf16": "bf16 matmul"}
BF16_DIFFERENCE = 0.02


def measure(asked: Asked) -> dict[str, Any]:
    """Both layouts, one thread per process, after three equal losses at an eighth of the width."""
    with machine.recorded() as about:
        same = differences(SYSTEMS, ConvCell(8), 3, {OWN_BF16: BF16_DIFFERENCE})
        cell = ConvCell()
        layouts = {name: _layout(cell, processes, asked.rounds) for name, processes in LAYOUTS.items()}
    return {"about": about, "network": cell.name, "flops": cell.step_flops, "equivalence": same, "layouts": layouts}


def summary(rounds: Mapping[str, list[float]], flops: float, processes: int) -> dict[str, Any]:
    """Seconds, ratios and rates from milliseconds per step of each process, by system and round.

    Ratios are the plain loop's time over a system's, so that more is faster; shares of a peak are formed in each round.
    """
    rates = {system: [processes * flops / cost / 1e6 for cost in rounds[system]] for system in SYSTEMS}
    peaks = {name: [processes * FLOPS / cost / 1e6 for cost in rounds[system]] for name, system in PEAKS.items()}
    return {
        "rounds": dict(rounds),
        "seconds": {system: median(rounds[system]) / 1e3 for system in SYSTEMS},
        "ratios": {system: in_rounds(rounds[PLAIN], rounds[system]) for system in SYSTEMS},
        "to_channels_last": {system: in_rounds(rounds[PLAIN_LAST], rounds[system]) for system in SYSTEMS},
        "gflops": {system: median(values) for system, values in rates.items()},
        "peaks": {name: median(values) for name, values in peaks.items()},
        "shares": {
            name: {system: in_rounds(rates[system], values) for system in SYSTEMS} for name, values in peaks.items()
        },
    }


def text(found: Mapping[str, Any]) -> list[str]:
    """A table of both layouts."""
    gflop = found["flops"] / 1e9
    lines = [
        f"{found['network']} without shortcuts, the stem with its max-pool, batch {BATCH}, images of 3 x 32 x 32; one",
        f"thread per process. A step is {gflop:.0f} GFLOP by direct counting (6 x multiply-accumulates, the stem's gradient",
        "for its input left out); rates are of all processes together.",
        "",
    ]
    rows = []
    for layout, of in found["layouts"].items():
        for system in SYSTEMS:
            shares = [f"{100 * of['shares'][name][system]:.0f}%" for name in PEAKS]
            speed = [f"{of['seconds'][system]:.3f}", f"{of['ratios'][system]:.2f}x", f"{of['gflops'][system]:.0f}"]
            rows.append([layout, system, *speed, *shares])
        rows += [
            [layout, f"{name} matmul, 2048^3", "", "", f"{peak:.0f}", "", ""] for name, peak in of["peaks"].items()
        ]
    head = [
        "layout",
        "system",
        "s per step",
        "ratio to plain fp32",
        "GFLOP/s",
        *(f"share of {name} matmul" for name in PEAKS),
    ]
    lines += table(head, rows)
    exact = max(value for system, value in found["equivalence"].items() if system != OWN_BF16)
    lines.append(
        f"Before, at 8 channels: 3 float64 losses of every system differ from fathomlab's by at most {exact:.1g}"
    )
    lines.append(f"(relative); those of bf16 by {found['equivalence'][OWN_BF16]:.1g}.")
    return [*lines, ""]


def targets(found: Mapping[str, Any]) -> list[Target]:
    """Three a layout."""
    made = []
    for layout, of in found["layouts"].items():
        made += [
            Target(f"CNN bf16 against the plain fp32 loop, {layout}", 2.0, of["ratios"][OWN_BF16]),
            Target(f"CNN bf16, share of the bf16 matmul peak, {layout}", 0.85, of["shares"]["bf16"][OWN_BF16], "%"),
            Target(f"CNN fp32 against the plain channels-last loop, {layout}", 1.0, of["to_channels_last"][OWN]),
        ]
    return made


def _layout(cell: ConvCell, processes: int, rounds: int) -> dict[str, Any]:
    entries = [Entry(system, cell, processes, 1) for system in (*SYSTEMS, *PEAKS.values())]
    course = race(entries, rounds)
    found = summary({entry.system: course.rounds[entry.label] for entry in entries}, cell.step_flops, processes)
    print(f"{processes} x 1 threads", {name: round(value, 3) for name, value in found["seconds"].items()}, flush=True)
    return found | {"first_seconds": course.first_seconds}
