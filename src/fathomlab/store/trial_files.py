"""The files of one trial, verified."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import format_value
from fathomlab.base.identity import content_hash
from fathomlab.probes import PROBES
from fathomlab.probes.columns import ProbeDescription
from fathomlab.store.provenance import Provenance
from fathomlab.store.records import PROBES_FILE, DescribedProbes, Result
from fathomlab.store.validation import FolderValidator

HASH = re.compile(r"[0-9a-f]{64}")


class TrialFiles(FolderValidator):
    """The small files of one trial: documents are parsed and verified, logs are verified only.

    Verified here: that `trial.json` belongs to the directory, the checksums of `trial.json` and `result.json`, and the SHA-256 of
    every small file that the result lists. Verified when they are read: lines of logs, weights, predictions, checkpoints.

    Attributes:
        root: The store.
        content: The resolved options; `{}` if corrupted.
        result: The result; None without a valid one.
        provenance: Empty if not recorded yet.
        logs: Names of the logs, sorted, the curves first.
        descriptions: The probes of plugins by name, if there is a log of one.
    """

    def __init__(self, root: Path, trial: str):
        """Read the documents of a trial. Nothing outside of the store is read, whatever `trial` is."""
        self.root, valid = root, HASH.fullmatch(trial) is not None
        super().__init__(root / "trials" / trial if valid else root / "trials")
        self.content: JsonObject = {}
        self.result: Result | None = None
        self.provenance, self.logs = Provenance(), list[str]()
        self.descriptions: Mapping[str, ProbeDescription] = {}
        self.exists = False
        try:
            self.exists = valid and not os.path.islink(self.folder) and _has_files(self.folder)
        except OSError as error:
            self.report(f"the directory of the trial cannot be read ({type(error).__name__})")
        if not valid:
            self.report(f"not the hash of a trial: {format_value(trial)}")
        elif os.path.islink(self.folder):
            self.report("the directory of the trial is a link")
        elif self.exists:
            self._read_documents(trial)

    def _read_documents(self, trial: str) -> None:
        document = self.document("trial.json", required=True) or {}
        if document and document.get("trial") != trial:
            self.report("trial.json belongs to another trial")
        if isinstance(content := document.get("content"), dict):
            self.content = cast(JsonObject, content)
        if self.outdated:
            return
        if _hash(self.content) != trial:
            self.report("trial.json is corrupted (its content has another hash)")
        result = self.document("result.json", required=False)
        self.result = None if result is None else self.typed("result.json", Result, result)
        self.check_digests(self.result.files if self.result else {})
        names = sorted(path.name for path in self.folder.glob("*.jsonl"))
        self.logs = sorted(names, key=lambda name: name != "metrics.jsonl")
        if any(name.removesuffix(".jsonl") not in ("metrics", *PROBES) for name in self.logs):
            described = self.value(PROBES_FILE, DescribedProbes, required=False)
            self.descriptions = described.probes if described else {}
        self.provenance = self.value("provenance.json", Provenance, required=result is not None) or self.provenance

    @property
    def status(self) -> str:
        """Status as in `TrialRecord`, except that a trial without result is always running."""
        if self.first_error is not None:
            return "outdated" if self.outdated else "damaged"
        return "waiting" if not self.exists else self.result.status if self.result else "running"

    def verified_status(self) -> str:
        """Status after verifying every line of the logs of a trial with a result.

        The SHA-256 of a log is that of the file when the result was written, and does not show earlier corruption.
        """
        for name in self.logs if self.result else ():
            self.check_lines(name)
        return self.status

    @property
    def cause(self) -> str | None:
        """Why the trial did not finish, or which file is corrupted or outdated; None otherwise."""
        return self.first_error or (self.result.cause if self.result else None)


def trial_status(root: Path, trial: str) -> str:
    """Status of a trial as in `TrialRecord`, except that a trial without result is always running."""
    return TrialFiles(root, trial).verified_status()


def _hash(content: JsonObject) -> str | None:
    try:
        return content_hash(content)
    except (ValueError, RecursionError):  # what is never written: 1e999, endless nesting
        return None


def _has_files(folder: Path) -> bool:
    return os.path.isdir(folder) and any(not name.startswith(".") for name in os.listdir(folder))
