"""The reference of the store lists every field of every document."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fathomlab.config.schema import LoggingOptions
from fathomlab.probes.columns import Column, ProbeDescription
from fathomlab.store import predictions, provenance, records
from fathomlab.store.directory import NOT_IN_EXPERIMENT

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "store.md").read_text(encoding="utf-8")
SECTIONS = {title: text for title, _, text in (part.partition("\n") for part in PAGE.split("\n## "))}
DOCUMENTS: list[tuple[str, type[Any]]] = [
    ("trial.json", LoggingOptions),
    ("probes.json", records.DescribedProbes),
    ("probes.json", ProbeDescription),
    ("probes.json", Column),
    ("result.json", records.Result),
    ("result.json", records.Outcome),
    ("result.json", records.Speed),
    ("result.json", records.FileDigest),
    ("result.json", predictions.StoredLabels),
    ("provenance.json", provenance.Provenance),
    ("provenance.json", provenance.Hardware),
    ("provenance.json", provenance.Commit),
    ("provenance.json", provenance.DataSource),
    ("provenance.json", provenance.PackSlot),
    ("provenance.json", provenance.PluginDigest),
    ("provenance.json", provenance.Resumption),
    ("experiment.json", records.ExperimentRecord),
    ("experiment.json", records.ConditionRecord),
    ("experiment.json", records.SeedTrial),
]


def written(kind: type[Any]) -> set[str]:
    """The fields that are written."""
    names = {field.name for field in fields(kind)}
    return names - set(NOT_IN_EXPERIMENT) if kind is records.ExperimentRecord else names


@pytest.mark.parametrize(("document", "kind"), DOCUMENTS, ids=lambda value: getattr(value, "__name__", value))
def test_reference_lists_every_field(document: str, kind: type[Any]):
    names = written(kind)
    assert names <= set(re.findall(r"`([a-z0-9_]+)`", SECTIONS[document]))


@pytest.mark.parametrize("kind", [records.Result, provenance.Provenance, records.ExperimentRecord])
def test_reference_lists_no_other_key(kind: type[Any]):
    document = {records.Result: "result.json", provenance.Provenance: "provenance.json"}.get(kind, "experiment.json")
    table = SECTIONS[document].split("\n\n| key of")[0]
    keys = {key for row in re.findall(r"^\| (`.*?) \|", table, re.M) for key in re.findall(r"`(\w+)`", row)}
    assert keys - {"trial"} == written(kind)
