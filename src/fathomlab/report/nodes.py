"""Nodes of a cluster on a page. Their names are host names, so a page that is handed in has numbers instead."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fathomlab.analysis.study import Condition, Study
from fathomlab.report.tables import Table, table
from fathomlab.store.records import TrialRecord
from fathomlab.store.run_records import RunRecord, node_name

SHOWN_NODES = 8


def runs_table(runs: Sequence[RunRecord]) -> Table:
    """What each run on several machines used, the oldest first. Columns that say nothing about any run are left out."""
    columns = {
        "run": [run.started[:16].replace("T", " ") for run in runs],
        "executor": [run.executor for run in runs],
        "names of the nodes": [few(run.nodes, run.node_count) if run.nodes else "" for run in runs],
        "nodes": [str(run.node_count) for run in runs],
        "workers": [str(run.workers) for run in runs],
        "packs": [str(run.packs) for run in runs],
        "retried": [str(run.retried) for run in runs],
        "lost": [str(run.lost) for run in runs],
        "refused": [str(run.refused) for run in runs],
    }
    for name in ("names of the nodes", "refused"):
        if not set(columns[name]) - {"", "0"}:
            del columns[name]
    texts = 3 if "names of the nodes" in columns else 2
    return table("runs", list(columns), list(zip(*columns.values(), strict=True)), texts)


def few(names: Sequence[str], total: int) -> str:
    """The first names, and how many more there are.

    Example:
        >>> few(("a", "b"), 2), few(("a",), 3)
        ('a, b', 'a, and 2 more')
    """
    shown = names[:SHOWN_NODES]
    more = total - len(shown)
    return ", ".join(shown) + (f", and {more:,} more" if more > 0 else "")


def shown_node(trial: TrialRecord) -> str:
    """The node that trained a trial; "" on the machine of the run."""
    return node_name(trial.provenance.node or "")


def without_node_names(studies: Sequence[Study]) -> list[Study]:
    """The same studies with "node 1" for the name of a node, also in the causes of failures. A node has one number in all."""
    names = dict.fromkeys(name for study in studies for name in _names(study))
    numbers = {name: f"node {number}" for number, name in enumerate(names, start=1)}
    return [_renamed(study, numbers) for study in studies] if numbers else list(studies)


def _names(study: Study) -> list[str]:
    runs = [name for run in study.experiment.runs for name in run.nodes]
    trials = [trial.provenance.node for _, _, trial in study.trials if trial.provenance.node]
    return list(dict.fromkeys([*runs, *trials]))


def _renamed(study: Study, numbers: Mapping[str, str]) -> Study:
    longest_first = sorted(map(re.escape, numbers), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(longest_first)})(?![\w-])")

    def trial(record: TrialRecord) -> TrialRecord:
        node, cause = record.provenance.node, record.cause
        if node:
            record = replace(record, provenance=replace(record.provenance, node=numbers[node]))
        if cause:
            record = replace(record, cause=pattern.sub(lambda match: numbers[match[0]], cause))
        return record

    def renamed(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        return tuple(
            replace(item, trials=tuple((seed, trial(record)) for seed, record in item.trials)) for item in conditions
        )

    runs = tuple(replace(run, nodes=tuple(numbers[name] for name in run.nodes)) for run in study.experiment.runs)
    experiment = replace(study.experiment, runs=runs)
    return replace(study, experiment=experiment, conditions=renamed(study.conditions), tried=renamed(study.tried))
