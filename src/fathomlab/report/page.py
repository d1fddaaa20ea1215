"""The page of an experiment and the index over experiments: one file each, no script, nothing loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fathomlab.base.files import atomic_write
from fathomlab.report import accounts
from fathomlab.report.answers import answers
from fathomlab.report.curves import curve_figures
from fathomlab.report.depths import accuracy_figures, effect_figure
from fathomlab.report.effects import Effect, depth_effects, distillation_gains, residual_effects
from fathomlab.report.figures import Figure
from fathomlab.report.heatmaps import gradient_figures
from fathomlab.report.numbers import count, grouped, signed
from fathomlab.report.pixels import STOPS
from fathomlab.report.study import Study, study
from fathomlab.store.reading import Store

if TYPE_CHECKING:
    from jinja2 import Environment

VERDICTS = ("supported", "refuted", "undecided")


@dataclass(frozen=True)
class Verdict:
    """A verdict as a card; a kind that is none of the three words counts as undecided."""

    kind: str
    name: str
    sentence: str
    numbers: str
    exploratory: bool


@dataclass(frozen=True)
class Entry:
    """An experiment in the index."""

    name: str
    title: str
    question: str
    summary: str
    finished: int
    failed: int
    pending: int
    link: str
    cause: str | None


def write_report(store: Store, experiment: str, verdicts: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Write the page of one experiment and say where it is.

    Args:
        store: Where the records are.
        experiment: Its name.
        verdicts: On its claims; without any, those that the record of the experiment holds.

    Raises:
        UserError: The store has no experiment of this name.
    """
    record = store.experiment(experiment)
    text = report_html(study(store, record), verdicts or record.verdicts)
    path = record.folder / "report.html"
    atomic_write(path, text)
    return path


def write_index(store: Store) -> Path:
    """Write the index over all experiments and say where it is."""
    entries = [_entry(study(store, record)) for record in store.experiments()]
    path = store.root / "index.html"
    store.root.mkdir(parents=True, exist_ok=True)
    atomic_write(path, _environment().get_template("index.html").render(entries=entries, count=count))
    return path


def report_html(about: Study, verdicts: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page as text: equal records give equal bytes."""
    record = about.experiment
    files = accounts.data_files(about)
    context: dict[str, Any] = {
        "experiment": record,
        "question": question(record.yaml),
        "verdicts": [_verdict(item) for item in verdicts],
        "answers": answers(about),
        "tally": accounts.tally(about),
        "total": len(about.trials),
        "failures": accounts.failures(about),
        "pending": sum(accounts.tally(about)[status] for status in accounts.PENDING),
        "unofficial": [file for file in files if not file.official],
        "notes": accounts.data_notes(about),
        "curves": curve_figures(about),
        "accuracy": accuracy_figures(about) if about.conditions else [],
        "effects": _effect_figures(about),
        "gradients": gradient_figures(about),
        "stops": ",".join(STOPS),
        "distillation": accounts.distillation_table(about),
        "cost": accounts.cost_table(about),
        "time": accounts.total_time(about),
        "trials": accounts.trials_table(about),
        "provenance": accounts.provenance_table(about),
        "files": files,
        "reads": accounts.test_reads(about),
        "resolved": _yaml(record.resolved),
        "count": count,
        "grouped": grouped,
    }
    return _environment().get_template("report.html").render(context)


def question(yaml: str) -> str:
    """The question of an experiment file: what follows `Question:` in its leading comment, else its first line."""
    lines: list[str] = []
    for line in yaml.splitlines():
        if not line.strip().startswith("#"):
            if line.strip():
                break
            continue
        lines.append(line.strip().lstrip("#").strip())
    asked = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("question:")]
    found = next((line for line in asked + lines if line), "")
    return found[:1].upper() + found[1:]


def _effect_figures(about: Study) -> list[Figure]:
    kinds: tuple[tuple[str, str, list[Effect]], ...] = (
        ("effect-residual", "Residual minus plain [points]", residual_effects(about)),
        ("effect-gain", "Distilled minus baseline student [points]", distillation_gains(about)),
        ("effect-depth", "Deepest minus shallowest [points]", depth_effects(about) if about.has_depths else []),
    )
    return [effect_figure(effects, name, title) for name, title, effects in kinds if effects]


def _verdict(item: Mapping[str, Any]) -> Verdict:
    kind = str(item.get("verdict"))
    effect, low, high = (item.get(key) for key in ("effect", "low", "high"))
    numbers = f"effect {signed(effect)}" if isinstance(effect, int | float) else ""
    if numbers and isinstance(low, int | float) and isinstance(high, int | float):
        numbers += f", 95 % interval {signed(low)} to {signed(high)}"
    if isinstance(item.get("n"), int):
        numbers += f"{', ' if numbers else ''}n = {count(item['n'], 'seed')}"
    kind = kind if kind in VERDICTS else "undecided"
    name, sentence = str(item.get("name", "")), str(item.get("sentence", ""))
    return Verdict(kind, name, sentence, numbers, item.get("exploratory") is True)


def _entry(about: Study) -> Entry:
    record, tally = about.experiment, accounts.tally(about)
    verdicts = [f"{_verdict(item).sentence} {_verdict(item).kind.capitalize()}." for item in record.verdicts[:1]]
    return Entry(
        name=record.name,
        title=record.title,
        question=question(record.yaml),
        summary=" ".join([*verdicts, answers(about).summary]),
        finished=tally["finished"],
        failed=sum(tally[status] for status in accounts.BROKEN),
        pending=sum(tally[status] for status in accounts.PENDING),
        link=f"experiments/{quote(record.name)}/report.html" if (record.folder / "report.html").is_file() else "",
        cause=record.cause,
    )


def _yaml(resolved: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True, width=100) if resolved else ""


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
