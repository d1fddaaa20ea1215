"""bench: training speed compared with other frameworks."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from fathomlab.base.errors import UserError
from fathomlab.cli.options import Json

app = typer.Typer()


@app.command()
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="grid, cnn, evaluation, quick, overheads, growth, startup [default: all]."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; results are medians.")] = 5,
    corners: Annotated[
        bool, typer.Option("--corners", help="Measure four cells of the grid, and less of the rest.")
    ] = False,
    against: Annotated[str, typer.Option(metavar="COMMIT", help="Compare `make run` with that of a commit.")] = "",
    as_json: Json = False,
) -> None:
    """Compare speed with plain loops, Lightning, torch.func, and JAX (if installed)."""
    root = Path(__file__).parents[3]
    if not (root / "benchmarks" / "__main__.py").is_file():
        raise UserError(
            "needs-clone",
            "The benchmarks are not in the installed package; run this in a clone of the repository.",
        )
    out = root / "docs" / "results" / "bench.json"
    args = [*(parts or []), "--rounds", str(rounds), *(["--corners"] if corners else [])]
    args += ["--against", against] if against else []
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *args], cwd=root, stdout=sys.stderr if as_json else None, check=False
    )
    if done.returncode:
        raise typer.Exit(done.returncode)
    if as_json:
        print(out.read_text(encoding="utf-8"), end="")
