"""A trial: one network to train, with its components and the trials that it builds on."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fathomlab.base.codec import from_plain, to_plain
from fathomlab.base.errors import Issue
from fathomlab.base.identity import canonical_json
from fathomlab.config.components import Components, with_plugins
from fathomlab.config.plugins import Plugin, plugin_of
from fathomlab.config.schema import Parent
from fathomlab.data.users import UserDataset
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.emulated import with_mistakes
from fathomlab.optim.schedules import Constant
from fathomlab.plan import sections
from fathomlab.plan.data import Data, read_data
from fathomlab.plan.emulation import acting, effective_targets
from fathomlab.plan.objectives import BUILT_IN, Teaching, teaching_of
from fathomlab.plan.recipe import Recipe

FORMAT = 3


@dataclass(frozen=True, repr=False)
class Trial:
    """One network to train. Trials with equal canonical JSON are equal.

    Attributes:
        canonical_json: Everything that decides the trial's numbers, with its parents by hash; its SHA-256 is the identity.
        recipe: How it is trained.
        data: Its dataset and how it is split.
        probes: What is measured.
        parents: The trials that it builds on, in order: teachers, then the one whose weights it starts from.
        plugins: The plugins that define its components, sorted by name.
    """

    canonical_json: str
    recipe: Recipe = field(compare=False, repr=False)
    data: Data = field(compare=False, repr=False)
    probes: tuple[sections.Measurement, ...] = field(compare=False, repr=False)
    parents: "tuple[tuple[Parent, Trial], ...]" = field(default=(), compare=False, repr=False)
    plugins: tuple[Plugin, ...] = field(default=(), compare=False, repr=False)

    def __repr__(self) -> str:
        """Start of the hash, and seed."""
        return f"<planned trial {self.hash[:12]} seed={self.seed}>"

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON: the trial's identity, directory, and cache key."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()

    @property
    def content(self) -> dict[str, Any]:
        """The options as plain data, nested, for the file in the store."""
        return json.loads(self.canonical_json)

    @property
    def seed(self) -> int:
        """Root of the trial's random streams."""
        return self.recipe.seed

    @property
    def teachers(self) -> "tuple[Trial, ...]":
        """The trials whose outputs it learns from."""
        return tuple(trial for kind, trial in self.parents if kind == "teacher")

    @property
    def ancestors(self) -> "tuple[Trial, ...]":
        """The trials that it builds on, directly and through others."""
        return tuple(member for _, parent in self.parents for member in (parent, *parent.ancestors))

    @property
    def start(self) -> "Trial | None":
        """The trial whose weights it starts from."""
        return next((trial for kind, trial in self.parents if kind == "start"), None)


@dataclass(frozen=True)
class Blueprint:
    """A condition without its seeds.

    Attributes:
        data: Dataset and split.
        network: The model.
        training: How it is trained.
        probes: What is measured.
        teaching: The loss and the targets if there are teachers, or None.
        parents: The conditions that it builds on.
        seed_offset: Added to each seed.
    """

    data: Data
    network: sections.Network
    training: sections.Training
    probes: tuple[sections.Measurement, ...]
    teaching: Teaching | None = None
    parents: "tuple[tuple[Parent, Blueprint], ...]" = ()
    seed_offset: int = 0

    @cached_property
    def content(self) -> dict[str, Any]:
        """The options as plain data, without the seed and the parents."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "data": self.data.plain,
            "model": self.network.plain,
            "training": self.training.plain,
            "probes": {probe.name: probe.plain for probe in self.probes},
        }
        if self.teaching is not None:
            content["distillation"] = self.teaching.plain
        if self.plugins:
            content["plugins"] = {plugin.name: plugin.sha256 for plugin in self.plugins}
        return content

    @cached_property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins that define its components, sorted by name; without those of its parents, which it names by hash."""
        training, distillation = self.training, self.teaching and self.teaching.loss
        parts = (
            *(self.network.component, training.chosen_loss, distillation, training.optimizer, training.schedule),
            *(probe.component for probe in self.probes),
        )
        used = {plugin for plugin in (*map(plugin_of, parts), self.data.plugin) if plugin}
        return tuple(sorted(used, key=lambda plugin: plugin.name))

    @cached_property
    def key(self) -> str:
        """Equal for conditions with the same trials."""
        parents = [[kind, parent.key] for kind, parent in self.parents]
        return canonical_json([self.content, self.seed_offset, parents])

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe of a trial with seed 0 and without parents."""
        training, data = self.training, self.data
        teaching, mistakes = self.teaching or Teaching(training.loss), training.emulate
        return Recipe(
            seed=0,
            architecture=self.network.architecture(data.info),
            loss=with_mistakes(teaching.loss, mistakes),
            optimizer=training.optimizer,
            schedule=Constant() if "unmatched_schedule" in mistakes else training.schedule,
            epochs=training.epochs,
            batch_size=data.batch_size,
            lr=training.lr,
            precision=training.precision,
            gradient_clip=training.gradient_clip,
            augment=data.augment,
            validation_split=data.validation_split,
            limit=data.limit,
            drop_last=data.drop_last,
            order_stream=data.order_stream,
            frozen=training.frozen,
            emulate=mistakes,
            label_loss=CrossEntropy() if self.teaching is None else training.loss,
            data=canonical_json(data.identity),
            targets=teaching.targets,
            placebo=teaching.placebo,
        )

    @cached_property
    def _json(self) -> tuple[str, str]:
        """The canonical JSON of a trial without parents in front of the seed and after it."""
        before, _, after = canonical_json({**self.content, "seed": "HERE"}).partition('"seed":"HERE"')
        return before, after

    def trial(self, seed: int) -> Trial:
        """The trial for a seed of the experiment, with the trials for this seed that it builds on."""
        return self.build(seed + self.seed_offset, tuple((kind, parent.trial(seed)) for kind, parent in self.parents))

    def build(self, seed: int, parents: tuple[tuple[Parent, Trial], ...]) -> Trial:
        """The trial with this root of the random streams and these parents."""
        rest = self.data, self.probes, parents, self.plugins
        if not parents:
            before, after = self._json
            return Trial(f'{before}"seed":{seed}{after}', replace(self.recipe, seed=seed), *rest)
        hashes: dict[str, Any] = {kind: trial.hash for kind, trial in parents}
        teachers = [trial for kind, trial in parents if kind == "teacher"]
        if teachers:
            hashes["teacher"] = [trial.hash for trial in teachers]
        text = canonical_json({**self.content, "seed": seed, "parents": hashes})
        networks = tuple(trial.recipe.architecture for trial in teachers)
        return Trial(text, replace(self.recipe, seed=seed, teachers=networks), *rest)


def read_trial(
    content: Mapping[str, Any],
    parents: Iterable[Trial] = (),
    components: Components = BUILT_IN,
    dataset: UserDataset | None = None,
) -> Trial:
    """The trial of plain data, as the store contains it.

    Args:
        content: As in `Trial.content`.
        parents: The trials that it builds on.
        components: With the plugins of the trial.
        dataset: The dataset of the trial, if it is a user's.

    Raises:
        ValueError: If it is not the content of a trial that this version can train, or if a parent is missing.
    """
    problems: list[Issue] = []
    seed, requested = content.get("seed"), content.get("probes", {})
    if isinstance(seed, bool) or not isinstance(seed, int) or not isinstance(requested, Mapping):
        raise ValueError("not the content of a trial")
    data = read_data(content.get("data"), "data", "mnist", problems, {}, components, dataset)
    probes = sections.measurements(requested, problems, components)
    network = sections.network(content.get("model"), "model", problems, {}, components)
    training = sections.training(content.get("training"), "training", problems, {}, components)
    section = content.get("distillation")
    teaching = None if section is None else teaching_of(section, "distillation", problems, components)
    if data is not None and network is not None and plugin_of(network.component) is None:  # others take time to trace
        problems += sections.mismatches(network, data.info, "model")
    if data is None or network is None or training is None or problems:
        raise ValueError("; ".join(map(str, problems)))
    teaching = teaching and teaching.canonical(data.augment)
    if training.emulate:
        training, _ = acting(training, teaching, network.architecture(data.info), data)
        teaching = teaching and effective_targets(training, teaching)
    blueprint = Blueprint(data, network, training, probes, teaching)
    by_hash = {trial.hash: trial for trial in parents}
    named: list[tuple[Parent, Trial]] = []
    for kind, name in parent_hashes(content):
        if name in by_hash:
            named.append((kind, by_hash[name]))
    trial = blueprint.build(seed, tuple(named))
    if trial.canonical_json != canonical_json(content) or bool(trial.teachers) != (teaching is not None):
        raise ValueError("not the content of a trial of this version")
    return trial


def parent_hashes(content: Mapping[str, Any]) -> tuple[tuple[Parent, str], ...]:
    """The hashes of the trials that a trial builds on, from its content; none if it has another layout."""
    parents = content.get("parents")
    if not isinstance(parents, Mapping):
        return ()
    teachers, start = parents.get("teacher", ()), parents.get("start")
    pairs: list[tuple[Parent, object]] = [("teacher", name) for name in teachers] if isinstance(teachers, list) else []
    return tuple((kind, name) for kind, name in [*pairs, ("start", start)] if isinstance(name, str))


def encode_trial(trial: Trial) -> dict[str, Any]:
    """A trial with its plugins and parents as plain data, for a worker."""
    component = trial.data.component
    return {
        "content": trial.content,
        "plugins": [to_plain(plugin) for plugin in trial.plugins],
        "dataset": to_plain(component) if isinstance(component, UserDataset) else None,
        "parents": [encode_trial(parent) for _, parent in trial.parents],
    }


def decode_trial(data: Mapping[str, Any]) -> Trial:
    """The inverse of `encode_trial`. Loads the plugins.

    Raises:
        ValueError: As `read_trial`.
        UserError: If the source of a plugin has another digest.
    """
    components = with_plugins(from_plain(Plugin, plugin) for plugin in data["plugins"])
    dataset = None if data["dataset"] is None else from_plain(UserDataset, data["dataset"])
    return read_trial(data["content"], [decode_trial(parent) for parent in data["parents"]], components, dataset)
