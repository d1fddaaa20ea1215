"""fathomlab beside other systems, and what it costs besides training: a table, and targets met or missed.

    make bench                                            # every part, five rounds
    python -m benchmarks cnn growth --rounds 3            # some parts; the others stay as they were
    python -m benchmarks grid --corners --json out.json --markdown out.md

Rounds are interleaved and ratios are formed within a round. A system whose losses differ from fathomlab's is not timed.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from benchmarks import cnn, grid, growth, machine, overheads, startup
from benchmarks.part import Asked, Part, table
from benchmarks.race import ROOT
from fathomlab.base.files import atomic_write

MODULES: dict[str, ModuleType] = {
    "grid": grid,
    "cnn": cnn,
    "overheads": overheads,
    "growth": growth,
    "startup": startup,
}
PARTS = {name: cast(Part, module) for name, module in MODULES.items()}
RESULTS = ROOT / "docs" / "results"


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts that are asked for, print and write the whole record.

    Raises:
        SystemExit: A part could not be measured; the others are, and its former numbers stay.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all where none is given")
    parser.add_argument("--rounds", type=int, default=Asked.rounds)
    parser.add_argument("--corners", action="store_true", help="four cells of the grid instead of nine")
    parser.add_argument("--json", type=Path, default=RESULTS / "bench.json", metavar="FILE")
    parser.add_argument("--markdown", type=Path, default=RESULTS / "bench.md", metavar="FILE")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    if asked.rounds < 1:
        parser.error("--rounds should be at least 1")
    record = former(asked.json)
    failed = []
    for name in asked.parts or PARTS:
        print(f"{name}:", flush=True)
        try:
            record[name] = PARTS[name].measure(Asked(asked.rounds, asked.corners))
        except SystemExit as stopped:  # an hour of the other parts is not lost with this one
            print(f"{name} was not measured: {stopped}", flush=True)
            failed.append(name)
            continue
        _write(asked.json, json.dumps(record, indent=1) + "\n")
        record = former(asked.json)  # as it will be read: the keys of JSON are text
        _write(asked.markdown, markdown(record))
    print(markdown(record))
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


def former(path: Path) -> dict[str, Any]:
    """The parts in a file of results; `{}` where there is none. A file of the grid alone is read as such.

    Raises:
        SystemExit: It is no file of results.
    """
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{path}: is not valid JSON ({error}); move it away first") from None
    return {"grid": record} if "cells" in record else {name: record[name] for name in PARTS if name in record}


def markdown(record: Mapping[str, Any]) -> str:
    """Targets with met or missed, then every part that has been measured."""
    lines = ["# Benchmarks", ""]
    decided = [target.row() for name, part in PARTS.items() if name in record for target in part.targets(record[name])]
    lines += table(["target", "wanted", "measured", ""], decided)
    for name, part in PARTS.items():
        if name in record:
            found = record[name]
            lines += [f"## {part.TITLE}", "", machine.told(found["about"]), "", *part.text(found)]
    missing = [name for name in PARTS if name not in record]
    if missing:
        lines += [f"Not measured yet: {', '.join(missing)}."]
    return "\n".join(lines).rstrip() + "\n"


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content)


if __name__ == "__main__":
    main()
