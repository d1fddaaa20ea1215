"""fathomlab compared with other systems, and its overhead: tables, and targets met or missed.

    make bench                                            # every part, five rounds
    python -m benchmarks cnn growth --rounds 3            # some parts; the others stay as they were
    python -m benchmarks grid --corners --json out.json --markdown out.md
    python -m benchmarks quick --against COMMIT           # `make run` of this version and of a commit

Rounds are interleaved and ratios are formed within a round. CPU time decides, wall time is printed next to it. A system whose
numbers differ from fathomlab's is not timed.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from benchmarks import cnn, evaluation, grid, growth, machine, overheads, quick, startup
from benchmarks.part import Options, Part, table
from benchmarks.race import ROOT
from fathomlab.base.files import atomic_write

MODULES: dict[str, ModuleType] = {
    "grid": grid,
    "cnn": cnn,
    "evaluation": evaluation,
    "quick": quick,
    "overheads": overheads,
    "growth": growth,
    "startup": startup,
}
PARTS = {name: cast(Part, module) for name, module in MODULES.items()}
RESULTS = ROOT / "docs" / "results"
FORMAT = 2


def main(arguments: list[str] | None = None) -> None:
    """Measure the requested parts; print and write the record of all parts.

    Raises:
        SystemExit: If a part could not be measured. The others are, and its former numbers stay.
    """
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=Options.rounds)
    parser.add_argument("--corners", action="store_true", help="four cells of the grid, and less of the rest")
    parser.add_argument("--against", default="", metavar="COMMIT", help="compare `make run` with that of a commit")
    parser.add_argument("--json", type=Path, default=RESULTS / "bench.json", metavar="FILE")
    parser.add_argument("--markdown", type=Path, default=RESULTS / "bench.md", metavar="FILE")
    args = parser.parse_args(arguments)
    unknown = [name for name in args.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    if args.rounds < 1:
        parser.error("--rounds should be at least 1")
    record = former(args.json)
    failed = []
    options = Options(args.rounds, args.corners, args.against)
    for name in args.parts or PARTS:
        print(f"{name}:", flush=True)
        try:
            record[name] = PARTS[name].measure(options)
        except SystemExit as stopped:  # the other parts are not lost with this one
            print(f"{name} was not measured: {stopped}", flush=True)
            failed.append(name)
            continue
        _write(args.json, json.dumps({"format": FORMAT, **record}, indent=1) + "\n")
        record = former(args.json)  # as it will be read: the keys of JSON are text
        _write(args.markdown, markdown(record))
    print(markdown(record))
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


def former(path: Path) -> dict[str, Any]:
    """Return the parts in a file of results; `{}` without a file, and for files of an earlier format.

    Raises:
        SystemExit: If it is not a file of results.
    """
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{path}: is not valid JSON ({error}); move it away first") from None
    if record.get("format") != FORMAT:
        print(f"{path}: has an earlier format and is replaced", flush=True)
        return {}
    return {name: record[name] for name in PARTS if name in record}


def markdown(record: Mapping[str, Any]) -> str:
    """Return all targets, then every measured part."""
    lines = [
        "# Benchmarks",
        "",
        "Ratios are times of the other system over fathomlab's. CPU time decides whether a target is met.",
        "",
    ]
    rows = [target.row() for name, part in PARTS.items() if name in record for target in part.targets(record[name])]
    lines += table(["target", "wanted", "measured", "by wall time", ""], rows)
    for name, part in PARTS.items():
        if name in record:
            of_part = record[name]
            lines += [f"## {part.TITLE}", "", machine.described(of_part["about"]), "", *part.text(of_part)]
    missing = [name for name in PARTS if name not in record]
    if missing:
        lines += [f"Not measured yet: {', '.join(missing)}."]
    return "\n".join(lines).rstrip() + "\n"


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content)


if __name__ == "__main__":
    main()
