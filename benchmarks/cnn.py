"""The convolutional net 1-1-1-1 at 64 channels: fp32 and bf16 against plain and compiled loops, and against the matmul peak."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks import machine, roofline
from benchmarks.equivalence import differences
from benchmarks.part import Options, Target, table
from benchmarks.race import Course, Entry, in_rounds, race
from benchmarks.setting import BATCH, ConvCell
from fathomlab.prepare.machine import has_compiler

TITLE = "Convolutional net"
FP32, BF16 = "fathomlab fp32", "fathomlab bf16"
PLAIN, CHANNELS_LAST, COMPILED = "plain fp32", "plain fp32 channels-last", "compiled fp32 channels-last"
PLAIN_BF16 = "plain bf16 channels-last"
FP32_PEERS = (PLAIN, CHANNELS_LAST, COMPILED)
BF16_DIFFERENCE = 0.02


def measure(options: Options) -> dict[str, Any]:
    """Race one process with one thread per core, after three equal losses at an eighth of the width."""
    systems, cell = present(), ConvCell()
    with machine.recorded() as about:
        same = differences(systems, ConvCell(8), 3, {BF16: BF16_DIFFERENCE, PLAIN_BF16: BF16_DIFFERENCE})
        entries = {system: Entry(system, cell, 2, 1) for system in systems}
        matmuls = ("fp32 matmul", "bf16 matmul") if BF16 in systems else ("fp32 matmul",)
        yardsticks = roofline.entries(cell, (*matmuls, "memory stream"))
        course = race([*entries.values(), *yardsticks.values()], options.rounds)
    labels = {system: entry.label for system, entry in entries.items()}
    result = summary(course, labels)
    print({name: round(value, 1) for name, value in result["cpu"].items()}, flush=True)
    positions = {
        system: roofline.position(cell, course.cpu[labels[system]], yardsticks, course)
        for system in (FP32, BF16)
        if system in systems
    }
    return {"about": about, "network": cell.name, "equivalence": same, "roofline": positions} | result


def present() -> list[str]:
    """Return the systems that can run on this machine."""
    compiled = (COMPILED,) if has_compiler() else ()
    bf16 = (BF16, PLAIN_BF16) if machine.has_bf16() else ()
    return [FP32, PLAIN, CHANNELS_LAST, *compiled, *bf16]


def summary(course: Course, labels: Mapping[str, str]) -> dict[str, Any]:
    """Times per step and network, and the plain channels-last loop's time over each system's, so that more is faster."""
    result: dict[str, Any] = {"rounds": course.plain()}
    for kind, rounds in (("cpu", course.cpu), ("wall", course.wall)):
        times = {system: rounds[label] for system, label in labels.items()}
        result |= {
            kind: {system: median(values) for system, values in times.items()},
            f"{kind}_speedups": {system: in_rounds(times[CHANNELS_LAST], values) for system, values in times.items()},
        }
    return result


def text(record: Mapping[str, Any]) -> list[str]:
    """A table of all systems, and the roofline."""
    lines = [
        f"{record['network']} without shortcuts, the stem with its max-pool, batch {BATCH}, images of 3 x 32 x 32. Two",
        "processes with one thread each; times (ms) are per step and network, with both cores busy. A speedup is the time of",
        f"`{CHANNELS_LAST}` over the system's, within a round.",
        "",
    ]
    rows = [
        [
            system,
            *(f"{record[kind][system]:.0f}" for kind in ("cpu", "wall")),
            *(f"{record[f'{kind}_speedups'][system]:.2f}x" for kind in ("cpu", "wall")),
        ]
        for system in record["cpu"]
    ]
    lines += table(["system", "CPU time", "wall time", "speedup by CPU time", "by wall time"], rows)
    lines += roofline.text(record["roofline"])
    exact = {system: value for system, value in record["equivalence"].items() if "bf16" not in system}
    lines.append(
        f"Before, at 8 channels, 3 float64 losses of every system differed by at most {max(exact.values()):.1g}"
    )
    rounded = [value for system, value in record["equivalence"].items() if system not in exact]
    lines.append(f"(relative), and those of bf16 by {max(rounded):.1g}." if rounded else "(relative).")
    return [*lines, ""]


def targets(record: Mapping[str, Any]) -> list[Target]:
    """fp32, and bf16 where the processor has it, against the plain channels-last loop and the fastest peer."""
    cpu, wall = record["cpu_speedups"], record["wall_speedups"]
    rows = [
        Target(f"CNN fp32 against {CHANNELS_LAST}", 1.3, cpu[FP32], wall=wall[FP32]),
        _against_fastest("CNN fp32 against the fastest fp32 peer", FP32, FP32_PEERS, cpu, wall),
    ]
    if BF16 in cpu:
        rows += [
            Target(f"CNN bf16 against {CHANNELS_LAST}", 2.5, cpu[BF16], wall=wall[BF16]),
            _against_fastest(f"CNN bf16 against {PLAIN_BF16}", BF16, (PLAIN_BF16,), cpu, wall),
        ]
    return rows


def _against_fastest(
    title: str, system: str, peers: Sequence[str], cpu: Mapping[str, float], wall: Mapping[str, float]
) -> Target:
    by_cpu, by_wall = (
        speedups[system] / max(speedups[peer] for peer in peers if peer in speedups) for speedups in (cpu, wall)
    )
    return Target(title, 1.0, by_cpu, wall=by_wall)
