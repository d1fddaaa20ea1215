"""Saves the source code that a run uses and that may be gone later: plugins, and changes of fathomlab."""

from pathlib import Path

from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write
from fathomlab.config.plugins import Plugin
from fathomlab.prepare import machine


def save_plugin(runs: Path, plugin: Plugin) -> None:
    """Save the source of a plugin, which a notebook may not contain any more, as `plugins/<sha256>/<name>`."""
    folder = runs / "plugins" / plugin.sha256
    for file, source in ((plugin.name, plugin.source), *((module.file, module.source) for module in plugin.modules)):
        path = folder / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_bytes() != source.encode():  # a damaged copy is replaced
                atomic_write(path, source)
        except OSError as error:
            raise UserError(
                "unwritable", f"{runs}: cannot write the plugin {file}: {error.strerror or error}."
            ) from None


def save_patch(runs: Path) -> None:
    """Store the difference from fathomlab's commit, once for all trials trained with it."""
    digest, folder = machine.commit().patch, runs / "patches"
    if digest and not (folder / f"{digest}.patch").exists():
        folder.mkdir(exist_ok=True)
        atomic_write(folder / f"{digest}.patch", machine.patch())
