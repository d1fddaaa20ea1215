"""Trials of a report page as trials to train: verified, with their parents and packs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from fathomlab.analysis.recorded import RecordedTrial
from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import ConfigError, UserError
from fathomlab.base.identity import content_hash
from fathomlab.base.packing import signature
from fathomlab.base.table import Table
from fathomlab.config.components import Components, with_plugins
from fathomlab.config.limits import copy_mapping
from fathomlab.config.plugins import Plugin, read_plugin
from fathomlab.data import DATASETS, NAMED_DATASETS
from fathomlab.plan import Trial, parent_hashes, read_trial
from fathomlab.prepare import machine
from fathomlab.prepare.memory import training_bytes


class Lineage:
    """Builds the trials of a page, parents first. Only files that the user names are read, and no other plugin runs."""

    def __init__(self, recorded: Mapping[str, RecordedTrial], plugins: Sequence[Path], page: Path):
        """Take the trials of a page by hash, and the files of plugins that may run."""
        self.recorded, self.page = recorded, page
        self._plugins = [read_plugin(path) for path in plugins]
        self._components: dict[tuple[Plugin, ...], Components] = {}
        self._trials: dict[str, Trial] = {}

    def trial(self, name: str) -> Trial:
        """The trial with this hash.

        Raises:
            UserError: If the page does not have it, it was edited, needs a plugin that is not given, or is too large.
        """
        if name not in self._trials:
            self._trials[name] = self._build(name)
        return self._trials[name]

    def components(self, name: str) -> Components:
        """The components of the trial with this hash."""
        plugins = self._needed_plugins(name)
        if plugins not in self._components:
            components = with_plugins(plugins)
            files = set(NAMED_DATASETS) - set(DATASETS)  # a page must not make fathomlab read folders
            datasets = {key: value for key, value in components.datasets.items() if key not in files}
            self._components[plugins] = replace(components, datasets=Table(components.datasets.kind, datasets))
        return self._components[plugins]

    def packs(self, name: str, together: bool) -> list[tuple[Trial, ...]]:
        """The packs to train for a trial, those of its parents first.

        Args:
            name: Its hash.
            together: Train each trial in its pack, as on the page; otherwise alone.
        """
        packs: list[tuple[Trial, ...]] = []
        placed, complete = set[str](), set[str]()

        def add(name: str) -> None:
            if name in placed:
                return
            members = (self.pack(name) if together else ()) or (name,)
            placed.update(members)
            trials = tuple(map(self.trial, members))
            parents = [parent.hash for trial in trials for _, parent in trial.parents]
            for parent in parents:
                add(parent)
            if not complete.issuperset(parents):  # packs that wait for each other would never start
                raise edited(self.page, name, "its pack contains trials that build on each other")
            packs.append(trials)
            complete.update(members)

        add(name)
        return packs

    def pack(self, name: str) -> tuple[str, ...]:
        """The pack that the page names; empty if it is not known or does not fit into the memory.

        Raises:
            UserError: If its trials cannot have been one pack.
        """
        members = self.recorded[name].pack if name in self.recorded else ()
        trials = [self.trial(member) for member in members]
        if trials and (
            name not in members or len(set(members)) < len(members) or len({_pack_key(t) for t in trials}) > 1
        ):
            raise edited(self.page, name, "its pack does not consist of trials that can be packed")
        memory = sum(training_bytes(trial.recipe) for trial in trials)
        return members if memory <= machine.memory() else ()

    def _build(self, name: str) -> Trial:
        if name not in self.recorded:
            raise UserError(
                "no-parent", f"{self.page}: trial {name[:12]} builds on a trial that the page does not contain."
            )
        content = self.recorded[name].content
        self._check_options(name, content)
        data = content.get("data")
        if isinstance(data, Mapping) and "sha256" in data:
            text = f"trial {name[:12]} was trained on a user's dataset, which a page does not contain."
            raise UserError("data-needed", f"{text} Ask for a bundle: fathomlab export bundle EXPERIMENT.")
        components = self.components(name)
        try:
            trial = read_trial(content, [self.trial(parent) for _, parent in parent_hashes(content)], components)
        except RecursionError:
            raise edited(self.page, name, "nested too deeply") from None
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            text = f"{self.page}: this version of fathomlab cannot train trial {name[:12]}: {error}."
            raise UserError("outdated-record", f"{text} Use the version that wrote the page.") from None
        needed, available = training_bytes(trial.recipe), machine.memory()
        if needed > available:
            text = f"trial {name[:12]} needs about {needed / 1e9:.1f} GB of memory; {available / 1e9:.1f} GB are available."
            raise UserError("too-large", text)
        return trial

    def _check_options(self, name: str, content: JsonObject) -> None:
        """Check that a file may hold the options of a trial, and that they have its hash.

        Raises:
            UserError: If they do not.
        """
        try:
            copy_mapping(content, "content")
            intact = content_hash(content) == name
        except ConfigError as error:
            issue = error.problems[0]
            raise edited(self.page, name, f"{issue.path}: {issue.message}" if issue.path else issue.message) from None
        except ValueError:  # the only values that a mapping of the bounds above may hold and JSON may not
            raise edited(self.page, name, "its options contain a number that is not finite") from None
        except RecursionError:
            raise edited(self.page, name, "nested too deeply") from None
        if not intact:
            raise edited(self.page, name, "its options do not have this hash")

    def _needed_plugins(self, name: str) -> tuple[Plugin, ...]:
        """The plugins of a trial, from the files that the user names.

        Raises:
            UserError: If one is missing or has another digest.
        """
        given = {plugin.name: plugin for plugin in self._plugins}
        needed = self.recorded[name].content.get("plugins", {})
        if not isinstance(needed, Mapping):
            raise edited(self.page, name, "its plugins are not a mapping")
        result: list[Plugin] = []
        for file, digest in cast(Mapping[str, Any], needed).items():
            plugin = given.get(file)
            if plugin is None:
                others = f" The given files have other names: {', '.join(given)}." if given else ""
                text = f"trial {name[:12]} uses the plugin {file} (SHA-256 {digest}).{others}"
                raise UserError("plugin-needed", f"{text} Read the file, which will run, then name it: --plugin {file}")
            if plugin.sha256 != digest:
                text = f"{file}: its SHA-256 is {plugin.sha256}, but trial {name[:12]} was trained with {digest}."
                raise UserError("plugin-changed", f"{text} Use the file of that time.")
            result.append(plugin)
        return tuple(result)


def _pack_key(trial: Trial) -> object:
    """Equal for trials that can be one pack."""
    return signature(trial.recipe), trial.probes


def edited(page: Path, name: str, reason: str) -> UserError:
    """The error for a page whose parts contradict each other."""
    text = f"{page}: trial {name[:12]}: {reason}. The page was edited or is corrupted."
    return UserError("edited-page", f"{text} Ask for the original page.")
