"""`fathomlab export bundle`: one ZIP file with everything about an experiment except weights, to hand in or to archive."""

import re
import shlex
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, final

from fathomlab.export.files import check_targets, open_target
from fathomlab.plan import parent_hashes
from fathomlab.store.datasets import needed_files
from fathomlab.store.reading import LEFT_OUT
from fathomlab.store.trial_files import HASH

if TYPE_CHECKING:
    from fathomlab.analysis.study import Study
    from fathomlab.store.records import TrialRecord

SMALL_FILES = (".json", ".jsonl", ".bin")  # of a trial: options, result, provenance, logs, predictions
LARGE_FILES = (".safetensors", ".npz")  # weights, and images of users' datasets
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that ZIP has; the time of packing would make equal bundles differ
README = """\
{name}: {title}

{origin}report.html is the report.

The other folders are the records, without weights and images. Together they are a results directory of fathomlab:

    fathomlab list --runs {name}
    fathomlab report --runs {name}
    fathomlab store check --runs {name}
"""
ORIGIN = """\
{source} is the experiment file. It was run with

    {command}

"""


@final
@dataclass(frozen=True)
class Bundle:
    """Experiment file, report, and records in one ZIP file, by default EXPERIMENT.zip. Unpacked, it is a results directory.

    Equal results give equal bytes.

    Attributes:
        overwrite: Whether an existing file may be replaced.
    """

    overwrite: bool = False

    extra: ClassVar[str] = ""
    subject: ClassVar[Literal["experiment"]] = "experiment"

    def export(self, study: "Study", target: Path | None) -> tuple[Path, ...]:
        """Write the file; raises as `Exporter.export` does."""
        path = target or Path(f"{study.experiment.name}.zip")
        check_targets([path], self.overwrite)
        texts, folder = _texts(study), _folder(study)
        with open_target(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, data in chain(texts, _records(study)):
                archive.writestr(_entry(f"{folder}/{name}"), data, zipfile.ZIP_DEFLATED, 6)
        return (path,)


def _folder(study: "Study") -> str:
    """The one folder in the archive: the name of the experiment, without characters that another system refuses."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", study.experiment.name).strip(".") or "experiment"


def _entry(name: str) -> zipfile.ZipInfo:
    """A file in the archive, readable for everyone, with the same header on every system."""
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    return entry


def _texts(study: "Study") -> list[tuple[str, bytes]]:
    """The files for people."""
    from fathomlab.analysis.audit import audit
    from fathomlab.analysis.verdicts import judge
    from fathomlab.report.page import report_html

    record = study.experiment
    source = Path(record.source).name
    source = source if re.fullmatch(r"[A-Za-z0-9_. -]+\.ya?ml", source) else "experiment.yaml"
    command = shlex.join(["fathomlab", "run", source, *record.overrides, *(["--quick"] if record.quick else [])])
    origin = ORIGIN.format(source=source, command=command) if record.yaml else ""  # without a file: a mapping in Python
    readme = README.format(name=_folder(study), title=record.title or record.name, origin=origin)
    page = report_html(study, *((), ()) if study.problems else (judge(study), audit(study)))
    files = {source: record.yaml} if record.yaml else {}
    texts = {"README.txt": readme, **files, "report.html": page}
    return [(name, text.encode(errors="replace")) for name, text in texts.items()]


def _records(study: "Study") -> Iterator[tuple[str, bytes]]:
    """The record of the experiment, its trials with their parents, and what they share, with their paths in the store.

    The last file lists what is left out, so that `store check` can tell it from what is lost.
    """
    from fathomlab.store.reading import Store

    root = study.experiment.folder.parents[1]
    store, done, shared, left_out = Store(root), set[str](), set[Path](), set[Path]()
    yield from _read(root, [study.experiment.folder / "experiment.json"])
    records = {record.trial: record for _, _, record in study.trials}
    while pending := sorted(records.keys() - done):
        for trial in pending:
            record = records[trial]
            done.add(trial)
            files = (path for path in record.folder.glob("[!.]*") if path.suffix in SMALL_FILES)
            # result.json is written last: if it is read first, the files that it lists are complete
            yield from _read(root, sorted(files, key=lambda path: (path.name != "result.json", path.name)))
            left_out.update(record.folder / name for name in record.files)
            shared.update(_shared(root, record))
            parents = {parent for _, parent in parent_hashes(record.content) if HASH.fullmatch(parent)}
            records |= {parent: store.trial(parent) for parent in parents - records.keys()}
    yield from _read(root, sorted(path for path in shared if path.suffix != ".npz"))
    names = sorted(path.relative_to(root).as_posix() for path in left_out | shared if path.suffix in LARGE_FILES)
    yield LEFT_OUT, "".join(f"{name}\n" for name in names).encode()


def _shared(root: Path, record: "TrialRecord") -> Iterator[Path]:
    """Files outside of its directory that a trial refers to: test labels, a user's dataset, the patch, plugins."""
    yield from needed_files(root, record.content)
    if record.labels:
        yield record.labels.path(root)
    git = record.provenance.git
    if git and git.patch and HASH.fullmatch(git.patch):
        yield root / "patches" / f"{git.patch}.patch"
    for plugin in record.provenance.plugins:
        if HASH.fullmatch(plugin.sha256):
            yield from (root / "plugins" / plugin.sha256).rglob("*.py")


def _read(root: Path, paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """The files that exist, by their paths below the store. Links are left out, because they could lead out of it."""
    for path in paths:
        if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
            yield path.relative_to(root).as_posix(), path.read_bytes()
