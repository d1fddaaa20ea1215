"""How time, memory, and files grow with trials: commands on finished stores, the coordinator, and real tiny trials.

    python -m benchmarks.scaling                                    # stores of 100, 1,000 and 10,000 trials, and the coordinator
    python -m benchmarks.scaling commands --shapes 10x10,50x20      # conditions x seeds
    python -m benchmarks.scaling run --executor ray --trials 10000 --workers 2

Stores are written by the store's own code, without training. CPU times and peak memory are those of whole processes.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.part import table
from benchmarks.race import ROOT, in_subprocess
from benchmarks.startup import command, tiny

SHAPES = "10x10,50x20,5000x2,500x20,100x100,2x5000"
OVERHEADS = (
    (1_000, 16, 2),
    (10_000, 16, 2),
    (50_000, 16, 2),
    (10_000, 1, 2),
    (50_000, 1, 2),
    (10_000, 1, 64),
    (10_000, 16, 64),
)
PARTS = ("commands", "coordinator", "run")
EPOCHS = 3
LAUNCH = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
sys.exit(code)
"""


@dataclass(frozen=True)
class Shape:
    """An experiment: conditions x seeds."""

    conditions: int
    seeds: int

    @property
    def name(self) -> str:
        """As options name it."""
        return f"{self.conditions}x{self.seeds}"

    def experiment(self) -> dict[str, Any]:
        """Two factors whose levels, crossed, are the conditions, with a claim about one of them."""
        few = max(size for size in range(1, math.isqrt(self.conditions) + 1) if self.conditions % size == 0)
        rates = [round(1e-4 * (index + 1), 6) for index in range(self.conditions // few)]
        widths = [8 * (index + 1) for index in range(few)]
        document = tiny(self.seeds)
        levels = {"training.lr": rates, "model.params.layers_dim": widths}
        factors = {key: values for key, values in levels.items() if len(values) > 1}
        document["training"]["epochs"] = EPOCHS
        document["experiment"] |= {"factors": factors, "analyze_gradients": True}
        key, values = list(factors.items())[-1]
        claim = {"name": "The last is better", "factor": key.rsplit(".", 1)[-1], "levels": [values[-1], values[0]]}
        document["claims"] = [claim | {"expect": "greater", "matters": 0.01}]
        return document


@dataclass(frozen=True)
class Spent:
    """What a process used: CPU time (s) and peak memory (MB)."""

    seconds: float
    peak: float


def spent(words: Sequence[str]) -> Spent:
    """Run a command and return what it and its children used.

    A small process starts it: the peak of a process includes that of the one that forked it.

    Raises:
        SystemExit: It failed.
    """
    done = subprocess.run([sys.executable, "-c", LAUNCH, *words], capture_output=True, cwd=ROOT, check=False)
    if done.returncode:
        text = done.stderr.decode(errors="replace")
        raise SystemExit(f"{' '.join(words)} ended with status {done.returncode}:\n{text[-2000:]}")
    return Spent(*json.loads(done.stdout))


def commands(shape: Shape, folder: Path) -> dict[str, Any]:
    """Every command on a finished store of this shape, which is written first if `folder` does not have it."""
    file, runs = folder / f"{shape.name}.yaml", folder / shape.name
    if not file.exists():
        in_subprocess("benchmarks.scaling:fill", shape.name, str(folder))
    store, csv, bundle = ["--runs", str(runs)], folder / f"{shape.name}-csv", folder / f"{shape.name}.zip"
    spent(command("run", str(file), *store, "--progress", "off"))
    name = next((runs / "experiments").iterdir()).name
    trial = min(path.name for path in (runs / "trials").iterdir())
    listed = {
        "plan": command("plan", str(file), *store),
        "run, all cached": command("run", str(file), *store, "--progress", "off"),
        "list": command("list", *store),
        "list --json": command("list", "--json", *store),
        "show": command("show", trial[:12], *store),
        "report": command("report", name, *store),
        "store check": command("store", "check", *store),
        "export csv": command("export", "csv", name, "--to", str(csv), "--overwrite", *store),
        "export bundle": command("export", "bundle", name, "--to", str(bundle), "--overwrite", *store),
    }
    used = {title: spent(words) for title, words in listed.items()}
    files = [path for path in runs.rglob("*") if path.is_file()]
    experiment = runs / "experiments" / name
    return {
        "trials": shape.conditions * shape.seeds,
        "used": {title: (value.seconds, value.peak) for title, value in used.items()},
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "record": (experiment / "experiment.json").stat().st_size,
        "report": (experiment / "report.html").stat().st_size,
        "bundle": bundle.stat().st_size,
    }


def fill(name: str, folder: str) -> int:
    """Write the experiment file of a shape and its finished trials; returns their number."""
    from benchmarks import finished

    file = Path(folder) / f"{name}.yaml"
    temporary = file.with_suffix(".new.yaml")
    temporary.write_text(json.dumps(parsed(name).experiment()), encoding="utf-8")
    number = finished.fill(str(temporary), str(Path(folder) / name))
    temporary.rename(file)
    return number


def parsed(name: str) -> Shape:
    """The shape that an option names.

    Raises:
        SystemExit: It does not have the form CONDITIONSxSEEDS, with two or more conditions.
    """
    parts = name.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts) or int(parts[0]) < 2:
        raise SystemExit(f"{name}: not a shape; write CONDITIONSxSEEDS, such as 50x20")
    return Shape(*map(int, parts))


def commands_text(results: dict[str, dict[str, Any]]) -> list[str]:
    """Tables of CPU time, memory, and sizes: a column per shape."""
    head = ["", *(f"{name.replace('x', ' x ')}" for name in results)]
    titles = list(next(iter(results.values()))["used"])
    every = list(results.values())
    trials = ["trials", *(f"{item['trials']:,}" for item in every)]
    times = [[title, *(f"{item['used'][title][0]:.1f}" for item in every)] for title in titles]
    peaks = [[title, *(f"{item['used'][title][1]:.0f}" for item in every)] for title in titles]
    sizes = [["files", *(f"{item['files']:,}" for item in every)]]
    for key, text in (
        ("bytes", "store"),
        ("record", "experiment.json"),
        ("report", "report.html"),
        ("bundle", "bundle"),
    ):
        sizes.append([f"{text} (MB)", *(f"{item[key] / 1e6:.2f}" for item in every)])
    return [
        *("CPU time of whole processes (s); columns are conditions x seeds:", ""),
        *table(head, [trials, *times]),
        *("Peak memory (MB):", ""),
        *table(head, peaks),
        *("Files and sizes:", ""),
        *table(head, sizes),
    ]


def coordinator_text(rows: Sequence[tuple[int, int, dict[str, Any]]]) -> list[str]:
    """A row per number of trials, packs, and workers."""
    head = ["trials", "pack", "workers", "CPU per trial (ms)", "first quarter (ms)", "last quarter (ms)", "growth (MB)"]
    cells: list[list[object]] = []
    for pack, workers, row in rows:
        times = (f"{row[key]:.3f}" for key in ("milliseconds", "first", "last"))
        cells.append([f"{row['trials']:,}", pack, workers, *times, f"{row['growth']:.1f}"])
    return ["Coordinator, progress, and time left, with an executor that answers at once:", "", *table(head, cells)]


def trained(executor: str, trials: int, workers: int, folder: Path) -> list[str]:
    """Real tiny trials through an executor: MLPs of width 4, one epoch of 100 images."""
    document = tiny(trials)
    document["data"]["limit"] = 100
    document["model"]["params"] |= {"layers_dim": 4, "batch_norm": False}
    file, runs = folder / "trained.yaml", folder / f"trained-{executor}"
    file.write_text(json.dumps(document), encoding="utf-8")
    words = command("run", str(file), "--runs", str(runs), "--progress", "plain", "--executor", executor)
    used = spent([*words, "--workers", str(workers)])
    size = next(runs.glob("experiments/*/report.html")).stat().st_size
    head = ["executor", "trials", "workers", "CPU per trial (ms)", "peak memory (MB)", "report.html (MB)"]
    row = [
        executor,
        f"{trials:,}",
        workers,
        f"{1e3 * used.seconds / trials:.2f}",
        f"{used.peak:.0f}",
        f"{size / 1e6:.2f}",
    ]
    title = "CPU time of `fathomlab run` without that of its workers if they are not its children, report included:"
    return [title, "", *table(head, [row])]


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts that are requested and print their tables."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} [default: the first two]")
    parser.add_argument("--shapes", default=SHAPES, help="CONDITIONSxSEEDS, separated by commas [default: %(default)s]")
    parser.add_argument("--stores", type=Path, help="keep the stores in this directory, and use those that it has")
    parser.add_argument("--executor", default="local", help="of the part run [default: %(default)s]")
    parser.add_argument("--trials", type=int, default=10_000, help="of the part run [default: %(default)s]")
    parser.add_argument("--workers", type=int, default=2, help="of the part run [default: %(default)s]")
    asked = parser.parse_args(arguments)
    parts, shapes = asked.parts or PARTS[:2], [parsed(name) for name in asked.shapes.split(",")]
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    with ExitStack() as stack:
        about = stack.enter_context(machine.recorded())
        folder = asked.stores or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        lines: list[str] = []
        if "coordinator" in parts:
            rows = [
                (pack, workers, in_subprocess("benchmarks.scripted:overhead", *sizes))
                for sizes in OVERHEADS
                for _, pack, workers in [sizes]
            ]
            lines += coordinator_text(rows)
        if "commands" in parts:
            lines += commands_text({shape.name: _announced(shape, folder) for shape in shapes})
        if "run" in parts:
            lines += trained(asked.executor, asked.trials, asked.workers, folder)
    print("\n".join([machine.described(about), "", *lines]))


def _announced(shape: Shape, folder: Path) -> dict[str, Any]:
    """The results of a shape, which standard error shows at once: the tables come at the end."""
    print(f"{shape.name} ...", file=sys.stderr, flush=True)
    results = commands(shape, folder)
    print(json.dumps(results), file=sys.stderr, flush=True)
    return results


if __name__ == "__main__":
    main()
