"""The page of JSON documents. Keys come from dataclasses where they exist; a test compares all of them with real output."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args

from fathomlab.analysis.compare import Difference
from fathomlab.analysis.contrasts import ImageCounts, ImageTest, Pair
from fathomlab.analysis.grades import ClaimGrade, Environments, Grade
from fathomlab.analysis.identical import Copies, SameSeeds
from fathomlab.analysis.repetition import Repetition
from fathomlab.analysis.verdicts import Success
from fathomlab.api.doctor.checks import Check
from fathomlab.data import DatasetStatus
from fathomlab.data.importer import ImportedFile
from fathomlab.execute import events
from fathomlab.execute.experiment import RunSummary
from fathomlab.prepare.cost import Estimate
from fathomlab.store.run_records import RunRecord
from fathomlab.store.target import Conflict, Merge
from reference.json_keys import Key, Keys, keys_of, written
from reference.markdown import summary, table

INTRODUCTION = """\
# JSON output

For everyone who reads the output of commands with other programs. This page lists the keys of every document that `--json` prints
on standard output, and of the events that `--progress json` prints on standard error.

Later versions add keys; they do not change those on this page. Ignore keys that you do not know. Accuracies are fractions, losses
nats, and times seconds. Numbers that are missing or not finite are `null`. [Store](store.md) describes the files of the results
directory.
"""
PAIR = keys_of(
    Pair,
    {
        "seed": "The seed.",
        "first": "Metric at the first level; `null` if the trial of a success claim diverged. For a trend, the slope.",
        "second": "Metric at the second level; `null` for trends and references.",
        "difference": "First minus second, or minus the reference.",
        "diverged": "Whether a trial of this seed diverged.",
    },
)
SUCCESS = keys_of(
    Success,
    {
        "level": "Factor and level.",
        "successes": "Number of seeds above the threshold.",
        "n": "Number of seeds.",
        "low": "Lower end of the 95% Wilson interval of the fraction.",
        "high": "Its upper end.",
    },
)
VERDICT = {
    "verdicts[]": written("verdict"),
    "verdicts[].values[]": PAIR,
    "verdicts[].diverged[]": written("diverged"),
    "verdicts[].success[]": SUCCESS,
    "verdicts[].tuned[]": written("tuned"),
    "verdicts[].mcnemar": keys_of(ImageTest, {}),
    "verdicts[].mcnemar.each[]": keys_of(ImageCounts, {"seed": "The seed."}),
}
IMPORTED = {
    "name": "Name of the dataset.",
    "file": "Name in the data directory.",
    "source": "Path of the file that was imported.",
    "official": "Whether the file has the published checksum.",
}
CLAIM_GRADE = {
    "claim": "The claim in one sentence.",
    "verdict": "`supported`, `refuted`, or `undecided`.",
    "effect": "Mean effect over seeds (fraction or nats).",
    "low": "Lower end of its 95% interval.",
    "high": "Its upper end.",
    "unit": "`points` for fractions, or `nats`.",
}
DOCUMENTS: dict[str, Mapping[str, Keys]] = {
    "plan": {
        "": written("plan"),
        "estimate": keys_of(Estimate, {}),
        "disk": written("disk"),
        "memory": written("memory"),
        "equal_compute[]": written("equal compute"),
        "trial_list[]": written("planned trial"),
    },
    "plan --why TRIAL": {"": written("why"), "fields[]": written("why field")},
    "run": {
        "": (*(key for key in keys_of(RunSummary, {}) if key.name not in ("fleet", "notices")), *written("run")),
        "fleet": keys_of(RunRecord, {}),
    },
    "verify": {"": written("verify"), **VERDICT},
    "verify PAGE.html#TRIAL": {
        "": (*written("repetition"), *keys_of(Repetition, {})),
        "rows[]": written("repeated metric"),
    },
    "report": {"": written("report"), "tuned[]": written("choice"), "tuned[].tried[]": written("try")},
    "report --diff A B": {
        "[]": keys_of(Difference, {"state": "`both`, `only first`, or `only second`."}),
    },
    "list": {"[]": written("trial")},
    "show": {"": (*written("trial"), *written("show")), "gradients[]": written("gradients")},
    "export": {"": written("export")},
    "publish": {"": written("publish")},
    "doctor": {"": written("doctor"), "checks[]": keys_of(Check, {})},
    "new": {"": written("new")},
    "data list": {"[]": keys_of(DatasetStatus, {})},
    "data download": {"": written("download")},
    "data import": {"[]": keys_of(ImportedFile, IMPORTED)},
    "store check": {"": written("check"), "faults[]": written("fault")},
    "store repair": {"": written("changes"), "done[]": written("change")},
    "store prune": {"": written("changes"), "done[]": written("change")},
    "store merge": {"": (*written("merge"), *keys_of(Merge, {})), "conflicts[]": keys_of(Conflict, {})},
    "store grade": {
        "": written("grade"),
        "rows[]": keys_of(Grade, {}),
        "rows[].claims[]": keys_of(ClaimGrade, CLAIM_GRADE),
        "rows[].environments": keys_of(Environments, {}),
        "copies[]": keys_of(Copies, {}),
        "same_seeds[]": keys_of(SameSeeds, {}),
    },
}
ERRORS: Mapping[str, Keys] = {"": written("problems"), "problems[]": written("problem")}
INTERNAL = (
    events.Ready,
    events.Idle,
    events.Stopped,
    events.Died,
    events.Saved,
    events.Refused,
)  # between a worker and its coordinator


def event_keys(component: Any) -> Keys:
    """What `--progress json` prints of an event, after its kind."""
    is_epoch, is_start = component is events.EpochDone, component is events.Started
    left_out = ("event", "labels", "work", *(["metrics"] if is_epoch else []), *(["lease"] if is_start else []))
    keys = tuple(
        replace(key, optional=is_start and key.name == "node")
        for key in keys_of(component, {})
        if key.name not in left_out
    )
    return (*keys, *written("epoch")) if is_epoch else keys  # metrics of an epoch stand next to its number


EVENTS: dict[Any, Keys] = {item: event_keys(item) for item in get_args(events.Event) if item not in INTERNAL}


def page() -> str:
    """The page as Markdown."""
    lines = [INTRODUCTION]
    for command, document in DOCUMENTS.items():
        lines += [f"## fathomlab {command}", "", *_tables(document)]
    lines += ["## fathomlab bench", "", "The document is `docs/results/bench.json`.", "", "## Errors", ""]
    lines += ["With exit status 2, the document has this key only. The message is also on standard error.", ""]
    lines += [*_tables(ERRORS), "## Events", ""]
    lines += ["`--progress json` prints one JSON object per line. `event` is the kind of the event.", ""]
    for component, keys in EVENTS.items():
        name = component.event + (" (failed)" if component is events.Failed else "")
        lines += [f"### {name}", "", summary(component), "", *_table(keys)]
    lines += [
        "## Next steps",
        "",
        "- [Command line](command-line.md): commands and exit statuses.",
        "- [Compare reports, use in CI](../guides/compare-and-ci.md): examples.",
    ]
    return "\n".join(lines) + "\n"


def _tables(document: Mapping[str, Keys]) -> list[str]:
    lines = []
    for place, keys in document.items():
        if place == "[]":
            lines += ["A list of:", ""]
        elif place:
            lines += [f"Each item of `{place[:-2]}`:" if place.endswith("[]") else f"`{place}`:", ""]
        lines += _table(keys)
    return lines


def _table(keys: Iterable[Key]) -> list[str]:
    rows = [(f"`{key.name}`", key.kind + (" (optional)" if key.optional else ""), key.meaning) for key in keys]
    return table(("key", "type", "meaning"), rows)
